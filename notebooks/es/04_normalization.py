# %% [markdown]
# # Capas de normalización
# Una capa de normalización resta una media y divide por una desviación estándar, en algún lugar entre dos
# convoluciones. Parte de lo que la clase dice de ella son identidades, que se cumplen salvo redondeo; del resto decimos
# qué lo decide. Todo tarda cerca de medio minuto; `LONG=1 jupyter lab` entrena diez veces más.

# %%
import os
import tempfile
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mrirecon import progress
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, SimulateConfig, TrainConfig
from mrirecon.data import SliceDataset, normalize
from mrirecon.data.samples import collate
from mrirecon.evaluation import ssim
from mrirecon.models import NORMS, UNet, make_norm
from mrirecon.models.groups import count_groups, level_widths
from mrirecon.reconstruct.network import set_bn_stats
from mrirecon.training import load_reconstructor, make_optimizer
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

LONG = bool(os.environ.get("LONG"))
WORK = tempfile.mkdtemp(prefix="norms-")
progress.quiet = True
difference = partial(torch.dist, p=torch.inf)  # the largest one
plt.rcParams |= {"figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True, "legend.fontsize": 8}

# %% [markdown]
# ## Qué hace una capa
# A partir de valores $x$ con media $\mu$ y desviación estándar $\sigma$ calcula $y = \frac{a}{\sigma}(x - \mu) + b$.
# Con $a = 1$, $b = 0$ el resultado tiene media 0 y desviación estándar 1, entre lo que entre. Cuando $a$ y $b$ se
# aprenden, un par por canal, son ellos los que fijan la media y la desviación de lo que sale, y los pesos anteriores a
# la capa no influyen en ello.

# %% tags=["N3"]
torch.manual_seed(0)
features = 5 + 3 * torch.randn(4, 6, 16, 16)  # images, channels, height, width
for name in ("batch", "layer", "instance", "group"):
    layer = make_norm(name, 6, affine=True)  # begins with a = 1, b = 0
    plain, layer.weight.data, layer.bias.data = layer(features), torch.full((6,), 0.5), torch.full((6,), 2.0)
    words = (f"mean {y.mean().abs():.2f}, sd {y.std():.2f}" for y in (features, plain, layer(features)))
    print("{:9} before: {}   a = 1, b = 0: {}   a = 0.5, b = 2: {}".format(name, *words))

# %% [markdown]
# ## Qué valores comparten una media
# Durante el entrenamiento, las cuatro capas no difieren en nada más. Dos valores comparten estadísticas exactamente
# cuando la salida de uno tiene gradiente respecto del otro, así que preguntamos a autograd: ¿de qué depende el valor de
# la esquina frontal superior derecha?

# %% tags=["N4"]
values = torch.randn(3, 4, 1, 5, requires_grad=True)  # 3 images, 4 channels, 5 pixels
fig, axes = plt.subplots(1, 4, figsize=(11, 2.9), subplot_kw={"projection": "3d"})
for ax, name in zip(axes, ["batch", "layer", "instance", "group"], strict=True):
    layer = make_norm(name, 4, channels_per_group=2 if name == "group" else None)
    (gradient,) = torch.autograd.grad(layer(values)[0, -1, 0, -1], values)
    shared = (gradient[:, :, 0] != 0).permute(1, 0, 2).numpy()
    ax.voxels(np.ones_like(shared), facecolors=np.where(shared, "tab:orange", "whitesmoke"), edgecolor="grey", lw=0.4)
    ax.set(title=f"{name}: {shared.sum()} of {shared.size} values", xlabel="channels", ylabel="images", zlabel="pixels")
    ax.set(xticks=[], yticks=[], zticks=[], box_aspect=(4, 3, 5))
    ax.zaxis.labelpad = -12
plt.show()

# %% [markdown]
# La normalización *por lotes* (batch) toma un canal de todas las imágenes; la *de capa* (layer), todos los canales de
# una imagen; la *de instancia* (instance), un canal de una imagen. La normalización *por grupos* (group), aquí de dos
# canales, contiene a las dos últimas: con todos los canales en un grupo es la de capa; con un canal por grupo, la de
# instancia. Y la normalización por lotes de una sola imagen **es** la de instancia mientras se entrena.

# %% tags=["N4"]
instance, layer, batch = (make_norm(name, 6) for name in ("instance", "layer", "batch"))
one_each, all_six = (make_norm("group", 6, channels_per_group=n) for n in (1, 6))
pairs = {
    "group, 1 channel per group - instance": (one_each(features), instance(features)),
    "group, all channels - layer": (all_six(features), layer(features)),
    "batch, 1 image - instance": (batch(features[:1]), instance(features[:1])),
    "batch, 4 images - instance": (batch(features), instance(features)),
}
print(*(f"{name:38} {difference(*pair):.1e}" for name, pair in pairs.items()), sep="\n")

# %% [markdown]
# ## ¿Cambia lo que una red puede expresar?
# La clase dice que no. Para la normalización por lotes después del entrenamiento es así: media y desviación ya son
# constantes, y la capa se integra en la convolución anterior, con pesos $W / \sigma$ y sesgo $-\mu / \sigma$. Las otras
# miden cada imagen y así olvidan su escala: con la imagen multiplicada por dos dan el mismo resultado, lo que ninguna
# convolución hace.

# %% tags=["N2"]
conv, norm = nn.Conv2d(6, 8, 3, bias=False), make_norm("batch", 8)
norm(conv(features))  # one step of training, so that there are running statistics
sigma = (norm.eval().running_var + norm.eps).sqrt()
folded = F.conv2d(features, conv.weight / sigma[:, None, None, None], -norm.running_mean / sigma)
print(f"convolution and batch norm afterwards - folded: {difference(norm(conv(features)), folded):.1e}")
print(f"instance norm of 2 x - instance norm of x: {difference(instance(2 * features), instance(features)):.1e}")

# %% [markdown]
# ## Dónde se coloca
# Antes de la convolución, entre ella y la activación (lo habitual) o después de ambas. La clase espera poca diferencia.

# %% tags=["N1"]
for position in ("before", "between", "after"):
    block = UNet(channels=8, pools=2, norm="group", norm_position=position).down_sample_layers[0]
    y = block(torch.randn(4, 1, 32, 32))
    kinds = " > ".join(type(layer).__name__ for layer in block.layers[:3])
    print(f"{position:8} {kinds:33} hands on: mean {y.mean().abs():.2f}, sd {y.std():.2f}")

# %% [markdown]
# Solo `after` entrega valores estandarizados. Si eso se nota en las imágenes es cuestión de milésimas de SSIM,
# demasiado fino para medio minuto: lo decide `configs/ablation/norm_position.yaml`.
# ## Los dos significados de «tamaño de grupo 32»
# La clase recomienda grupos de tamaño 32, «casi siempre», y se refiere a 32 *canales por grupo*. El primer argumento de
# `torch.nn.GroupNorm` es el *número de grupos*. En una U-Net de 32 a 512 canales son redes distintas: en el primer
# nivel la primera es normalización de capa y la segunda, de instancia. Qué tamaño es mejor:
# `configs/ablation/group_size.yaml`.

# %% tags=["N5"]
for width in level_widths(channels=32, pools=4):
    n, m = count_groups(width, channels_per_group=32), count_groups(width, n_groups=32)
    print(f"{width:3} channels: 32 per group are {n:2} groups of 32;   32 groups are 32 groups of {width // m:2}")

# %% [markdown]
# ## Pasos más grandes, menos cuidado
# Una red con normalización, se afirma, soporta tasas de aprendizaje mayores y depende menos de sus pesos iniciales.
# Simulamos cabezas pequeñas y entrenamos una U-Net pequeña con imágenes rellenadas con ceros, con momento y cuatro
# cortes por paso.

# %% tags=["N7"]
DATA = simulate_dataset(SimulateConfig(f"{WORK}/data", train=6, val=1, test=2, slices=4, matrix=[64, 64], coils=2))
slices = SliceDataset(DATA / "train", "random", acceleration=4, needs=("image",))
sample = collate([slices[i] for i in range(len(slices))])
filled, target = (normalize(of, sample.mean, sample.std)[:, None] for of in (sample.image, sample.target))


def fit(norm, lr, gain=1.0, steps=250 if LONG else 25):
    """Losses of a small U-Net whose initial weights are multiplied by `gain`."""
    torch.manual_seed(0)
    network = UNet(channels=8, pools=2, norm=norm)
    network.load_state_dict({k: v * gain if v.ndim == 4 else v for k, v in network.state_dict().items()})
    optimizer, losses = make_optimizer("momentum", network, lr=lr), []
    for _ in range(steps):
        chosen = torch.randperm(len(filled))[:4]
        loss = F.l1_loss(network(filled[chosen]), target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


fig, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
for norm in ("none", "group"):
    by_rate = {rate: np.mean(fit(norm, rate)[-5:]) for rate in (0.03, 0.1, 0.3, 1.0)}
    by_gain = {gain: np.mean(fit(norm, 0.03, gain)[-5:]) for gain in (0.1, 1.0, 10.0)}
    for ax, label, ends in zip(axes, ("learning rate", "initial weights times"), (by_rate, by_gain), strict=True):
        ax.semilogx(ends.keys(), ends.values(), "o-", label=norm)
        ax.set(xlabel=label, ylabel="loss, last 5 steps")
        print(f"{norm:5} {label}:", *(f"{x:g}: {loss:.3f} " for x, loss in ends.items()))
axes[0].legend(title="norm")
plt.show()

# %% [markdown]
# Sin normalización el entrenamiento fracasa (nan, no dibujado) con una tasa de 0.3; con ella todavía aprende ahí, pero
# apenas con 1. Con pesos iniciales diez veces menores, la red sin normalización no aprende casi nada; con pesos diez
# veces mayores, fracasa. Con normalización aprende en ambos casos. Es una sola semilla y son pocos pasos: lo decide
# `configs/ablation/optimizer_x_norm.yaml`.
# ## El gradiente a través de las estadísticas
# $\mu$ y $\sigma$ dependen de la entrada, y el gradiente tiene que pasar por ellas, o el entrenamiento diverge, dice la
# clase; las medias móviles en su lugar también fracasan. La normalización de instancia a mano, de tres maneras:


# %% tags=["N9"]
class ByHand(nn.Module):
    """Instance norm with the gradient through its statistics, detached from them, or by averages of the batches."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.old = kind, None

    def forward(self, x):
        """Normalise `x` (images, channels, height, width)."""
        axes = (0, 2, 3) if self.kind == "average" else (2, 3)
        now = torch.stack([x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)])
        now = now if self.kind == "through" else now.detach()
        used = now if self.old is None else self.old
        self.old = 0.9 * used + 0.1 * now if self.kind == "average" else None
        return (x - used[0]) / (used[1] + 1e-5).sqrt()


print(f"by hand - make_norm: {difference(ByHand('through')(features), instance(features)):.1e}")
_, ax = plt.subplots(figsize=(6, 2.4))
for kind in ("through", "detached", "average"):
    losses = fit(lambda _, kind=kind: ByHand(kind), 0.3, steps=600 if LONG else 60)
    ax.plot(losses, label=kind)
    print(f"{kind:8}: mean loss of the last 20 steps {np.mean(losses[-20:]):.3f}, largest {np.nanmax(losses):.2g}")
ax.set(xlabel="step", ylabel="loss", ylim=(0.2, 1.0), title="learning rate 0.3")
ax.legend()
plt.show()

# %% [markdown]
# Las medias móviles, en efecto, fracasan a los pocos pasos. Sin el gradiente el entrenamiento termina peor, pero aquí,
# con una semilla, no diverge ni en la forma larga (aún no hay estudio: hacen falta normalizaciones sin ese gradiente).
# ## Las estadísticas después del entrenamiento
# Al entrenar, la normalización por lotes hace que una imagen dependa de su lote: ruido que regulariza, dice la clase
# (N8; sin estudio aún: hace falta la diferencia de pérdida entre entrenamiento y validación por tamaño de lote y
# grupo). Después usa medias móviles. La de instancia también, dice la clase; en la práctica, en torch por defecto y
# también aquí, mide siempre cada imagen.
#
# ¿Qué tan buenas son? En lotes de un solo corte la normalización por lotes *se entrena como la de instancia*, así que
# lo que salga mal viene de la evaluación. Hay tres: con las medias móviles (running); *recalibrada* (recalibrated), con
# medias medidas de nuevo en los cortes de entrenamiento mientras los pesos no se mueven; y con las estadísticas del
# lote presente (batch), aquí la imagen.

# %% tags=["N6", "N10"]
for layer in (*(make_norm(name, 6) for name in ("batch", "layer", "instance", "group")), nn.InstanceNorm2d(6)):
    change = difference(layer(features), layer.eval()(features))
    print(f"{layer._get_name():14} training - evaluation {change:.1e}, {len(list(layer.buffers()))} buffers")
unseen = [collate([s]) for s in SliceDataset(DATA / "test", "random", acceleration=4, needs=("image",))]
images = {"target": [s.target[0] for s in unseen]}
for norm, kinds in (("batch", ("running", "recalibrated", "batch")), ("instance", ("",)), ("group", ("",))):
    data, method, steps = DataConfig(path=str(DATA)), OptimizerConfig("adamw"), 1200 if LONG else 120
    model, to = ModelConfig(channels=8, pools=2, norm=norm, residual=False), f"{WORK}/{norm}"
    config = TrainConfig(data, model, method, batch_size=1, max_steps=steps, val_every=120, precision="fp32", output=to)
    run = train(config)
    for kind in kinds:
        network = load_reconstructor(run, "last")
        set_bn_stats(network, "recalibrated" if kind == "recalibrated" else "running", config)
        network.train(kind == "batch")  # then it normalises by the batch
        images[f"{norm} {kind}"] = [network(s)[0].detach() for s in unseen]
fig, axes = plt.subplots(1, len(images), figsize=(11, 2.2))
for ax, (title, of) in zip(axes, images.items(), strict=True):
    score = np.mean([ssim(s.target[0], image, float(s.data_range)) for s, image in zip(unseen, of, strict=True)])
    ax.imshow(of[2], cmap="gray", vmin=0, vmax=float(images["target"][2].max()) / 2)
    print(f"{title:20} SSIM {score:.3f}")
    ax.set(title=f"{title}\nmean SSIM {score:.3f}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# A simple vista un corte muestra poco; la puntuación media, más. Con las estadísticas de la propia imagen la
# normalización por lotes es la misma red que la de instancia, salvo un redondeo que el entrenamiento amplifica. Con las
# fijas es peor, y recalibrar apenas ayuda: las medias no estaban anticuadas, pero ninguna imagen se entrenó con ellas.
# Si la normalización por grupos es mejor en lotes pequeños no puede decirlo una sola ejecución:
# `configs/ablation/batch_size.yaml`.
# ## Varios procesos
# Los procesos que comparten un lote promedian sus gradientes y obtienen el del lote entero, salvo con la normalización
# por lotes, cuyas estadísticas no se suman entre ellos (`sync_batchnorm: true` sí las suma; rara vez se activa). Aquí
# hacemos el papel de dos procesos.

# %% tags=["N11"]
for norm in NORMS:
    network = UNet(channels=8, pools=2, norm=norm).double()
    for part, weight in ((slice(0, 4), 1), (slice(0, 2), -0.5), (slice(2, 4), -0.5)):
        (weight * F.l1_loss(network(filled[part].double()), target[part].double())).backward()
    print(f"{norm:9} whole gradient - mean of the parts: {max(p.grad.abs().max() for p in network.parameters()):.1e}")
