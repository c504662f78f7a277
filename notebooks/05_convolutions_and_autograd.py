# %% [markdown]
# # Convolutions and autograd
# A network is made of linear maps with simple functions between them, and it learns by the chain rule. We do both once
# by hand: a convolution as the matrix that it is, and what `backward` computes. Then we write functions with their own
# `backward`, at last those that MRI needs: the Fourier transform, and a layer that holds a network to what the scanner
# measured. All takes about half a minute; `LONG=1 jupyter lab` trains on more heads, and ten times longer.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import autograd, nn
from torch.autograd import gradcheck

from mrirecon.config import SimulateConfig
from mrirecon.data import Volume
from mrirecon.models import UNet
from mrirecon.physics import Sense, fft2c, ifft2c, make_mask
from mrirecon.training import make_optimizer
from mrirecon.workflows.simulate import simulate_dataset

LONG = bool(os.environ.get("LONG"))
plt.rcParams |= {"image.cmap": "gray", "figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True}
torch.manual_seed(0)


def show(images, vmin=None, vmax=None, width=2.4):
    _, axes = plt.subplots(1, len(images), figsize=(width * len(images), width + 0.3))
    for ax, (title, image) in zip(axes, images.items(), strict=True):
        ax.imshow(image, vmin=vmin, vmax=vmax)
        ax.set(title=title, xticks=[], yticks=[])
    plt.show()


# %% [markdown]
# ## Products with a matrix, and convolutions
# In $y = A x$ every row of $A$ is a pattern, and $y_i = \sum_j a_{ij} x_j$ says how much of pattern $i$ is in $x$. In
# sounds and images what is near belongs together, and a pattern may appear anywhere. So patterns may be short, and the
# same at every place: a kernel of $k$ values on $n$ samples becomes $n - k + 1$ rows, each the kernel shifted by one,
# with zeros elsewhere (a *Toeplitz* matrix). With $c$ input channels, the rows of the channels stand side by side; $m$
# kernels are $m$ such blocks, stacked: $m\,(n-k+1)$ rows and $c\,n$ columns.


# %% tags=["P1"]
def toeplitz(kernels, n):
    shifts = range(n - kernels.shape[-1] + 1)
    rows = [F.pad(kernels, (shift, len(shifts) - 1 - shift)) for shift in shifts]
    return torch.stack(rows, dim=1).reshape(len(kernels) * len(shifts), -1)


kernels, signal = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
T, x = toeplitz(kernels, 16), signal.flatten()
by_hand = torch.stack([sum(T[i, j] * x[j] for j in range(32)) for i in range(39)])
print(f"matrix {tuple(T.shape)}: {T.numel()} entries, {T.count_nonzero()} not 0, {kernels.numel()} different ones")
print(f"the product by hand against T @ x: largest difference {(by_hand - T @ x).abs().max():.1e}")
print(f"T @ x against conv1d: largest difference {(T @ x - F.conv1d(signal, kernels).flatten()).abs().max():.1e}")
show({"1 kernel, 1 channel": toeplitz(kernels[:1, :1], 16), "3 kernels, 2 channels": T}, -2, 2, width=3)

# %% [markdown]
# Grey is zero. The right panel has three blocks of rows (kernels) and two of columns (channels), each a band like that
# on the left. Nothing was mirrored: networks' convolution is mathematics' *cross-correlation*. Stride, padding and
# dilation change the matrix in simple ways. We read it off `conv1d` by handing it the unit vectors: they give columns.

# %% tags=["P1", "P2"]
options = {"plain": {}, "stride 2": {"stride": 2}, "padding 1": {"padding": 1}, "dilation 3": {"dilation": 3}}
kernel, unit_vectors = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.eye(14)[:, None]
matrices = {name: F.conv1d(unit_vectors, kernel, **option)[:, 0].T for name, option in options.items()}
show({f"{name}: {len(matrix)} rows": matrix for name, matrix in matrices.items()})

# %% [markdown]
# A stride skips rows, padding adds rows that hang over the edges, dilation spreads the kernel. With padding $p$,
# dilation $d$ and stride $s$ there are $\lfloor (n + 2p - d\,(k - 1) - 1) / s \rfloor + 1$ rows, the width of the
# output. The weights of a 1-D layer have three dimensions (outputs, inputs, width); those of a 2-D layer are a bank of
# kernels with four. For odd $k$ and stride 1, the padding $d\,(k - 1)/2$ keeps the size.

# %% tags=["P2"]
for layer in (nn.Conv1d(2, 16, 3), nn.Conv1d(2, 16, 5)):
    print(f"{layer}: weight {[*layer.weight.shape]}, 64 -> {layer(torch.zeros(2, 64)).shape[1]}")
for layer in (nn.Conv2d(20, 16, (3, 5)), nn.Conv2d(20, 16, (3, 5), padding=(1, 2))):
    print(f"{layer}: weight {[*layer.weight.shape]}, 64 x 128 -> {[*layer(torch.zeros(20, 64, 128)).shape[1:]]}")
cases = [[n, k, s, p, d] for n in (16, 31) for k in (1, 3, 4) for s in (1, 2, 3) for p in (0, 1, 2) for d in (1, 2, 3)]
formula = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in cases]
by_torch = [F.conv1d(torch.zeros(1, n), torch.zeros(1, 1, k), None, *rest).shape[-1] for n, k, *rest in cases]
print(f"formula = torch in {sum(map(int.__eq__, formula, by_torch))} of {len(cases)} cases of n, k, s, p, d")

# %% [markdown]
# ## What `backward` computes
# Autograd notes which function made each tensor (`grad_fn`) and walks that graph from the end to the start. Take
# $a = \frac14 \sum_{ij} 3\,(x_{ij} - 2)^2$; by hand, $\partial a/\partial x_{ij} = \frac32 (x_{ij} - 2)$. Under
# `no_grad` nothing is noted, so no way leads back: `backward` is then a RuntimeError.

# %% tags=["P3", "P5"]
x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
a = (3 * (x - 2) ** 2).mean()
print(f"a = {a.item()}, graph: {a.grad_fn.name()} <- {a.grad_fn.next_functions[0][0].name()} <- ...")
a.backward()
print(f"x.grad = {x.grad.tolist()}, by hand {(1.5 * (x.detach() - 2)).tolist()}")
with torch.no_grad():
    print("under no_grad: grad_fn =", x.sum().grad_fn)

# %% [markdown]
# The gradient has the shape of $x$, so that one can step along it; the Jacobian of a number is a row, its transpose.
# For a map from $n$ to $m$ numbers the Jacobian $J$ is $m \times n$; `backward(v)` computes $J^\top v$, a
# *vector-Jacobian product*, without building $J$. Here we double $y$ while its norm is below 1000 (the lecture's words
# say "until it is smaller", its loop runs *while* it is). After $i$ more turns $J = 2^{i+1}$ times the unit matrix, so
# the gradient tells how many there were. The Jacobian of a linear map is its matrix: `backward` of a convolution
# multiplies by $T^\top$, which torch calls a *transposed convolution*.

# %% tags=["P4", "P1"]
x, v, i = torch.randn(3, requires_grad=True), torch.tensor([0.1, 1.0, 1e-4]), 0
y = 2 * x
while y.detach().norm() < 1000:
    y, i = 2 * y, i + 1
y.backward(v)
print(f"i = {i}, 2^(i+1) = {2 ** (i + 1)}, gradient {x.grad.tolist()}, over v {(x.grad / v).tolist()}")
g = torch.randn(3, 13, dtype=torch.float64)
_, back = autograd.functional.vjp(lambda signal: F.conv1d(signal, kernels), signal, g)
print(f"backward of conv1d against T^T g: {(back.flatten() - T.T @ g.flatten()).abs().max():.1e},", end=" ")
print(f"against conv_transpose1d(g): {(back - F.conv_transpose1d(g, kernels)).abs().max():.1e}")

# %% [markdown]
# ## Our own functions
# A `Function` states both directions, and keeps in `ctx` what the way back needs. `Add` sends the gradient to both
# terms. `Split` has two readers, whose gradients add up: each one's backward is the other's forward. `Max` sends the
# gradient to the largest element (a one-hot vector). In a *tie* we must decide: the first, all, or shared?


# %% tags=["P5"]
class Add(autograd.Function):
    forward = staticmethod(lambda _, a, b: a + b)
    backward = staticmethod(lambda _, gradient: (gradient, gradient))


class Split(autograd.Function):
    forward = staticmethod(lambda _, x: (x.clone(), x.clone()))
    backward = staticmethod(lambda _, gradient1, gradient2: gradient1 + gradient2)


class Max(autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x == x.max())
        return x.max()

    @staticmethod
    def backward(ctx, gradient):
        (largest,) = ctx.saved_tensors
        return gradient * largest / largest.sum()  # ties share it


a, b = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
print(f"against finite differences: Add {gradcheck(Add.apply, (a, b))}, Split {gradcheck(Split.apply, (a,))}")
for values in ([1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 3.0, 0.0], [1.0, 3.0, 3.0, 3.0]):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    ours, shared, first = (autograd.grad(y, x)[0].numpy().round(2) for y in (Max.apply(x), x.amax(), x.max(dim=0)[0]))
    passes = gradcheck(Max.apply, (x,), raise_exception=False)
    print(f"{values}: {ours}, amax {shared}, max(dim=0) {first}, gradcheck of Max: {passes}")

# %% [markdown]
# Adding $t$ to *all* elements adds $t$ to the maximum, tie or not, so the entries of the gradient must add up to 1. The
# lecture's own version sends 1 to *every* tie, and so promises $2t$ or $3t$. The first one, or equal parts, are both
# right (subgradients). We share, as `torch.amax` does: the order of the elements does not matter. `gradcheck` is no
# judge at this kink: its differences give each tie ½, which happens to be our answer for two ties and not for three.
#
# ## The Fourier transform as a function
# For complex numbers, `backward` of a linear map is its *adjoint*: transposed and conjugated. The centred orthonormal
# FFT is unitary, so that is its inverse. Without the conjugate the gradient is wrong, which no error message says.


# %% tags=["M1"]
class FFT(autograd.Function):
    forward = staticmethod(lambda _, image: fft2c(image))
    backward = staticmethod(lambda _, gradient: ifft2c(gradient))


x, y = torch.randn(2, 6, 5, dtype=torch.complex128, requires_grad=True)
ours, torchs = (autograd.grad(f(x), x, y)[0] for f in (FFT.apply, fft2c))
print(f"gradcheck: {gradcheck(FFT.apply, (x,))}; against autograd through fft2c: {(ours - torchs).abs().max():.1e}")
print(f"without the conjugate: off by {(fft2c(y) - torchs).norm() / torchs.norm():.2f} of the gradient's norm")
dots = torch.vdot(y.ravel(), fft2c(x).ravel()), torch.vdot(ifft2c(y).ravel(), x.ravel())
print(f"<y, Fx> - <F*y, x> = {(dots[0] - dots[1]).abs():.1e}, |Fx| / |x| = {fft2c(x).norm() / x.norm():.15f}")

# %% [markdown]
# ## Data consistency
# A scanner measures $y = M F x$: of k-space, only some columns, always the middle ones (the mask $M$). The rest is for
# a network to guess, but in the measured columns it has no say: a *data-consistency layer* puts $y$ back,
# $x \mapsto x - F^{*} (M F x - y)$. That is also one gradient step on $\frac12 \lVert M F x - y \rVert^2$. It has no
# weights, and backwards it is the projection $1 - F^{*} M F$: what the data decide sends no gradient to the network.


# %% tags=["M2"]
def consistent(image, measured, mask):
    return image - ifft2c(mask * FFT.apply(image) - measured)


config = {"train": 24 if LONG else 6, "val": 0, "test": 1, "slices": 4, "matrix": [96, 96], "oversampling": 1.0}
data = simulate_dataset(SimulateConfig(tempfile.mkdtemp(prefix="autograd-"), coils=1, **config))
volumes = [Volume(path) for part in ("test", "train") for path in sorted((data / part).glob("*.h5"))]
heads = ifft2c(torch.stack([torch.from_numpy(volume.kspace(i))[0] for volume in volumes for i in range(4)]))
heads = heads / heads.abs().square().mean(dim=(1, 2), keepdim=True).sqrt()
mask = make_mask("random", 96, 0.08, 4, seed=1).columns
truth, measured = heads[2], mask * fft2c(heads[2])
image = truth.abs().to(torch.complex64).requires_grad_()  # a guess: the phase is missing
scanner = Sense(torch.ones(1, 96, 96, dtype=torch.complex64), mask)
loss = (scanner.forward(image) - measured).abs().square().sum() / 2
output, gradient = consistent(image, measured, mask), autograd.grad(loss, image)[0]
print(f"layer against a gradient step: largest difference {(output - (image - gradient)).abs().max():.1e}")
back = fft2c(autograd.grad(output, image, torch.randn_like(image))[0]).norm(dim=0)
print(f"gradient that comes back: up to {back[mask].max():.1e} in measured columns, {back[~mask].min():.1f} in others")

# %% [markdown]
# A small U-Net sees the zero-filled image as two channels, real and imaginary part. We train it under random masks,
# once alone and once with the layer behind it: the same first weights, the same batches, as many steps.


# %% tags=["M2"]
def reconstruct(net, measured, mask, with_layer):
    channels = torch.view_as_real(ifft2c(measured)).movedim(-1, 1)
    image = torch.view_as_complex(net(channels).movedim(1, -1).contiguous())
    return consistent(image, measured, mask) if with_layer else image


images = {"truth": truth, "zero-filled": ifft2c(measured)}
for name, with_layer in {"U-Net alone": False, "U-Net with layer": True}.items():
    torch.manual_seed(0)
    net = UNet(2, 2, channels=8, pools=2, norm="group", residual=True)
    optimizer = make_optimizer("adam", net, lr=3e-3)
    for step in range(1000 if LONG else 100):
        drawn = make_mask("random", 96, 0.08, 4, seed=step).columns
        batch = heads[4 + torch.randperm(len(heads) - 4)[:4]]
        loss = (reconstruct(net, drawn * fft2c(batch), drawn, with_layer) - batch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images[name] = reconstruct(net, measured[None], mask, with_layer)[0].detach()
    off = (mask * fft2c(images[name]) - measured).norm() / measured.norm()
    print(f"{name}: last loss {loss:.2f}; in the measured columns, {off:.1e} of their norm is off")
images["alone, then layer"] = consistent(images["U-Net alone"], measured, mask)
show({f"{n}: error {(x - truth).norm() / truth.norm():.3f}": x.abs() for n, x in images.items()}, 0, 5, width=2.2)

# %% [markdown]
# With the layer, the measured columns are right to rounding. Put behind the network that was trained alone, it does
# little for the image; most of the gain comes from training *through* it, as the gradient then asks only for what is
# missing. In the long form the two come closer (errors of 0.25 and 0.21, and 0.23 with the layer put behind). One slice
# tells no more; how sure such a difference is, `mrirecon compare` says of many heads.
