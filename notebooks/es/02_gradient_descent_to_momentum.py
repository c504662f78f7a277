# %% [markdown]
# # Del descenso de gradiente al momento
# Las redes aprenden a pasos pequeños en contra de un gradiente: el de todos los datos, el de unas pocas muestras y, por
# último, con memoria. Seguimos la clase en problemas cuya solución se conoce, con los optimizadores de
# `mrirecon train`. `LONG=1` entrena la U-Net durante más tiempo.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import minimize

from mrirecon import config, progress
from mrirecon.models import NORMS, make_norm
from mrirecon.training import OPTIMIZERS, make_optimizer, make_schedule
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 8}


def descend(name, start, gradient, lr, steps, schedule="constant", **options):
    """Follow the optimizer `name`; return all weights on the way, the start first."""
    w = torch.nn.Parameter(start.clone())
    optimizer = make_optimizer(name, [w], lr, **options)
    rates = make_schedule(optimizer, config.ScheduleConfig(name=schedule), steps)
    path = [start]
    for _ in range(steps):
        w.grad = gradient(w.detach())
        optimizer.step()
        rates.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def draw(paths):
    """Draw paths on the contours of the bowl w A w / 2, side by side."""
    points = np.stack(np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80)))
    bowl = 0.5 * np.einsum("iyx,ij,jyx->yx", points, A.numpy(), points)
    _, axes = plt.subplots(1, len(paths), figsize=(2.4 * len(paths), 2.9), sharey=True)
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        ax.contour(*points, bowl, levels=np.geomspace(0.1, 60, 9), colors="0.8", linewidths=0.8)
        ax.plot(*path.T, ".-", ms=4, lw=0.8)
        ax.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xlabel="$w_1$", ylabel="$w_2$")


# %% [markdown]
# ## Descenso de gradiente en un cuenco
# $w' = w - \gamma\,\nabla f(w)$, con la *tasa de aprendizaje* $\gamma$. Para $f(w) = \frac12 w^\top A w$, un paso
# multiplica por $1 - \gamma\lambda$ el error a lo largo de un vector propio de $A$. Con valores propios entre $\mu$ y
# $L$ se contrae al menos por $\max(|1 - \gamma\mu|, |1 - \gamma L|)$, y si $\gamma > 2/L$, crece. Aquí $\mu = 1$ y
# $L = 10$.

# %% tags=["G1"]
mu, L, (axis, start) = 1.0, 10.0, torch.tensor([[0.6, 0.8], [-2.5, -1.0]], dtype=torch.float64)
A = L * torch.eye(2, dtype=torch.float64) - (L - mu) * torch.outer(axis, axis)  # mu along the axis, L across
paths = {}
for lr in (0.5 / L, 1 / L, 2 / (L + mu), 2.05 / L):
    path = descend("gd", start, lambda w: A @ w, lr, 60)
    factor, theory = path[-1].norm() / path[-2].norm(), max(abs(1 - lr * mu), abs(1 - lr * L))
    paths[f"$\\gamma$ = {lr * L:.2f}/L: factor {factor:.4f}\ntheory {theory:.4f}"] = path
draw(paths)

# %% [markdown]
# El factor del último paso es el de la teoría. La mejor tasa, $2/(\mu + L)$, está algo por debajo de las que divergen.
# ## De muestra en muestra
# Una función de pérdida de entrenamiento es una media, $f = \frac1N\sum f_i$. El descenso de gradiente *estocástico*
# (SGD) toma el gradiente de una $f_i$ al azar, que es correcto en promedio: $E\,\nabla f_i = \nabla f$. ¿Es la pérdida
# de una red una media así? Comparamos la media de los gradientes de seis imágenes con el gradiente de su lote, para
# cada normalización del paquete.

# %% tags=["G3"]
torch.manual_seed(0)
images = torch.randn(6, 1, 12, 12, dtype=torch.float64)
for norm in NORMS:
    layers = torch.nn.Conv2d(1, 4, 3), make_norm(norm, 4), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 3)
    network = torch.nn.Sequential(*layers).double()
    losses = [(network(part) - 1).square().mean() for part in (images, *images.split(1))]
    batch, *singles = (torch.autograd.grad(loss, network[0].weight)[0] for loss in losses)
    print(f"{norm:9} mean gradient - gradient of the batch: {(sum(singles) / 6 - batch).norm() / batch.norm():.0e}")

# %% [markdown]
# Con la normalización por lotes cada salida depende de las demás imágenes: en este sentido, sus pasos no son SGD. Los
# de todas las demás sí lo son.
# ## Por qué bastan unas pocas muestras
# De aquí en adelante: una regresión, 512 muestras, 10 pesos, $L/\mu \approx 100$, 32 ejecuciones en paralelo. Los datos
# son *redundantes*: lejos del mínimo, unas pocas muestras apuntan hacia donde apuntan todas. El gradiente de un
# *minilote* de $B$ muestras tiene la $B$-ésima parte de la varianza.

# %% tags=["G4", "G6"]
N, origin, generator = 512, torch.zeros(32, 10, dtype=torch.float64), torch.Generator().manual_seed(0)
X, w_true, noise = (torch.randn(n, generator=generator, dtype=torch.float64) for n in ((N, 10), (10,), (N,)))
X, y = X * torch.logspace(0, -1, 10, dtype=torch.float64), X @ w_true + 0.5 * noise
H, best = X.T @ X / N, torch.linalg.lstsq(X, y[:, None]).solution[:, 0]


def excess(w):
    """Return how far the loss is above its minimum."""
    return 0.5 * torch.einsum("...i,ij,...j", w - best, H, w - best)


def gradient_of(batch):
    """Return the gradient of `batch` random samples, others for each row of w; N: of all samples."""
    draws = torch.Generator().manual_seed(1)

    def gradient(w):
        i = torch.randint(N, (len(w), batch), generator=draws)
        return torch.einsum("rbi,rb->ri", X[i], torch.einsum("rbi,ri->rb", X[i], w) - y[i]) / batch

    return gradient if batch < N else lambda w: (w - best) @ H


_, ax = plt.subplots(figsize=(4.5, 2.4))
for batch, lr in ((1, 0.1), (8, 0.3), (64, 0.6), (N, 1.0)):
    path = descend("sgd", origin, gradient_of(batch), lr, 5 * N // batch)
    ax.semilogy(np.arange(len(path)) * batch / N, excess(path).mean(1), label=f"B = {batch}")
    for where, w in (("start", origin[0]), ("minimum", best + 0.1)):
        full, some = gradient_of(N)(w), gradient_of(batch)(w.expand(4000, 10))
        cosine, variance = torch.cosine_similarity(some, full).mean(), (some - full).square().sum(1).mean()
        print(f"B = {batch:3}, near the {where:7}: cosine {cosine:.2f}, variance x B = {variance * batch:5.2f}")
ax.set(xlabel="passes over the data", ylabel="excess loss")
_ = ax.legend()

# %% [markdown]
# Ocho muestras apuntan hacia donde apuntan las 512 con un coseno de 0.61 al principio y de 0.35 cerca del mínimo. A
# igual número de pasadas sobre los datos, los lotes pequeños van muy por delante; al final los frena su ruido
# ($B = 1$).
#
# El ruido también puede ser útil: los gradientes completos llevan al mínimo más cercano, el ruido puede cruzar una
# barrera y el *recocido* (annealing), una tasa que baja hasta cero, deja que el peso se asiente.
# $w^4/4 - w^2/2 - 0.15 w$ es más baja a la derecha; 500 ejecuciones empiezan a la izquierda.

# %% tags=["G5"]
slopes, left = torch.randn(64, generator=generator, dtype=torch.float64) * 3, torch.full((500,), -0.9).double()
for batch in (1, 4, 16, 64):
    draws = torch.randint(64, (300, 500, batch), generator=generator)
    noise = iter((slopes - slopes.mean())[draws].mean(2) * (batch < 64))  # 64: all of them, no noise
    ends = descend("sgd", left, lambda w, noise=noise: w**3 - w - 0.15 + next(noise), 0.1, 300, "cosine")[-1]
    print(f"B = {batch:2}: {float((ends > 0).double().mean()):.0%} of the runs end in the lower minimum")

# %% [markdown]
# Puede, en una función hecha para ello; con eso no queda demostrado que las redes salgan ganando.
# ## El momento, en tres formas
# El momento (*momentum*), $p' = \beta p + \nabla f_i(w)$, $w' = w - \gamma p'$, recuerda los gradientes pasados. Otras
# dos formas son la *bola pesada*, $w' = w - \gamma\nabla f_i(w) + \beta (w - w_\mathrm{prev})$, y una media:
# $z' = z - \eta\nabla f_i(x)$ y $x' = \beta x + (1-\beta) z'$ con $\eta = \gamma/(1-\beta)$. Las comparamos con el
# paquete, también con una tasa que baja linealmente. Debajo, trayectorias para $\beta$ creciente con $\gamma = 0.3/L$.

# %% tags=["G8", "G9", "G10", "G11"]
beta, rate = 0.9, 0.05
for schedule, rates in (("constant", np.full(50, rate)), ("linear", rate * (1 - np.arange(50) / 50))):
    w = ball = ball_before = scaled = scaled_before = x = z = start
    p, errors, betas = 0, [], beta * rates / np.roll(rates, 1)
    package = descend("momentum", start, lambda w: A @ w, rate, 50, schedule, momentum=beta)
    for now, beta_k, expected in zip(rates, betas, package[1:], strict=True):
        p = beta * p + A @ w
        w = w - now * p
        ball, ball_before = ball - now * (A @ ball) + beta * (ball - ball_before), ball
        scaled, scaled_before = scaled - now * (A @ scaled) + beta_k * (scaled - scaled_before), scaled
        z = z - now / (1 - beta) * (A @ x)
        x = beta * x + (1 - beta) * z
        errors.append([float((form - expected).norm()) for form in (w, ball, scaled, x)])
    print(f"{schedule:8} rate, errors:", *(f"{error:.0e}" for error in np.max(errors, 0)))
betas = (0, 0.5, 0.9, 0.99, 1.01)
draw({f"$\\beta$ = {b}": descend("momentum", start, lambda w: A @ w, 0.3 / L, 100, momentum=b) for b in betas})

# %% [markdown]
# Con una tasa constante todas coinciden. Cuando baja, la bola (2.ª) y la media (4.ª) son otro método; la bola necesita
# entonces $\beta_k = \beta\gamma_k/\gamma_{k-1}$ (3.ª). Cuanto mayor es $\beta$, más tarde giran las trayectorias; por
# encima de 1 se disparan.
# ## ¿Qué tasa, y para qué sirve el momento?
# Las tasas se prueban en una escala logarítmica, aquí con tres tamaños de lote. Se dibuja la pérdida tras 200 pasos, si
# está por debajo de la inicial.

# %% tags=["G2", "G6", "G12", "G14"]
grid, (_, axes) = np.logspace(-3, 1, 17), plt.subplots(1, 3, figsize=(10, 2.6), sharey=True)
for ax, batch in zip(axes, (1, 8, N), strict=True):
    for beta in (0, 0.9, 0.99):
        ends = [descend("momentum", origin, gradient_of(batch), lr, 200, momentum=beta)[-1] for lr in grid]
        losses = np.array([excess(w).mean() for w in ends])
        fine = losses < float(excess(origin[0]))
        i, fails = np.nanargmin(losses), grid[~fine][0]
        ax.loglog(grid, np.where(fine, losses, np.nan), ".-", label=f"$\\beta$ = {beta}")
        words = f"best {losses[i]:.1e} at {grid[i]:.3f}, fails from {fails:.2f} on, {fails / grid[i]:.1f}x"
        print(f"B = {batch:3}, beta = {beta:4}: {words}")
    ax.set(title=f"B = {batch}", xlabel="rate", ylabel="excess loss")
_ = axes[0].legend()

# %% [markdown]
# *La mejor tasa está un poco por debajo de la que falla*: de 1.8 a 3.2 veces sin momento, hasta 32 veces con él. *Los
# lotes más grandes admiten tasas mayores*: así es. *De $\beta$ 0.9 a 0.99 la tasa baja a una décima parte*: a 1/10 y
# 1/18 con ruido; a un tercio sin él, donde 0.99 no falla antes. *El momento sobre todo suaviza el ruido y ayuda con
# cualquier tamaño de lote*: gana 1.2 y 1.3 veces con ruido y más de 10 000 veces sin él; aquí es una aceleración, que
# el ruido deshace.
# ## Nesterov, y un método para gradientes completos
# La forma de *Nesterov* es $w' = w - \gamma(\nabla f + \beta p')$. En un cuenco con $\kappa = L/\mu$ cada paso suyo
# multiplica el error aproximadamente por $1 - 1/\sqrt\kappa$, y el del descenso de gradiente por $1 - 1/\kappa$. Con
# gradientes completos la clase no elige ninguno de los dos, sino L-BFGS, que aprende la curvatura.

# %% tags=["G7", "G13"]
(low, *_, top), full = torch.linalg.eigvalsh(H).tolist(), gradient_of(N)
q = (low / top) ** 0.5
for name, theory, options in (("gd", 1 - q**2, {}), ("nesterov", 1 - q, {"momentum": (1 - q) / (1 + q)})):
    loss = excess(descend(name, origin[0], full, 1 / top, 1000, **options))
    factor, n = float(loss[200] / loss[100]) ** (1 / 200), int((loss > 1e-6).sum())
    print(f"{name:8}: error x {factor:.3f} per step, theory about {theory:.3f}; {n} gradients to 1e-6")
value, slope = (lambda w: float(excess(torch.tensor(w)))), (lambda w: full(torch.tensor(w)).numpy())
found = minimize(value, np.zeros(10), jac=slope, method="L-BFGS-B")
print(f"L-BFGS  : {found.njev} gradients to {found.fun:.0e}")

# %% [markdown]
# Aquí se cumple. El entrenamiento de redes solo usa minilotes, y en la tabla del paquete no está L-BFGS.
# ## En el fondo: rebotes, medias, recocido
# El ruido hace que SGD rebote alrededor del mínimo, menos con tasas más bajas. El reposo llega con una tasa que baja o
# con una media de los pesos, que la teoría de la clase le pide a SGD y no al momento. Empezamos en el mínimo; después
# en cero, con las mejores tasas de antes.

# %% tags=["G14", "G15", "G16"]
for name, lr in (("sgd", 0.4), ("momentum", 0.04), ("sgd", 0.1), ("momentum", 0.01)):
    path = descend(name, best.expand(32, 10), gradient_of(8), lr, 400)
    print(f"{name:8} at {lr:4}, from the minimum: {excess(path[200:]).mean():.4f} above it on average")
for name, lr in (("sgd", 0.56), ("momentum", 0.1)):
    path = descend(name, origin, gradient_of(8), lr, 400)
    ends = {"last": path[-1], "mean of all": path.mean(0), "mean of the second half": path[200:].mean(0)}
    ends["rate falling as a cosine"] = descend(name, origin, gradient_of(8), lr, 400, "cosine")[-1]
    print(f"{name:8} at {lr:4}:", ", ".join(f"{word} {float(excess(w).mean()):.4f}" for word, w in ends.items()))

# %% [markdown]
# Con una tasa cuatro veces mayor los rebotes son de 4.5 a 4.9 veces más altos, y con momento apenas menores que con SGD
# a igual $\gamma/(1-\beta)$. Desde cero, la media de todos los pesos es mala; la de la segunda mitad es 3 veces mejor
# que los últimos pesos con SGD y 27 veces con momento, que aquí sí gana con una media, y 9 veces con la tasa que baja.
# A SGD esta no le ayuda: aún no ha llegado al fondo cuando la tasa se agota.
# ## Lo mismo en una U-Net
# Tres de los métodos entrenan una U-Net pequeña con cabezas simuladas, cada uno con la tasa que el paquete recomienda.

# %% tags=["G13", "G16"]
progress.quiet, work = True, tempfile.mkdtemp(prefix="momentum-")
heads = config.SimulateConfig(f"{work}/data", train=5, val=1, test=0, slices=4, matrix=[64, 64], coils=4)
files, model = config.DataConfig(str(simulate_dataset(heads))), config.ModelConfig(channels=8, pools=2, residual=False)
often = {"max_steps": 400 if os.environ.get("LONG") else 80, "val_every": 10, "batch_size": 2, "precision": "fp32"}
_, axes = plt.subplots(1, 2, figsize=(9, 2.4))
for name in ("sgd", "momentum", "nesterov"):
    method, constant = config.OptimizerConfig(name), config.ScheduleConfig("constant")
    run = train(config.TrainConfig(files, model, method, constant, **often, output=f"{work}/{name}"))
    curves = np.genfromtxt(run.curves, delimiter=",", names=True)
    for ax, key in zip(axes, ("train_loss", "val_ssim_object"), strict=True):
        known = curves[~np.isnan(curves[key])]
        ax.plot(known["step"], known[key], ".-", label=f"{name}, rate {OPTIMIZERS[name].lr}")
        ax.set(xlabel="step", ylabel=key)
_ = axes[0].legend()

# %% [markdown]
# Tras 80 pasos Nesterov va por delante y SGD está a la par del momento; tras 400 (`LONG=1`) la pérdida de SGD es la más
# alta y las puntuaciones son parecidas. Una sola semilla, con tasas sin ajustar, no decide nada.
# `mrirecon ablate run NAME` ajusta las tasas y empareja las semillas: `mission` para G2 (la mejor tasa y la que falla)
# y G16 (con o sin momento), `bounce` (los rebotes de SGD), `momentum` para G12, `optimizer_x_norm` para G13. Aún sin
# estudio: G4 necesita el ángulo entre los gradientes de `gd` y `sgd`; G5, lotes de hasta todo el conjunto; G6,
# varianzas de los gradientes; G7, un optimizador L-BFGS; G14, `sgd` y `momentum` con varios tamaños de lote; G15, ambos
# con `average: swa`.
