"""Each optimizer equals its published formula; weight decay and options go where they belong."""

import itertools
import math

import pytest
import torch
from torch import nn

from mrirecon.errors import InputError
from mrirecon.training.optimizers import OPTIMIZERS, make_optimizer

# The formulas, in plain tensors. Each takes (w, gradient, state, lr) and returns the next w.


def gd(w, g, s, lr):
    return w - lr * g


def momentum(w, g, s, lr, beta=0.9):
    """LeCun & Canziani 2020, week 5: p' = b p + g; w' = w - lr p'."""
    s["p"] = beta * s["p"] + g if "p" in s else g
    return w - lr * s["p"]


def nesterov(w, g, s, lr, beta=0.9):
    """Week 5: p' = b p + g; w' = w - lr (g + b p')."""
    s["p"] = beta * s["p"] + g if "p" in s else g
    return w - lr * (g + beta * s["p"])


def rmsprop(w, g, s, lr, alpha=0.99, eps=1e-8):
    s["v"] = alpha * s.get("v", torch.zeros_like(w)) + (1 - alpha) * g**2
    return w - lr * g / (s["v"].sqrt() + eps)


def adam(w, g, s, lr, betas=(0.9, 0.999), eps=1e-8):
    """Kingma & Ba 2015, algorithm 1, with the new first moment and both bias corrections."""
    s["t"] = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", torch.zeros_like(w)) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", torch.zeros_like(w)) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["v"] / (1 - betas[1] ** s["t"])
    return w - lr * m / (v.sqrt() + eps)


FORMULAS = {
    "gd": gd,
    "sgd": gd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,  # without decay
}
LR = 0.03


def quadratic(w):
    """A badly scaled bowl with a turned axis; minimum 0 at (1, -2, 0.5)."""
    a = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)
    d = w.reshape(-1) - torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    return 0.5 * d @ a @ d


def run(name, n_steps, lr=LR, **options):
    w = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    optimizer = make_optimizer(name, [w], lr, **options)
    path = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        quadratic(w).backward()
        optimizer.step()
        path.append(w.detach().clone())
    return path, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_its_formula(name):
    path, _ = run(name, 25)
    w, state = torch.zeros(1, 3, dtype=torch.float64), {}
    for got in path:
        w = w.requires_grad_()
        (g,) = torch.autograd.grad(quadratic(w), w)
        w = FORMULAS[name](w.detach(), g, state, LR)
        torch.testing.assert_close(got, w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decreases_the_quadratic(name):
    path, _ = run(name, 300)
    assert quadratic(path[-1]) < 0.05 * quadratic(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_dict_round_trip_goes_on_bit_for_bit(name):
    straight, _ = run(name, 20)
    w = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    optimizer = make_optimizer(name, [w], LR)
    for step in range(20):
        if step == 9:
            fresh = nn.Parameter(w.detach().clone())
            again = make_optimizer(name, [fresh], LR)
            again.load_state_dict(optimizer.state_dict())
            w, optimizer = fresh, again
        optimizer.zero_grad()
        quadratic(w).backward()
        optimizer.step()
    assert torch.equal(w, straight[-1])


def test_gd_contracts_as_the_theory_says():
    """On a quadratic |error'| <= max(|1 - lr mu|, |1 - lr L|) |error|, and it diverges iff lr > 2 / L."""
    a = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(a)
    solution = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for lr, converges in (
        (0.9 * 2 / eigenvalues[-1].item(), True),
        (1.1 * 2 / eigenvalues[-1].item(), False),
    ):
        path, _ = run("gd", 60, lr=lr)
        errors = [torch.linalg.norm(w.flatten() - solution) for w in path]
        rate = (1 - lr * eigenvalues).abs().max()
        assert all(b <= rate * a * (1 + 1e-10) for a, b in itertools.pairwise(errors))
        assert (errors[-1] < errors[0]) == converges


def test_momentum_one_line_form_is_equal_at_constant_rate():
    """w' = w - lr g + b (w - w_prev); lecture claim G9."""
    path, _ = run("momentum", 30)
    previous = w = torch.zeros(1, 3, dtype=torch.float64)
    for got in path:
        leaf = w.clone().requires_grad_()
        (g,) = torch.autograd.grad(quadratic(leaf), leaf)
        previous, w = w, w - LR * g + 0.9 * (w - previous)
        torch.testing.assert_close(got, w, rtol=1e-12, atol=1e-13)


def test_averaging_form_of_momentum():
    """z' = z - eta g; x' = (1-c) x + c z' with b = 1 - c and lr = eta c; lecture claim G10."""
    path, _ = run("momentum", 30)
    c = 0.1
    z = x = torch.zeros(1, 3, dtype=torch.float64)
    for got in path:
        leaf = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(quadratic(leaf), leaf)
        z = z - LR / c * g
        x = (1 - c) * x + c * z
        torch.testing.assert_close(got, x, rtol=1e-11, atol=1e-12)


def test_momentum_zero_is_gd_and_above_one_diverges():
    assert torch.equal(run("momentum", 10, momentum=0.0)[0][-1], run("gd", 10)[0][-1])
    path, _ = run("momentum", 600, momentum=1.01)
    assert not quadratic(path[-1]) < quadratic(path[0])


def test_adam_does_not_converge_on_reddis_example_and_amsgrad_does():
    """Reddi, Kale & Kumar 2018: gradients C, -1, -1 on [-1, 1]; the minimum is -1, Adam goes to +1."""

    def final(amsgrad):
        x = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
        spec = {
            "class_path": "torch.optim.Adam",
            "init_args": {"betas": [0.0, 1 / (1 + 9)], "amsgrad": amsgrad},
        }
        optimizer = make_optimizer(spec, [x], 0.5)
        for t in range(1, 20001):
            x.grad = torch.full_like(x, 3.0 if t % 3 == 1 else -1.0)
            optimizer.param_groups[0]["lr"] = 0.5 / math.sqrt(t)
            optimizer.step()
            x.data.clamp_(-1, 1)
        return x.item()

    assert final(False) > 0.9
    assert final(True) < -0.9


def test_weight_decay_skips_norm_and_bias():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer("adamw", model, 1e-3, weight_decay=0.1)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(model[0].weight)}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4


def test_adamw_decay_is_decoupled():
    """Loshchilov & Hutter 2019: w' = (1 - lr wd) w - lr step; with zero gradient only the decay acts."""
    w = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = make_optimizer("adamw", [w], 0.1, weight_decay=0.5)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), 0.95, dtype=torch.float64))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_a_method_lacks_are_refused(name):
    option = "betas" if "betas" not in OPTIMIZERS[name].defaults else "momentum"
    value = [0.9, 0.99] if option == "betas" else 0.5
    with pytest.raises(InputError, match=f"has no option '{option}'"):
        make_optimizer(name, nn.Linear(1, 1), 0.1, **{option: value})


def test_names_classes_and_values():
    assert isinstance(make_optimizer("torch.optim.NAdam", nn.Linear(1, 1), 0.1), torch.optim.NAdam)
    assert isinstance(make_optimizer(torch.optim.Adagrad, nn.Linear(1, 1), 0.1), torch.optim.Adagrad)
    with pytest.raises(InputError, match="did you mean 'adamw'"):
        make_optimizer("adamww", nn.Linear(1, 1), 0.1)
    with pytest.raises(InputError, match="lr -1"):
        make_optimizer("adam", nn.Linear(1, 1), -1.0)
    with pytest.raises(InputError, match="did you mean 'AdamW'"):
        make_optimizer("torch.optim.AdmW", nn.Linear(1, 1), 0.1)
    with pytest.raises(InputError, match="os.system"):
        make_optimizer("os.system", nn.Linear(1, 1), 0.1)
    with pytest.raises(InputError, match="two numbers"):
        make_optimizer("adam", nn.Linear(1, 1), 0.1, betas=[0.9])
    with pytest.raises(InputError, match="weight_decay is -1"):
        make_optimizer("sgd", nn.Linear(1, 1), 0.1, weight_decay=-1)
    with pytest.raises(InputError, match=r"makes no torch\.optim\.Optimizer"):
        make_optimizer(lambda groups, lr: [], nn.Linear(1, 1), 0.1)


def test_an_optimizer_with_modes_is_refused():
    """Schedule-Free evaluates other weights than it trains; the trainer would score the wrong ones."""

    class TwoModes(torch.optim.SGD):
        def eval(self):
            pass

    with pytest.raises(InputError, match="a train and an eval mode"):
        make_optimizer(TwoModes, nn.Linear(1, 1), 0.1)
