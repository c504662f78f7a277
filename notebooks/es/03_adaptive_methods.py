# %% [markdown]
# # Métodos adaptativos
#
# El descenso de gradiente mueve todos los pesos con una misma tasa de aprendizaje. Los *métodos adaptativos* dan a cada
# peso la suya, tomada de los gradientes que ha visto. Seguimos la clase, casi siempre con funciones cuadráticas, y con
# una pequeña U-Net al principio y al final (`LONG=1`: más largo, con otros números).

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

from mrirecon.config import ModelConfig, SimulateConfig
from mrirecon.data import SliceDataset
from mrirecon.data.samples import collate
from mrirecon.training import ReconModule, build_model, make_optimizer
from mrirecon.training.footprint import optimizer_bytes
from mrirecon.workflows.simulate import simulate_dataset

LONG = bool(os.environ.get("LONG"))
plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 7}

# %% [markdown]
# ## Una sola tasa no sirve para todos los pesos
#
# Una U-Net antes de su primer paso: para cada convolución, la norma de su gradiente dividida por la norma de sus pesos.
# SGD con la tasa $\gamma$ cambia la capa en $\gamma$ veces ese cociente.


# %% tags=["A1"]
def network(norm="instance"):
    """A small U-Net with the package's loss, always with the same first weights."""
    torch.manual_seed(0)
    return ReconModule(build_model(ModelConfig(channels=8, pools=3, norm=norm)))


size = {"train": 24 if LONG else 3, "val": 1, "test": 0, "slices": 4, "matrix": [64, 64], "coils": 2}
DATA = simulate_dataset(SimulateConfig(tempfile.mkdtemp(), **size))
slices, held_out = (list(SliceDataset(DATA / s, "random", acceleration=4, needs=("image",))) for s in ("train", "val"))
ax = plt.figure(figsize=(7, 2.2)).add_subplot(xlabel="convolution, input to output", ylabel="|gradient| / |weights|")
for norm in ("none", "instance"):
    module = network(norm)
    module.sample_loss(collate(slices)).backward()
    weights = [w for name, w in module.named_parameters() if w.ndim == 4 and "transpose" not in name]
    ax.semilogy([float(w.grad.norm() / w.detach().norm()) for w in weights], "o-", label=f"norm: {norm}")
    ax.legend()

# %% [markdown]
# Las últimas capas actúan directamente sobre la salida y necesitan tasas menores, dice la clase. Es cierto que la
# última capa tiene un gradiente mayor que la primera. Pero los más pequeños están en medio, en el nivel más bajo: más
# de siete potencias de diez por debajo del mayor; con normalización, menos de dos (A1, aún sin estudio: hacen falta
# tasas de aprendizaje y cocientes de actualización por capa).
#
# ## RMSprop
#
# Dividimos cada gradiente $g_t = \nabla f(w_t)$ por su media cuadrática, llevada como media móvil exponencial:
# $v_{t+1} = \alpha v_t + (1-\alpha)\,g_t^2$ y $w_{t+1} = w_t - \gamma\,g_t/(\sqrt{v_{t+1}}+\epsilon)$. A mano, en el
# valle $f(w) = \frac12 (w_1^2 + 25\,w_2^2)$; `descend` ejecuta los métodos del paquete.


# %% tags=["A2"]
def descend(method, rate, gradient, w, steps, box=float("inf"), **options):
    """The path of a method: weights before the first step and after each one, held inside [-box, box]."""
    path, w = [w], torch.nn.Parameter(w.clone())
    optimizer = make_optimizer(method, [w], rate, **options)
    for t in range(steps):
        w.grad = gradient(w.detach(), t)
        optimizer.step()
        path.append(w.detach().clamp_(-box, box).clone())
    return torch.stack(path)


STEEP = torch.tensor([1.0, 25.0], dtype=torch.float64)
start = torch.tensor([1.0, -0.6], dtype=torch.float64)
w, v = start, 0
for _ in range(50):
    v = 0.99 * v + 0.01 * (STEEP * w) ** 2
    w = w - 0.02 * STEEP * w / (v.sqrt() + 1e-8)
packaged = descend("rmsprop", 0.02, lambda w, _: STEEP * w, start, 50)
print(f"by hand = package: difference {(w - packaged[-1]).abs().max():.0e}")
print(f"first gradient {(STEEP * start).numpy()}, first step {(packaged[1] - packaged[0]).numpy().round(6)}")

# %% [markdown]
# El primer paso tiene la misma longitud en ambas direcciones: del gradiente solo quedan los *signos*, multiplicados por
# $\gamma/\sqrt{1-\alpha}$. Así, SGD empieza cruzando el valle y RMSprop yendo hacia la solución, dice la clase.
# Veámoslo.

# %% tags=["A7"]
TURNED = torch.tensor([[13.0, -12.0], [-12.0, 13.0]], dtype=torch.float64)
circle = torch.view_as_real(torch.exp(1j * torch.arange(0.5, 360, dtype=torch.float64).deg2rad()))
fig, axes = plt.subplots(1, 2, figsize=(8, 3.8))
for ax, H, words in zip(axes, (STEEP.diag(), TURNED), ("on the axes", "turned"), strict=True):
    ax.plot(*(circle @ torch.linalg.cholesky(H).inverse()).T, color="0.8", label="equal loss")
    for method, rate in (("sgd", 0.03), ("rmsprop", 0.02), ("adam", 0.1)):
        path, steps = (descend(method, rate, lambda w, _, H=H: w @ H, w, 60) for w in (start, circle))
        ax.plot(*path.T, ".-", ms=3, lw=0.8, label=f"{method}, rate {rate}")
        cosine = torch.cosine_similarity(steps[1] - steps[0], -circle).mean()
        print(f"valley {words:11} {method:8} mean cosine of first step and solution, 360 starts: {cosine:.2f}")
    ax.set(title=f"valley {words}", xlabel="$w_1$", ylabel="$w_2$", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    ax.legend()

# %% [markdown]
# Sobre los ejes es así. En un valle girado 45 grados la ventaja se pierde: ambos pesos tienen la misma curvatura, y no
# hay nada que una tasa *por peso* pueda distinguir.
#
# ## Adam
#
# Adam es RMSprop con momento, en forma de media: $m_{t+1} = \beta m_t + (1-\beta)\,g_t$ ocupa el lugar del gradiente
# que se divide. La clase escribe ahí $m_t$, un desliz, como veremos. Ambas medias empiezan en cero, y por eso se
# dividen por $1-\beta^{t+1}$ y $1-\alpha^{t+1}$ (*corrección del sesgo*).


# %% tags=["A4"]
def adam_by_hand(rate, gradient, w, steps, stale=False, corrected=True):
    """Adam; `stale` takes m as printed, `corrected=False` leaves out bias correction."""
    m, v, path = torch.zeros_like(w), torch.zeros_like(w), [w]
    for t in range(steps):
        g, before = gradient(w, t), m
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_scale, v_scale = (1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)) if corrected else (1, 1)
        w = w - rate * (before if stale else m) / m_scale / ((v / v_scale).sqrt() + 1e-8)
        path.append(w)
    return torch.stack(path)


packaged = descend("adam", 0.1, lambda w, _: STEEP * w, start, 50)
for stale in (False, True):
    difference = (adam_by_hand(0.1, lambda w, _: STEEP * w, start, 50, stale) - packaged).abs().max()
    print(f"m as printed: {stale!s:5}, largest difference to the package's Adam {difference:.0e}")

# %% [markdown]
# La corrección del sesgo «no es necesaria, pero ayuda un poco»; sin ella el primer paso es diez veces menor, dice la
# clase. Eso vale solo para $m$. Pero dividimos por $\sqrt v$, que también empieza siendo demasiado pequeña, en un
# factor $\sqrt{1-\alpha} = 0.032$. Con un gradiente constante, el paso sin corregir es
# $\gamma\,(1-\beta^t)/\sqrt{1-\alpha^t}$.

# %% tags=["A5"]
t, zero = np.arange(1, 3001), torch.zeros(1, dtype=torch.float64)
path = adam_by_hand(1.0, lambda w, _: w * 0 + 1, zero, len(t), corrected=False)
length = -path.diff(dim=0)[:, 0].numpy()
ax = plt.figure(figsize=(6, 2)).add_subplot(xlabel="step, constant gradient", ylabel="length / rate")
ax.loglog(t, length, label="Adam without correction")
ax.loglog(t, (1 - 0.9**t) / np.sqrt(1 - 0.999**t), "k:", label="formula")
ax.loglog(t, 1 - 0.9**t, label="if only m were uncorrected")
ax.legend()
print(f"first step {length[0]:.2f} rates, longest {length.max():.2f} at step {length.argmax() + 1}")

# %% [markdown]
# Adam sin corrección empieza con pasos demasiado *largos*, y lo siguen siendo después de mil. No aparece el NaN del que
# advierte un cuaderno de la clase. Cuánto perjudica eso a las redes es una cuestión abierta (A5, aún sin estudio: hace
# falta un Adam sin corrección del sesgo).
#
# $\epsilon$, alrededor de $10^{-8}$, evita una división por cero y puede ser pequeño, dice la clase: donde $v$ es
# diminuta, también lo es lo que se divide por ella. Añadimos ruido a los gradientes del valle, hacemos 30 ejecuciones a
# la vez (los métodos tratan cada número por separado) y multiplicamos todos los gradientes por 1, $10^{-3}$ y
# $10^{-6}$, como si la pérdida tuviera otra unidad.

# %% tags=["A3"]
starts = circle[::12]
noise = torch.randn(200, 30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EPS = [10.0**k for k in range(-13, 0, 2)]
ax = plt.figure(figsize=(6, 2.2)).add_subplot(xlabel=r"$\epsilon$", ylabel="mean loss", ylim=(0.05, 20))
for c in (1.0, 1e-3, 1e-6):
    paths = [descend("adam", 0.1, lambda w, t, c=c: c * (STEEP * w + noise[t]), starts, 200, eps=e) for e in EPS]
    ax.loglog(EPS, [float((path**2 @ STEEP / 2).mean()) for path in paths], ".-", label=f"gradients x {c:g}")
    ax.legend()

# %% [markdown]
# Un $\epsilon$ pequeño es seguro; uno muy por encima de los gradientes, no (A3, aún sin estudio en redes: hacen falta
# métodos adaptativos con varios eps).
#
# ## ¿Qué método es el mejor?
#
# RMSprop rebota alrededor del mínimo como SGD; Adam no, y es preferible, dice la clase. Ejecutamos cada uno con muchas
# tasas y lo puntuamos dos veces: la pérdida media (*on the way*, por el camino) y la del último cuarto (*at the end*,
# al final). Además: ¿importa *centrar* $v$? ¿Puede mantenerse la tasa cuando cambia $\beta$, ya que el momento de Adam
# es una media y el de la bola pesada una suma?

# %% tags=["A2", "A6", "A7"]
METHODS = {
    "sgd": ("sgd", (1e-3, 0.08), {}),
    "momentum 0.5": ("momentum", (1e-4, 0.05), {"momentum": 0.5}),
    "momentum 0.9": ("momentum", (1e-4, 0.05), {}),
    "rmsprop": ("rmsprop", (1e-3, 1.0), {}),
    "rmsprop centred": ({"class_path": "torch.optim.RMSprop", "init_args": {"centered": True}}, (1e-3, 1.0), {}),
    "adam 0.5": ("adam", (1e-3, 1.0), {"betas": (0.5, 0.999)}),
    "adam 0.9": ("adam", (1e-3, 1.0), {}),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for name, (method, ends, options) in METHODS.items():
    rates = np.geomspace(*ends, 61 if LONG else 16)
    paths = [descend(method, rate, lambda w, t: STEEP * w + noise[t], starts, 200, **options) for rate in rates]
    curves = np.array([(path**2 @ STEEP / 2).mean(1).numpy() for path in paths])
    scores = {"on the way": curves.mean(1), "at the end": curves[:, -50:].mean(1)}
    for ax, (words, score) in zip(axes, scores.items(), strict=True):
        ax.loglog(rates, score, "--" if "5" in name or "centred" in name else ".-", label=name)
        ax.set(title=words, xlabel="learning rate", ylabel="loss", ylim=(4e-3, 3))
        rate, way, end = (values[score.argmin()] for values in (rates, *scores.values()))
        print(f"{name:15} best {words} at {rate:.4f}: loss on the way {way:.3f}, at the end {end:.4f}")
    axes[0].legend(loc="lower left")

# %% [markdown]
# Ajustado para el camino, RMSprop rebota como SGD (.023 y .024 al final) y Adam *más* (.056): necesita una tasa alta
# para llegar. Ajustados para el final, Adam y RMSprop comparten el primer puesto (.005) y SGD es el último (.009). La
# clasificación lo es tanto de los ajustes como de los métodos; con una misma tasa alta, Adam sí rebota menos que
# RMSprop (ramas derechas). La mejor tasa de la bola pesada cae más o menos a la quinta parte de $\beta = 0.5$ a $0.9$,
# como $1-\beta$; la de Adam apenas cambia. Centrar no cambia casi nada. En redes: `configs/ablation/bounce.yaml` (A7) y
# `configs/ablation/momentum.yaml` (A6).
#
# ## Dónde falla Adam
#
# Reddi, Kale y Kumar (2018) encontraron un problema con un solo peso $x \in [-1, 1]$: el gradiente es $C$ en uno de
# cada $n$ pasos y $-1$ en los demás, con $C > n - 1$. Su media es positiva, así que lo mejor es $x = -1$. AMSGrad
# divide por la mayor $v$ hasta el momento. A la izquierda, su caso sin momento; en el centro, con memoria larga; a la
# derecha, con momento.

# %% tags=["A8"]
CASES = (3, 3, (0.0, 0.1), 300), (3, 3, (0.0, 0.999), 300), (110, 101, (0.9, 0.99), 4000)
fig, axes = plt.subplots(1, 3, figsize=(9, 2.3), sharey=True)
for ax, (C, n, betas, steps) in zip(axes, CASES, strict=True):
    ax.set(title=rf"C = {C}, n = {n}, ($\beta$, $\alpha$) = {betas}", xlabel="step", ylabel="x")
    for method in ("adam", "amsgrad"):
        path = descend(method, 0.04, lambda w, t, C=C, n=n: w * 0 + (-1 if t % n else C), zero, steps, 1, betas=betas)
        ax.plot(path, lw=0.9, label=method)
        ax.legend()

# %% [markdown]
# Adam termina en el *peor* punto: el gradiente grande e infrecuente se divide por su propio tamaño, y se olvida cuando
# llegan los pequeños. Ayuda una memoria más larga que $n$ pasos (centro); AMSGrad no olvida nunca. Si Adam generaliza
# peor que SGD en imágenes solo se ve tras entrenamientos largos (A9: `configs/ablation/mission.yaml`).
#
# SGD con momento o Adam: *probar ambos* es el consejo del final. Adam guarda tres búferes y SGD dos, dice la clase, que
# cuenta también los pesos y habla de SGD con momento. (*late*: las tres últimas validaciones)

# %% tags=["A10", "A11"]
ax = plt.figure(figsize=(8, 2.8)).add_subplot(xlabel="step", ylabel="validation loss (L1)")
for method, rate in (("momentum", 0.01), ("momentum", 0.1), ("rmsprop", 0.01), ("adam", 0.03), ("adam", 0.3)):
    module, validated = network(), []
    optimizer = make_optimizer(method, module, rate)
    for step in range(400 if LONG else 40):
        optimizer.zero_grad()
        module.sample_loss(collate([slices[(2 * step + i) % len(slices)] for i in (0, 5)])).backward()
        optimizer.step()
        if step % 4 == 3:
            validated.append(float(module.sample_loss(collate(held_out)).detach()))
    ax.plot(np.arange(4, step + 2, 4), validated, ".-", label=f"{method}, rate {rate:g}")
    ax.legend()
    buffers = 1 + optimizer_bytes(optimizer) / sum(p.nbytes for p in module.parameters())
    mean, late = np.mean(validated), np.mean(validated[-3:])
    print(f"{method:8} {rate:4}: {buffers:.0f} buffers; validation loss: mean {mean:.3f}, late {late:.3f}")

# %% [markdown]
# Tras 40 pasos hay otra vez dos clasificaciones: en la media, RMSprop tiene la pérdida más baja; al final, el momento y
# Adam con sus tasas menores. Tras 400, RMSprop la tiene en ambas. Pero es una sola semilla y una sola cabeza; para
# *decidir* hacen falta tasas ajustadas, semillas e intervalos (`configs/ablation/mission.yaml`). Si compensa usar SGD
# después de Adam, y si las redes grandes acaban igual: A11, aún sin estudio (varias anchuras, un cambio de método).
