"""The lecture's identities of adaptive methods (A2, A4, A5, A8, A10), each against an independent source."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mrirecon.training.footprint import optimizer_bytes
from mrirecon.training.recipe.optimizers import make_optimizer

STEEP = torch.tensor([1.0, 25.0, 4.0], dtype=torch.float64)


def descend(method, lr, gradient, start, n_steps, box=math.inf, **options):
    """Weights before the first step of the package's method and after each, held inside [-box, box]."""
    w = nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())
    optimizer = method([w]) if callable(method) else make_optimizer(method, [w], lr, **options)
    path = [w.detach().clone()]
    for t in range(n_steps):
        w.grad = gradient(w.detach(), t)
        optimizer.step()
        path.append(w.detach().clamp_(-box, box).clone())
    return torch.stack(path).numpy()


@pytest.fixture
def valley():
    """A quadratic's gradient with noise, and a start."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 3, generator=draw, dtype=torch.float64)
    return lambda w, t: STEEP * w + noise[t], torch.tensor([1.0, -0.6, 0.3], dtype=torch.float64)


def adam(gradient, start, n_steps, lr, *, stale=False, corrected=True, beta=0.9, alpha=0.999):
    """The lecture's Adam in numpy; `stale` as printed, with the first moment before the new gradient."""
    w, m, v = start.numpy(), np.zeros(len(start)), np.zeros(len(start))
    path = [w]
    for t in range(n_steps):
        g, before = gradient(torch.from_numpy(w), t).numpy(), m
        m, v = beta * m + (1 - beta) * g, alpha * v + (1 - alpha) * g**2
        m_scale, v_scale = (1 - beta ** (t + 1), 1 - alpha ** (t + 1)) if corrected else (1.0, 1.0)
        w = w - lr * (before if stale else m) / m_scale / (np.sqrt(v / v_scale) + 1e-8)
        path.append(w)
    return np.stack(path)


def test_a2_rmsprop_divides_by_the_root_mean_square(valley):
    """RMSprop divides each gradient by the root of a moving average of its squares."""
    gradient, start = valley
    w, v, path = start.numpy(), 0.0, [start.numpy()]
    for t in range(60):
        g = gradient(torch.from_numpy(w), t).numpy()
        v = 0.9 * v + 0.1 * g**2
        w = w - 0.02 * g / (np.sqrt(v) + 1e-8)
        path.append(w)
    ours = descend("rmsprop", 0.02, gradient, start, 60, alpha=0.9)
    torchs = descend(lambda ps: torch.optim.RMSprop(ps, 0.02, alpha=0.9), None, gradient, start, 60)
    np.testing.assert_allclose(ours, np.stack(path), rtol=0, atol=1e-14)
    np.testing.assert_allclose(ours, torchs, rtol=0, atol=1e-15)  # ours is torch's fused form, which rounds otherwise


def test_a2_first_step_has_one_length_in_every_direction():
    """The first step of RMSprop is the gradient's sign, lr / sqrt(1 - alpha) long in each weight."""
    path = descend("rmsprop", 0.02, lambda w, t: STEEP * w, [1.0, -0.6, 0.3], 1)
    np.testing.assert_allclose(path[1] - path[0], 0.02 / math.sqrt(0.01) * np.array([-1, 1, -1]), rtol=1e-6)


def test_a4_adam_takes_the_new_first_moment(valley):
    """Adam steps along the average with the new gradient; as printed, without it, it is another method."""
    gradient, start = valley
    ours = descend("adam", 0.05, gradient, start, 60)
    torchs = descend(lambda ps: torch.optim.Adam(ps, 0.05), None, gradient, start, 60)
    np.testing.assert_allclose(ours, adam(gradient, start, 60, 0.05), rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours, torchs, rtol=0, atol=1e-15)  # ours is torch's fused form, which rounds otherwise
    assert abs(ours - adam(gradient, start, 60, 0.05, stale=True)).max() > 0.05


def test_a5_without_bias_correction_the_first_step_is_longer(valley):
    """Of a constant gradient the uncorrected step is lr (1 - b^t) / sqrt(1 - a^t), 3.16 lr at first; corrected, lr."""
    t = np.arange(1, 2001)
    ones = torch.ones(1, dtype=torch.float64)
    corrected = -np.diff(descend("adam", 1.0, lambda w, _: torch.ones_like(w), ones, 2000)[:, 0])
    uncorrected = -np.diff(adam(lambda w, _: torch.ones_like(w), ones, 2000, 1.0, corrected=False)[:, 0])
    formula = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
    np.testing.assert_allclose(corrected, 1, rtol=1e-6)
    np.testing.assert_allclose(uncorrected, formula, rtol=1e-6)
    assert uncorrected[0] == pytest.approx(math.sqrt(10), rel=1e-6)
    assert uncorrected[0] > uncorrected[-1] > corrected[-1]
    gradient, start = valley
    assert np.isfinite(adam(gradient, start, 60, 0.05, corrected=False)).all()


def test_a5_uncorrected_adam_is_adam_at_another_rate(valley):
    """What bias correction does is a factor on the learning rate of each step."""
    gradient, start = valley
    w = nn.Parameter(start.clone())
    optimizer = make_optimizer("adam", [w], 0.05)
    for t in range(60):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - 0.9 ** (t + 1)) / math.sqrt(1 - 0.999 ** (t + 1))
        w.grad = gradient(w.detach(), t)
        optimizer.step()
    uncorrected = adam(gradient, start, 60, 0.05, corrected=False)
    np.testing.assert_allclose(w.detach().numpy(), uncorrected[-1], rtol=0, atol=1e-5)  # eps is scaled as well


@pytest.mark.parametrize(
    ("peak", "period", "betas", "n_steps"), [(3, 3, (0.0, 0.1), 300), (110, 101, (0.9, 0.99), 2500)]
)
def test_a8_adam_goes_to_the_worst_point(peak, period, betas, n_steps):
    """Adam fails on a simple problem (Reddi et al. 2018): x in [-1, 1], a loss that falls to the left on the mean."""
    gradients = [peak, *[-1] * (period - 1)]
    assert sum(gradients) > 0  # so that -1 is best and 1 is worst

    def gradient(w, t):
        return torch.full_like(w, gradients[t % period])

    ends = {name: descend(name, 0.04, gradient, [0.0], n_steps, 1, betas=betas) for name in ("adam", "amsgrad")}
    assert ends["adam"][-n_steps // 5 :].mean() > 0.5
    assert ends["amsgrad"][-n_steps // 5 :].mean() < -0.5


@pytest.mark.parametrize(("method", "buffers"), [("sgd", 1), ("momentum", 2), ("rmsprop", 2), ("adam", 3)])
def test_a10_buffers(method, buffers):
    """Adam keeps three buffers and SGD with momentum two, the weights among them."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3))
    optimizer = make_optimizer(method, network, 1e-3)
    network(torch.randn(1, 1, 8, 8)).square().mean().backward()
    optimizer.step()
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    assert optimizer_bytes(optimizer) == (buffers - 1) * weights
