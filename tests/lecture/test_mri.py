"""The lecture's identities of MRI: the Fourier transform from k-space to an image, and masks of columns."""

import fastmri
import numpy as np
import pytest
import torch
from fastmri.data import subsample
from torch.autograd import Function, gradcheck

from mrirecon.physics import Sense, default_center_fraction, fft2c, ifft2c, make_mask
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.tv import TotalVariation, differences, total_variation
from mrirecon.reconstruct.wavelet import Wavelet

SHAPES = [(8, 6), (7, 9), (16, 5)]
MASKS = ["random", "equispaced", "equispaced_fraction", "magic", "magic_fraction"]


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def fourier_matrix(n):
    i = np.arange(n) - n // 2
    return np.exp(-2j * np.pi * np.outer(i, i) / n) / np.sqrt(n)


@pytest.mark.parametrize("shape", SHAPES)
def test_m1_the_transform_by_hand_is_the_fft_and_that_of_fastmri(shape):
    """The image is the inverse Fourier transform of k-space, which is complex: two real channels."""
    image = random(*shape)
    F, G = map(fourier_matrix, shape)
    kspace = fft2c(image)
    np.testing.assert_allclose(kspace, F @ image.numpy() @ G.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ifft2c(kspace), F.conj().T @ kspace.numpy() @ G.conj(), rtol=0, atol=1e-13)
    channels = torch.view_as_real(image)
    assert channels.shape == (*shape, 2)
    assert torch.equal(torch.view_as_real(kspace), fastmri.fft2c(channels))
    assert torch.equal(torch.view_as_real(ifft2c(kspace)), fastmri.ifft2c(torch.view_as_real(kspace)))


@pytest.mark.parametrize("shape", SHAPES)
def test_m1_the_transform_is_linear_and_unitary(shape):
    """The reconstruction of full k-space is linear: a product with a unitary matrix, undone by its adjoint."""
    x, y = random(2, *shape), random(2, *shape, seed=1)
    torch.testing.assert_close(fft2c(2j * x - 3 * y), 2j * fft2c(x) - 3 * fft2c(y), rtol=0, atol=1e-13)
    torch.testing.assert_close(ifft2c(fft2c(x)), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(fft2c(ifft2c(x)), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(fft2c(x).norm(), x.norm(), rtol=1e-14, atol=0)
    left, right = torch.vdot(y.ravel(), fft2c(x).ravel()), torch.vdot(ifft2c(y).ravel(), x.ravel())
    torch.testing.assert_close(left, right, rtol=1e-13, atol=0)


class CentredFFT(Function):
    @staticmethod
    def forward(ctx, image):
        return fft2c(image)

    @staticmethod
    def backward(ctx, gradient):
        return ifft2c(gradient)


class WithoutConjugate(CentredFFT):
    @staticmethod
    def backward(ctx, gradient):
        return fft2c(gradient)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3)])
def test_m1_backward_of_the_transform_is_its_adjoint(shape):
    """Backpropagation through the Fourier transform is the inverse transform."""
    image, gradient = random(*shape).requires_grad_(), random(*shape, seed=1)
    assert gradcheck(CentredFFT.apply, (image,))
    assert not gradcheck(WithoutConjugate.apply, (image,), raise_exception=False)
    (ours,) = torch.autograd.grad(CentredFFT.apply(image), image, gradient)
    (expected,) = torch.autograd.grad(fft2c(image), image, gradient)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("acceleration", [4, 8])
def test_m2_whole_columns_are_dropped_and_the_middle_ones_kept(name, acceleration):
    """Whole columns of k-space are left out, those in the middle never; fastMRI's masks, and their true rate."""
    width, fraction, seed = 368, default_center_fraction(acceleration), tuple(map(ord, "file1000001.h5"))
    mask = make_mask(name, width, fraction, acceleration, seed)
    drawn, n_center = subsample.create_mask_for_mask_type(name, [fraction], [acceleration])(
        (1, 5, width, 2), None, seed
    )
    assert torch.equal(mask.columns, drawn.flatten() > 0)
    assert mask.n_center == n_center == round(width * fraction)
    start = (width - n_center + 1) // 2
    assert mask.columns[start : start + n_center].all()  # contiguous, and around the centre:
    assert start <= width // 2 < start + n_center
    assert mask.acceleration_true == width / mask.columns.numpy().sum()
    assert 1 < mask.acceleration_true <= acceleration * 1.2
    kspace = Sense(torch.ones(1, 6, width, dtype=torch.complex128), mask.columns).forward(random(6, width))[0]
    assert torch.equal(kspace != 0, mask.columns.expand(6, width))  # a column is there in every row, or in none


@pytest.mark.parametrize(("name", "expected"), [("random", 4), ("equispaced_fraction", 4), ("equispaced", 1 / 0.31)])
def test_m2_the_true_acceleration_on_average(name, expected):
    """An acceleration of 4 measures a quarter of the columns; every 4th besides the middle are more than a quarter."""
    rates = [make_mask(name, 400, 0.08, 4, seed).columns.double().mean() for seed in range(100)]
    assert 1 / np.mean(rates) == pytest.approx(expected, rel=0.02)


def test_m2_data_consistency_puts_the_measured_columns_back():
    """What was measured stays: one gradient step on the data, whose backward is a projection on all other columns."""
    mask = make_mask("random", 64, 0.08, 4, 3).columns
    scanner = Sense(torch.ones(1, 6, 64, dtype=torch.complex128), mask)
    truth, guess = random(6, 64), random(6, 64, seed=1).requires_grad_()
    measured = scanner.forward(truth)
    loss = (scanner.forward(guess) - measured).abs().square().sum() / 2
    step = guess - torch.autograd.grad(loss, guess)[0]
    output = guess - scanner.adjoint(scanner.forward(guess) - measured)
    torch.testing.assert_close(output, step, rtol=0, atol=1e-13)
    expected = torch.where(mask, fft2c(truth), fft2c(guess)).detach()  # by columns of k-space
    torch.testing.assert_close(fft2c(output), expected, rtol=0, atol=1e-13)
    gradient = random(6, 64, seed=2)
    (back,) = torch.autograd.grad(output, guess, gradient)
    torch.testing.assert_close(fft2c(back), torch.where(mask, 0, fft2c(gradient)), rtol=0, atol=1e-13)


def test_m4_sparse_images_are_recovered_exactly_from_random_columns_and_not_from_equispaced_ones():
    """An image with few bright pixels comes back exactly from incoherent samples (Candes, Romberg and Tao 2006)."""
    width, generator = 64, torch.Generator().manual_seed(0)
    image = torch.zeros(8, width, dtype=torch.complex128)
    for row in image:
        phase = torch.rand(2, generator=generator, dtype=torch.float64)
        row[torch.randperm(width, generator=generator)[:2]] = torch.exp(2j * torch.pi * phase)
    errors = {}
    for name in ("random", "equispaced"):
        columns = torch.zeros(width, dtype=torch.bool)
        columns[torch.randperm(width, generator=generator)[: width // 4] if name == "random" else slice(0, None, 4)] = (
            True
        )
        kspace = torch.where(columns, fft2c(image), 0)[None, None]
        problem = Problem.of_kspace(kspace, columns[None], torch.ones_like(kspace), (8, width))
        method = Wavelet("identity", lambda_=1e-5, iterations=6000, tolerance=1e-9, maps="espirit", crop=0.0)
        found = method.solve(problem).image[0] * problem.scale[0]
        errors[name] = float((found - image).abs().square().sum() / image.abs().square().sum())
    assert errors["random"] < 1e-6
    assert errors["equispaced"] > 0.1


def test_m5_total_variation_has_one_minimum_which_two_methods_find():
    """x minimises 1/2 |M F x - y|^2 + lambda TV(x); the objective falls to one value, however it is minimised."""
    image = torch.zeros(24, 24, dtype=torch.complex128)
    image[6:18, 5:15] = 1
    columns = torch.zeros(24, dtype=torch.bool)
    columns[::2] = columns[9:15] = True
    kspace = torch.where(columns, fft2c(image), 0)[None, None]
    problem = Problem.of_kspace(kspace, columns[None], torch.ones_like(kspace), (24, 24))
    lowest = {}
    for solver in ("admm", "pdhg"):
        found = TotalVariation(
            solver, True, lambda_=0.01, iterations=1500, tolerance=1e-10, maps="espirit", crop=0.0
        ).solve(problem)
        start = problem.misfit(problem.adjoint, problem.normal(problem.adjoint)) + 0.01 * total_variation(
            differences(problem.adjoint), True
        )
        lowest[solver] = float(found.objective[-1])
        assert lowest[solver] < 0.8 * float(start)
    assert lowest["admm"] == pytest.approx(lowest["pdhg"], rel=1e-4)
