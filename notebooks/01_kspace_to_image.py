# %% [markdown]
# # From k-space to an image
#
# A scanner does not measure an image. Its coils record *k-space*, complex numbers that are the Fourier transform of the
# image, one line after the other. The lecture asks what happens when we measure fewer lines, which makes the scan
# faster. We go there in order: the transform by hand, lines that are left out, what that does to the image, and what a
# network makes of it.
#
# Everything here runs on simulated heads in about half a minute. `LONG=1 jupyter lab` trains ten times longer, and
# `MRIRECON_DATA=DIR` adds a look at your own files in the fastMRI layout.

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
# ## What the scanner stores
#
# We simulate a few heads, seen by four coils, and read one slice as `mrirecon` reads a fastMRI file: complex k-space
# `(coils, readout, phase encoding)`. The readout is oversampled twofold, as scanners do; the image is the middle of
# what it gives. The values fall off so fast with the distance from the centre that only a logarithm shows them all.

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
# ## The Fourier transform by hand
#
# Both axes have their origin in the middle, at index $n/2$. With
# $F_{kx} = e^{-2\pi i\,(k - n/2)(x - n/2)/n} / \sqrt n$ the k-space of an image $X$ is $F X F^\top$, and since $F$ is
# unitary ($F^{*} F = 1$) the image comes back by $F^{*} K \bar F$. That is a *linear* map, a matrix times a vector: no
# learning is needed for it, and it takes milliseconds.


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
# Each coil sees the head through its own sensitivity. The *root sum of squares* of the coil images is the usual
# reference image, the `target` of all that follows.

# %%
coil_images = center_crop(ifft2c(kspace), volume.image_shape)
target = torch.from_numpy(volume.target(2))
difference = (rss(coil_images) - target).abs().max() / target.max()
print(f"root sum of squares against the stored reference: largest difference {difference:.1e} of the maximum")
show([*coil_images.abs(), target], [*(f"coil {i}" for i in range(4)), "root sum of squares"])

# %% [markdown]
# ## Leaving columns out
#
# Time is spent per *column* (a phase-encoding step), so whole columns are dropped. Two ways are usual: at random, or
# every fourth one. Both keep a block in the middle, where nearly all of the energy is. White columns are measured.

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
# ## Every point becomes a pattern
#
# Multiplying k-space by a mask convolves the image with the mask's transform, the *point-spread function*. Columns at
# equal distances copy every point to a few places, as sharp and nearly as bright as itself: aliases, which look like
# anatomy. Random columns spread the same energy over the whole line, where it looks like noise. The central block
# widens the main peak and takes most of the energy out of the rest.

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 2.2), sharey=True)
for ax, (words, mask) in zip(axes, masks.items(), strict=True):
    spread = ifft2c(mask.to(torch.complex64)[None])[0].abs()
    ax.plot(np.arange(width) - width // 2, spread / spread.max(), lw=1)
    ax.set(title=words, xlabel="pixels from the point")
axes[0].set_ylabel("point-spread function")
plt.show()

# %% [markdown]
# ## The linear reconstruction is not good enough
#
# Zeros in place of what was not measured, the inverse transform, the root sum of squares: the *zero-filled* image.
# Without the centre it is useless; with it one sees the head through the pattern of its own copies. Whether random or
# equispaced columns are better these scores cannot say: the masks do not measure equally many (4.57x and 3.20x).

# %% tags=["M2"]
images = [rss(center_crop(ifft2c(kspace * mask), volume.image_shape)) for mask in masks.values()]
vmax = float(target.max())
scores = [ssim(target, image, vmax) for image in images]
titles = [f"{words}\nSSIM {score:.3f}" for words, score in zip(masks, scores, strict=True)]
show([target, *images], ["target", *titles], vmax=vmax)

# %% [markdown]
# ## The same on measured data
#
# Name a folder of fastMRI files in `MRIRECON_DATA` and one of its slices appears here.

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
# ## What a network makes of it
#
# A U-Net is shown zero-filled images and their targets. It cannot see what was not measured; it learns what heads look
# like, and which patterns a mask leaves. The lines below are the training's own: what is trained, on what, how far it
# is.

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
# On a head that it has never seen:

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
# The network is better on this slice. Whether it is better on *heads*, by how much and how sure we are, takes many
# volumes and an interval: `mrirecon evaluate` and `mrirecon compare` give both. How it was trained is what the next
# notebooks are about: step sizes, momentum, adaptive methods, normalization.
