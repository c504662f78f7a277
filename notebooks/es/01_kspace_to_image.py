# %% [markdown]
# # Del espacio k a la imagen
#
# Un escáner no mide una imagen. Sus bobinas registran el *espacio k*: números complejos que son la transformada de
# Fourier de la imagen, una línea tras otra. La clase pregunta qué ocurre cuando medimos menos líneas, con lo que el
# estudio dura menos. Vamos en orden: la transformada a mano, las líneas que se omiten, cómo afecta eso a la imagen y
# qué saca una red de ella.
#
# Todo se ejecuta sobre cabezas simuladas en medio minuto, más o menos. `LONG=1 jupyter lab` entrena diez veces más, y
# `MRIRECON_DATA=DIR` añade una mirada a archivos propios en el formato de fastMRI.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, SimulateConfig, TrainConfig
from mrirecon.data import SliceDataset, Volume
from mrirecon.data.samples import collate
from mrirecon.evaluation import ssim
from mrirecon.physics import center_crop, fft2c, ifft2c, make_mask, rss
from mrirecon.reconstruct import ZeroFilled
from mrirecon.training import load_reconstructor
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train

LONG = bool(os.environ.get("LONG"))
WORK = Path(tempfile.mkdtemp(prefix="kspace-"))
plt.rcParams |= {"image.cmap": "gray", "figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True}


def show(images, titles, vmax=None, width=2.4):
    """Draw images side by side on one grey scale."""
    _, axes = plt.subplots(1, len(images), figsize=(width * len(images), width + 0.3), squeeze=False)
    for ax, image, title in zip(axes[0], images, titles, strict=True):
        ax.imshow(image, vmin=None if vmax is None else 0, vmax=vmax)
        ax.set(title=title, xticks=[], yticks=[])
    plt.show()


# %% [markdown]
# ## Lo que guarda el escáner
#
# Simulamos unas cuantas cabezas, vistas por cuatro bobinas, y leemos un corte como `mrirecon` lee un archivo de
# fastMRI: espacio k complejo `(bobinas, lectura, codificación de fase)`. La lectura está sobremuestreada al doble,
# como hacen los escáneres; la imagen es la parte central de lo que resulta. Los valores caen tan rápido al alejarse
# del centro que solo un logaritmo los muestra todos.

# %%
n_train = 48 if LONG else 8
DATA = simulate_dataset(
    SimulateConfig(output=str(WORK / "data"), train=n_train, val=2, test=2, slices=4, matrix=[96, 96], coils=4)
)
test = SliceDataset(DATA / "test", "random", acceleration=4, needs=("image",))
volume = test.volumes[0]
kspace = torch.from_numpy(volume.kspace(2))
print(f"{volume.name}: k-space {tuple(kspace.shape)}, {kspace.dtype}")
show(kspace.abs().log(), [f"coil {i}, log |k-space|" for i in range(4)])

# %% [markdown]
# ## La transformada de Fourier a mano
#
# Ambos ejes tienen su origen en el medio, en el índice $n/2$. Con
# $F_{kx} = e^{-2\pi i\,(k - n/2)(x - n/2)/n} / \sqrt n$ el espacio k de una imagen $X$ es $F X F^\top$ y, como $F$ es
# unitaria ($F^{*} F = 1$), la imagen se recupera con $F^{*} K \bar F$. Es una aplicación *lineal*, una matriz por un
# vector: no hace falta aprender nada, y se calcula en milisegundos.


# %% tags=["M1"]
def fourier_matrix(n):
    """The centred orthonormal Fourier matrix, written out."""
    i = torch.arange(n, dtype=torch.float64) - n // 2
    return torch.exp(-2j * torch.pi * torch.outer(i, i) / n) / n**0.5


F, G = (fourier_matrix(n) for n in kspace.shape[1:])
coil = kspace[0].to(torch.complex128)
by_hand = F.conj().T @ coil @ G.conj()
by_fft = ifft2c(coil)
print(f"unitary:              |F* F - 1|      = {torch.linalg.norm(F.conj().T @ F - torch.eye(len(F))):.1e}")
print(f"by hand = by FFT:     largest error   = {(by_hand - by_fft).abs().max() / by_fft.abs().max():.1e}")
print(f"energy is kept:       |image|/|kspace| = {torch.linalg.norm(by_fft) / torch.linalg.norm(coil):.12f}")
other = torch.randn_like(coil)
products = torch.vdot(fft2c(coil).ravel(), other.ravel()), torch.vdot(coil.ravel(), ifft2c(other).ravel())
print(f"adjoint = inverse:    <Fx, y> - <x, F*y> = {abs(products[0] - products[1]) / abs(products[0]):.1e}, relative")

# %% [markdown]
# Cada bobina ve la cabeza a través de su propia sensibilidad. La *raíz de la suma de cuadrados* de las imágenes de las
# bobinas es la imagen de referencia habitual, lo que en adelante se llama `target`.

# %%
coil_images = center_crop(ifft2c(kspace), volume.image_shape)
target = torch.from_numpy(volume.target(2))
difference = (rss(coil_images) - target).abs().max() / target.max()
print(f"root sum of squares against the stored reference: largest difference {difference:.1e} of the maximum")
show([*coil_images.abs(), target], [*(f"coil {i}" for i in range(4)), "root sum of squares"])

# %% [markdown]
# ## Omitir columnas
#
# El tiempo se gasta por *columna* (un paso de codificación de fase), así que se omiten columnas enteras. Hay dos
# formas usuales: al azar, o una de cada cuatro. Las dos conservan un bloque en el medio, donde está casi toda la
# energía. Las columnas blancas se miden.

# %% tags=["M2"]
width = kspace.shape[-1]
masks = {}
for name in ("random", "equispaced"):
    for fraction in (0.08, 0.0):
        words = f"{name}, {'with' if fraction else 'without'} centre"
        mask = make_mask(name, width, fraction or 1 / width, 4, seed=3)
        masks[words] = mask.columns
        print(f"{words:28} {int(mask.columns.sum()):3} of {width} columns, {mask.acceleration_true:.2f}x")
show([mask.expand(24, width) for mask in masks.values()], masks, width=3)

# %% [markdown]
# ## Cada punto se convierte en un patrón
#
# Multiplicar el espacio k por una máscara convoluciona la imagen con la transformada de la máscara, la *función de
# dispersión de punto* (point-spread function, PSF). Las columnas equidistantes copian cada punto en unos pocos lugares,
# tan nítido y casi tan brillante como el original: son alias, que parecen anatomía. Las columnas al azar reparten la
# misma energía por toda la línea, donde parece ruido. El bloque central ensancha el pico principal y le quita al resto
# la mayor parte de la energía.

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 2.2), sharey=True)
for ax, (words, mask) in zip(axes, masks.items(), strict=True):
    spread = ifft2c(mask.to(torch.complex64)[None])[0].abs()
    ax.plot(np.arange(width) - width // 2, spread / spread.max(), lw=1)
    ax.set(title=words, xlabel="pixels from the point")
axes[0].set_ylabel("point-spread function")
plt.show()

# %% [markdown]
# ## La reconstrucción lineal no basta
#
# Ceros en lugar de lo que no se midió, la transformada inversa, la raíz de la suma de cuadrados: la imagen *rellenada
# con ceros* (zero-filled). Sin el centro no sirve; con él se ve la cabeza a través del patrón de sus propias copias. Si
# es mejor elegir las columnas al azar o equidistantes no pueden decirlo estas puntuaciones: las máscaras no miden el
# mismo número (4.57x y 3.20x).

# %% tags=["M2"]
images = [rss(center_crop(ifft2c(kspace * mask), volume.image_shape)) for mask in masks.values()]
vmax = float(target.max())
scores = [ssim(target, image, vmax) for image in images]
titles = [f"{words}\nSSIM {score:.3f}" for words, score in zip(masks, scores, strict=True)]
show([target, *images], ["target", *titles], vmax=vmax)

# %% [markdown]
# ## Lo mismo con datos medidos
#
# Indica en `MRIRECON_DATA` una carpeta con archivos de fastMRI y aquí aparecerá uno de sus cortes.

# %%
found = sorted(Path(os.environ["MRIRECON_DATA"]).rglob("*.h5")) if "MRIRECON_DATA" in os.environ else []
if found:
    real = Volume(found[0])
    i = real.n_slices // 2
    measured, reference = torch.from_numpy(real.kspace(i)), torch.from_numpy(real.target(i))
    drawn = make_mask("random", measured.shape[-1], 0.08, 4, seed=3).columns
    filled = rss(center_crop(ifft2c(measured * drawn), real.image_shape))
    score = ssim(reference, filled, float(reference.max()))
    show([reference, filled], [real.name, f"zero-filled, SSIM {score:.3f}"], vmax=float(reference.max()), width=3)
else:
    print("MRIRECON_DATA names no folder with .h5 files: simulated data only")

# %% [markdown]
# ## Qué consigue una red
#
# A una U-Net se le muestran imágenes rellenadas con ceros y sus referencias. No puede ver lo que no se midió; aprende
# qué aspecto tienen las cabezas y qué patrones deja una máscara. Las líneas de abajo son las del propio entrenamiento:
# qué se entrena, con qué y por dónde va.

# %%
run = train(
    TrainConfig(
        data=DataConfig(path=str(DATA), acceleration=[4]),
        model=ModelConfig(channels=16, pools=3, residual=False),
        optimizer=OptimizerConfig("adamw", 3e-3),
        batch_size=2,
        max_steps=1500 if LONG else 120,
        val_every=300 if LONG else 24,
        output=str(WORK / "unet"),
    )
)

# %%
curves = np.genfromtxt(run.curves, delimiter=",", names=True)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4))
for ax, key, title in ((left, "train_loss", "training loss (L1)"), (right, "val_ssim", "validation SSIM")):
    known = ~np.isnan(curves[key])
    ax.plot(curves["step"][known], curves[key][known], ".-", lw=0.8)
    ax.set(xlabel="step", title=title)
plt.show()

# %% [markdown]
# En una cabeza que nunca ha visto:

# %%
sample = collate([test[2]])
network = load_reconstructor(run)
with torch.no_grad():
    images = {"zero-filled": ZeroFilled()(sample)[0], "U-Net": network(sample)[0]}
scores = {name: ssim(target, image, vmax) for name, image in images.items()}
show([target, *images.values()], ["target", *(f"{name}, SSIM {scores[name]:.3f}" for name in images)], vmax, width=3)
show(
    [(image - target).abs() for image in images.values()], [f"|error| of {name}" for name in images], vmax / 4, width=3
)

# %% [markdown]
# La red es mejor en este corte. Saber si es mejor en *cabezas*, por cuánto y con qué certeza requiere muchos volúmenes
# y un intervalo: `mrirecon evaluate` y `mrirecon compare` dan ambas cosas. Cómo se entrenó es el tema de los cuadernos
# siguientes: tamaños de paso, momento, métodos adaptativos, normalización.
