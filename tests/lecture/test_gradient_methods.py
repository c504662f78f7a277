"""Gradient methods of the lecture (LeCun & Canziani 2020, week 5): its identities, numbered G, hold for the package."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.config import ScheduleConfig
from mrirecon.models import NORMS, make_norm
from mrirecon.training import make_optimizer, make_schedule

MU, L = 1.0, 25.0
AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
A = AXES @ np.diag([MU, 3.0, 8.0, L]) @ AXES.T
START = np.array([1.0, -2.0, 0.5, 1.5])
STEPS, RATE, BETA = 60, 0.02, 0.9
RATES = {"constant": np.full(STEPS, RATE), "linear": RATE * (1 - np.arange(STEPS) / STEPS)}


def gradient(w):
    """Of a bowl with a wavy floor: neither linear nor convex, in numpy."""
    return A @ w + 2 * np.sin(3 * w)


def of_package(name, lr=RATE, schedule="constant", gradient=gradient, steps=STEPS, **options):
    """All weights of the package's optimizer, the start first."""
    return of_torch(lambda w: make_optimizer(name, [w], lr, **options), schedule, gradient, steps)


def of_torch(build, schedule="constant", gradient=gradient, steps=STEPS):
    w = nn.Parameter(torch.tensor(START))
    optimizer = build(w)
    rates = make_schedule(optimizer, ScheduleConfig(name=schedule), steps)
    path = [START]
    for _ in range(steps):
        w.grad = torch.tensor(gradient(w.detach().numpy()))
        optimizer.step()
        rates.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def heavy_ball(rates, betas):
    before, w, path = START, START, [START]
    for rate, beta in zip(rates, betas, strict=True):
        before, w = w, w - rate * gradient(w) + beta * (w - before)
        path.append(w)
    return np.array(path)


def averaging(rates, c):
    z, x, path = START, START, [START]
    for rate in rates:
        z = z - rate / c * gradient(x)
        x = (1 - c) * x + c * z
        path.append(x)
    return np.array(path)


def difference(path, other):
    return np.abs(path - other).max()


@pytest.mark.parametrize("share", [0.3, 1.0, 2 / (1 + MU / L), 1.99, 2.01])  # of 1 / L
def test_g1_gradient_descent_contracts_on_quadratics(share):
    """On a quadratic a step scales the error by at most max(|1 - g mu|, |1 - g L|); it diverges iff g > 2 / L."""
    lr = share / L
    path = of_package("gd", lr, gradient=lambda w: A @ w, steps=2000)
    bound = max(abs(1 - lr * MU), abs(1 - lr * L))
    errors = [e for e in np.linalg.norm(path, axis=1) if e > 1e-30]
    assert all(after <= bound * before * (1 + 1e-10) for before, after in itertools.pairwise(errors))
    assert errors[-1] / errors[-2] == pytest.approx(bound, rel=1e-10)  # and in the end it is that
    assert (errors[-1] > errors[0]) == (lr > 2 / L)
    if share == 1.0:
        assert bound == 1 - MU / L


@pytest.mark.parametrize("norm", NORMS)
def test_g3_a_sample_s_gradient_is_right_on_average_but_with_batch_norm(norm):
    """The mean of the samples' gradients is the gradient of the batch, so SGD is right on average; not with BN."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), make_norm(norm, 4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)).double()
    images, target = torch.randn(2, 6, 1, 12, 12, dtype=torch.float64)

    def gradients(part):
        loss = nn.functional.mse_loss(network(images[part]), target[part, :, 2:-2, 2:-2])
        return torch.cat([g.ravel() for g in torch.autograd.grad(loss, network.parameters())])

    batch = gradients(slice(None))
    mean = torch.stack([gradients(slice(i, i + 1)) for i in range(6)]).mean(0)
    error = ((mean - batch).norm() / batch.norm()).item()
    assert error > 1e-2 if norm == "batch" else error < 1e-12


@pytest.mark.parametrize("schedule", RATES)
def test_g8_momentum_is_two_lines(schedule):
    """p' = b p + grad f(w), w' = w - g p': what the package calls momentum, and torch."""
    w, p, path = START, 0, [START]
    for rate in RATES[schedule]:
        p = BETA * p + gradient(w)
        w = w - rate * p
        path.append(w)
    package = of_package("momentum", schedule=schedule, momentum=BETA)
    assert difference(package, np.array(path)) < 1e-13
    assert difference(package, of_torch(lambda w: torch.optim.SGD([w], RATE, momentum=BETA), schedule)) == 0


def test_g9_heavy_ball_is_momentum_at_a_constant_rate():
    """w' = w - g grad f(w) + b (w - w_prev) is the same method; with a schedule only for b_k = b g_k / g_(k-1)."""
    assert difference(of_package("momentum", momentum=BETA), heavy_ball(RATES["constant"], [BETA] * STEPS)) < 1e-12
    rates, package = RATES["linear"], of_package("momentum", schedule="linear", momentum=BETA)
    assert difference(package, heavy_ball(rates, BETA * rates / np.roll(rates, 1))) < 1e-12
    assert difference(package, heavy_ball(rates, [BETA] * STEPS)) > 1e-2


def test_g10_averaging_form_is_momentum():
    """z' = z - eta grad f(x), x' = (1 - c) x + c z' is momentum with b = 1 - c and g = eta c, at a constant rate."""
    assert difference(of_package("momentum", momentum=BETA), averaging(RATES["constant"], 1 - BETA)) < 1e-12
    falling = averaging(RATES["linear"], 1 - BETA)
    assert difference(of_package("momentum", schedule="linear", momentum=BETA), falling) > 1e-2
    assert difference(heavy_ball(RATES["linear"], [BETA] * STEPS), falling) < 1e-12  # both keep b where the rate falls


def test_g11_momentum_needs_beta_below_one():
    """b = 0 is gradient descent; with b below 1 a quadratic is solved, at or above 1 it is not."""
    assert difference(of_package("momentum", momentum=0.0), of_package("gd")) == 0
    for beta, solved in ((0.5, True), (0.9, True), (0.99, True), (1.0, False), (1.01, False)):
        path = of_package("momentum", momentum=beta, gradient=lambda w: A @ w, steps=1500)
        norms = np.linalg.norm(path, axis=1)
        assert (norms[-1] < 1e-2) == solved
        assert (norms.max() > 1e2) == (beta > 1)


@pytest.mark.parametrize("schedule", RATES)
def test_g13_nesterov_is_its_formula(schedule):
    """p' = b p + grad f(w), w' = w - g (grad f(w) + b p'): what the package calls nesterov, and torch."""
    w, p, path = START, 0, [START]
    for rate in RATES[schedule]:
        g = gradient(w)
        p = BETA * p + g
        w = w - rate * (g + BETA * p)
        path.append(w)
    package = of_package("nesterov", schedule=schedule, momentum=BETA)
    assert difference(package, np.array(path)) < 1e-13
    reference = of_torch(lambda w: torch.optim.SGD([w], RATE, momentum=BETA, nesterov=True), schedule)
    assert difference(package, reference) == 0


def test_g13_nesterov_accelerates_on_quadratics():
    """With full gradients the error falls by 1 - 1/kappa per step of GD, by 1 - 1/sqrt(kappa) of Nesterov's method."""
    kappa, k = L / MU, np.arange(151)
    beta = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    options = {"lr": 1 / L, "gradient": lambda w: A @ w, "steps": 150}
    slow = of_package("gd", **options) @ AXES[:, 0]  # along the flattest axis, which decides
    fast = of_package("nesterov", **options, momentum=beta) @ AXES[:, 0]
    factor = 1 - kappa**-0.5  # a double root of Nesterov's recurrence, so the error is (1 + c k) factor^k
    c = (1 - (1 + beta) / kappa) / factor - 1
    np.testing.assert_allclose(slow / slow[0], (1 - 1 / kappa) ** k, rtol=1e-9)
    np.testing.assert_allclose(fast / fast[0], (1 + c * k) * factor**k, rtol=1e-4)
