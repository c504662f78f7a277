"""The practicum's identities: convolutions as matrices, their sizes, and what backward computes.

The largest value's gradient where several are largest: shared in equal parts, as by `torch.amax`. Adding t to all
elements adds t to the maximum, so the entries have to add up to 1; the lecture's version sends 1 to every one of them.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function, gradcheck

from mrirecon.models import UNet


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def toeplitz(kernels, n):
    """Make the matrix of a convolution of n samples: kernels (m, c, k), shifted and stacked."""
    m, c, k = kernels.shape
    matrix = np.zeros((m, n - k + 1, c, n))
    for row in range(n - k + 1):
        matrix[:, row, :, row : row + k] = kernels
    return matrix.reshape(m * (n - k + 1), c * n)


@pytest.mark.parametrize(("m", "c", "k", "n"), [(1, 1, 3, 8), (3, 2, 4, 16), (5, 3, 1, 7), (2, 4, 9, 9)])
def test_p1_a_convolution_is_a_stack_of_shifted_kernels(m, c, k, n):
    """A product with a matrix is a dot product per row; a 1-D convolution is one with shifted copies of its kernels."""
    kernels, signal = random(m, c, k), random(c, n, seed=1)
    matrix = toeplitz(kernels.numpy(), n)
    vector = signal.numpy().ravel()
    by_loop = np.zeros(m * (n - k + 1))
    for i, j in np.ndindex(matrix.shape):
        by_loop[i] += matrix[i, j] * vector[j]
    expected = F.conv1d(signal, kernels).numpy().ravel()
    assert matrix.shape == (m * (n - k + 1), c * n)
    np.testing.assert_allclose(matrix @ vector, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(by_loop, expected, rtol=0, atol=1e-13)
    gradient = random(m, n - k + 1, seed=2)
    _, back = torch.autograd.functional.vjp(lambda signal: F.conv1d(signal, kernels), signal, gradient)
    np.testing.assert_allclose(back.numpy().ravel(), matrix.T @ gradient.numpy().ravel(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(back, F.conv_transpose1d(gradient, kernels), rtol=0, atol=1e-13)


def test_p1_networks_do_not_mirror_the_kernel():
    """What networks call a convolution is numpy's correlation."""
    signal, kernel = random(12), random(4, seed=1)
    found = F.conv1d(signal[None], kernel[None, None])[0]
    np.testing.assert_allclose(found, np.correlate(signal.numpy(), kernel.numpy(), mode="valid"), rtol=0, atol=1e-14)


def test_p2_weights_and_sizes_of_the_lecture():
    """Layers of 2 to 16 channels over 64 samples, of 20 to 16 over 64 x 128 pixels: weights, biases, outputs."""
    sound, picture = torch.zeros(1, 2, 64), torch.zeros(1, 20, 64, 128)
    for layer, input, weight, output in [
        (nn.Conv1d(2, 16, 3), sound, (16, 2, 3), (1, 16, 62)),
        (nn.Conv1d(2, 16, 5), sound, (16, 2, 5), (1, 16, 60)),
        (nn.Conv2d(20, 16, (3, 5)), picture, (16, 20, 3, 5), (1, 16, 62, 124)),
        (nn.Conv2d(20, 16, (3, 5), padding=(1, 2)), picture, (16, 20, 3, 5), (1, 16, 64, 128)),
    ]:
        assert layer.weight.shape == weight
        assert layer.bias.shape == (16,)
        assert layer(input).shape == output


def test_p2_width_of_the_output():
    """Stride, padding and dilation decide the width; with an odd kernel the padding d (k - 1) / 2 keeps it."""
    for n, k, stride, padding, dilation in product((9, 16, 31), (1, 3, 4), (1, 2, 3), (0, 1, 2), (1, 2)):
        reach = dilation * (k - 1)
        starts = [i for i in range(-padding, n + padding, stride) if i + reach < n + padding]  # where the kernel fits
        width = F.conv1d(torch.zeros(1, n), torch.zeros(1, 1, k), None, stride, padding, dilation).shape[-1]
        assert width == len(starts) == (n + 2 * padding - reach - 1) // stride + 1
        if k % 2:
            kept = F.conv1d(torch.zeros(1, n), torch.zeros(1, 1, k), None, 1, reach // 2, dilation)
            assert kept.shape == (1, n)


def test_p2_the_kernels_of_the_unet_are_banks_that_keep_the_size():
    """2-D kernels are a bank in four dimensions."""
    network = UNet(1, 1, channels=4, pools=1)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert convolutions
    for layer in convolutions:
        assert layer.weight.shape == (layer.out_channels, layer.in_channels, 3, 3)
        assert layer(torch.zeros(1, layer.in_channels, 8, 6)).shape == (1, layer.out_channels, 8, 6)


def test_p3_gradient_of_the_mean_of_squares():
    """For a = mean(3 (x - 2)^2) the gradient is 3/2 (x - 2), in the shape of x; grad_fn says what made a tensor."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    a = (3 * (x - 2) ** 2).mean()
    a.backward()
    assert x.grad.tolist() == [[-1.5, 0.0], [1.5, 3.0]]
    assert x.grad_fn is None
    assert a.grad_fn.name() == "MeanBackward0"
    assert a.grad_fn.next_functions[0][0].name() == "MulBackward0"


def test_p3_the_gradient_is_the_transpose_of_the_jacobian():
    """The gradient has the shape of x; the Jacobian of a number is its transpose, a row."""
    A, x = random(1, 5), random(5, 1, seed=1).requires_grad_()
    (A @ x).backward()
    assert x.grad.shape == x.shape
    assert torch.equal(x.grad, A.T)


def test_p4_a_vector_jacobian_product_counts_the_turns_of_a_loop():
    """Double y while its norm is below 1000: the product with v is 2^(i+1) v, which reveals i."""
    v = torch.tensor([0.1, 1.0, 1e-4])
    for seed in range(5):
        x = random(3, seed=seed, dtype=torch.float32).requires_grad_()
        y, i = 2 * x, 0
        while y.detach().norm() < 1000:
            y, i = 2 * y, i + 1
        y.backward(v)
        assert 1000 <= y.detach().norm() < 2000
        assert torch.equal(x.grad, 2 ** (i + 1) * v)
        assert i == math.ceil(math.log2(1000 / (2 * x.detach().norm().item())))


class Add(Function):
    @staticmethod
    def forward(ctx, a, b):
        return a + b

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


class Split(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone(), x.clone()

    @staticmethod
    def backward(ctx, gradient1, gradient2):
        return gradient1 + gradient2


class Max(Function):
    """The largest value; ties share the gradient in equal parts."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x == x.max())
        return x.max()

    @staticmethod
    def backward(ctx, gradient):
        (largest,) = ctx.saved_tensors
        return gradient * largest / largest.sum()


def test_p5_what_is_not_noted_has_no_way_back():
    """Only what needs a gradient gets one; what was made under no_grad has no backward."""
    w, x = torch.ones(3, requires_grad=True), torch.tensor([1.0, 2.0, 3.0])
    (w @ x).backward()
    assert torch.equal(w.grad, x)
    assert x.grad is None
    with torch.no_grad():
        z = w @ x
    assert not z.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        z.backward()


def test_p5_own_functions_pass_gradcheck():
    """Add sends the gradient to both terms, Split adds up two gradients, Max is one-hot."""
    a, b = (random(4, seed=seed).requires_grad_() for seed in range(2))
    assert gradcheck(Add.apply, (a, b))
    assert gradcheck(Split.apply, (a,))
    assert gradcheck(Max.apply, (a,))
    (gradient,) = torch.autograd.grad(Max.apply(a), a)
    assert torch.equal(gradient, F.one_hot(a.argmax(), 4).double())
    (gradient,) = torch.autograd.grad(Split.apply(a), a, (b.detach(), 2 * b.detach()))
    torch.testing.assert_close(gradient, 3 * b.detach())


@pytest.mark.parametrize("values", [[1, 3, 2, 0], [3, 1, 3, 0], [1, 3, 3, 3], [2, 2, 2, 2]])
def test_p5_ties_share_the_gradient_of_the_maximum(values):
    """Where several are largest, the gradient is shared: its entries add up to 1, and their order does not matter."""
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Max.apply(x), x, torch.tensor(5.0, dtype=torch.float64))
    (expected,) = torch.autograd.grad(x.amax(), x, torch.tensor(5.0, dtype=torch.float64))
    torch.testing.assert_close(gradient, expected, rtol=1e-15, atol=0)
    t = 0.25
    along_all = (Max.apply(x + t) - Max.apply(x)) / t  # exact: adding t to all adds t to the largest
    torch.testing.assert_close(gradient.sum(), 5 * along_all.detach(), rtol=1e-15, atol=0)
    for direction in random(20, 4):  # a subgradient: the function lies above its line
        assert Max.apply(x + direction) >= Max.apply(x) + gradient @ direction / 5 - 1e-12
