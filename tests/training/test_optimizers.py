"""Each optimizer equals its published formula; weight decay and options go where they belong."""

import itertools
import math

import pytest
import torch
from torch import nn

from mrirecon import configfile
from mrirecon.config import TrainConfig
from mrirecon.errors import InputError
from mrirecon.training.recipe.optimizers import OPTIMIZERS, has_modes, make_optimizer

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


def adagrad(w, g, s, lr, eps=1e-10):
    """Duchi, Hazan & Singer 2011, diagonal form."""
    s["v"] = s.get("v", torch.zeros_like(w)) + g**2
    return w - lr * g / (s["v"].sqrt() + eps)


def amsgrad(w, g, s, lr, betas=(0.9, 0.999), eps=1e-8):
    """Reddi, Kale & Kumar 2018, algorithm 2: the second moment never falls; with Adam's bias corrections."""
    s["t"] = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", torch.zeros_like(w)) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", torch.zeros_like(w)) + (1 - betas[1]) * g**2
    s["top"] = torch.maximum(s.get("top", torch.zeros_like(w)), s["v"])
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["top"] / (1 - betas[1] ** s["t"])
    return w - lr * m / (v.sqrt() + eps)


def nadamw(w, g, s, lr, betas=(0.9, 0.999), eps=1e-8):
    """Choi et al. 2019, table 1 (NAdam), with the constant beta of AlgoPerf's baseline: m is decayed once more."""
    s["t"] = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", torch.zeros_like(w)) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", torch.zeros_like(w)) + (1 - betas[1]) * g**2
    m = (betas[0] * s["m"] + (1 - betas[0]) * g) / (1 - betas[0] ** s["t"])
    return w - lr * m / ((s["v"] / (1 - betas[1] ** s["t"])).sqrt() + eps)


def lamb(w, g, s, lr):
    """You et al. 2020, algorithm 2: Adam's step r, scaled to the norm of the layer (phi is the identity)."""
    r = w - adam(w, g, s, 1.0, eps=1e-6)
    trust = w.norm() / r.norm() if w.norm() > 0 and r.norm() > 0 else 1.0
    return w - lr * trust * r


def lion(w, g, s, lr, betas=(0.9, 0.99)):
    """Chen et al. 2023, algorithm 2."""
    m = s.get("m", torch.zeros_like(w))
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return w - lr * torch.sign(betas[0] * m + (1 - betas[0]) * g)


def madgrad(w, g, s, lr, momentum=0.9, eps=1e-6):
    """Defazio & Jelassi 2022, algorithm 1; the authors' code adds eps to the rate."""
    s["k"] = s.get("k", 0) + 1
    s.setdefault("x0", w)
    rate = (lr + eps) * math.sqrt(s["k"])
    s["s"] = s.get("s", torch.zeros_like(w)) + rate * g
    s["v"] = s.get("v", torch.zeros_like(w)) + rate * g**2
    z = s["x0"] - s["s"] / (s["v"] ** (1 / 3) + eps)
    return momentum * w + (1 - momentum) * z


def schedulefree_sgd(w, g, s, lr, beta=0.9):
    """Defazio et al. 2024, equations 1 to 3 at a constant rate; w is y, where gradients are taken."""
    s["t"] = s.get("t", 0) + 1
    z, x = s.get("z", w), s.get("x", w)
    s["z"] = z - lr * g
    s["x"] = (1 - 1 / s["t"]) * x + s["z"] / s["t"]
    return (1 - beta) * s["z"] + beta * s["x"]


def schedulefree_adamw(w, g, s, lr, betas=(0.9, 0.999), eps=1e-8):
    """The same, algorithm 1, with Adam's denominator."""
    s["k"] = s.get("k", 0) + 1
    s["v"] = betas[1] * s.get("v", torch.zeros_like(w)) + (1 - betas[1]) * g**2
    direction = g / ((s["v"] / (1 - betas[1] ** s["k"])).sqrt() + eps)
    return schedulefree_sgd(w, direction, s, lr, betas[0])


FORMULAS = {
    "gd": gd,
    "sgd": gd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adamw": adam,  # without decay
    "amsgrad": amsgrad,
    "nadamw": nadamw,
    "lamb": lamb,
    "lion": lion,
    "madgrad": madgrad,
    "schedulefree_sgd": schedulefree_sgd,
    "schedulefree_adamw": schedulefree_adamw,
}
ITERATIVE = {"muon"}  # orthogonalises in bfloat16 by an iteration, see test_muon.py
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


def test_a_formula_or_a_test_of_its_own_stands_here_for_every_method():
    assert FORMULAS.keys() | ITERATIVE == OPTIMIZERS.keys()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ITERATIVE])
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
    path, _ = run(name, 300, lr={"adagrad": 0.5}.get(name, LR))  # its rate falls as 1 / sqrt(steps)
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
        optimizer = make_optimizer("amsgrad" if amsgrad else "adam", [x], 0.5, betas=[0.0, 1 / (1 + 9)])
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_a_method_lacks_are_refused(name):
    option = next(o for o in ("betas", "momentum", "alpha") if o not in OPTIMIZERS[name].options)
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
    for wrong in ([2.0, 3.0], [1.0, 1.0], [-0.1, 0.9]):
        with pytest.raises(InputError, match="at least 0 and below 1"):
            make_optimizer("lamb", nn.Linear(1, 1), 0.1, betas=wrong)
    with pytest.raises(InputError, match="the first must be above 0"):
        make_optimizer("schedulefree_adamw", nn.Linear(1, 1), 0.1, betas=[0.0, 0.99])
    with pytest.raises(InputError, match="weight_decay is -1"):
        make_optimizer("sgd", nn.Linear(1, 1), 0.1, weight_decay=-1)
    with pytest.raises(InputError, match=r"makes no torch\.optim\.Optimizer"):
        make_optimizer(lambda groups, lr: [], nn.Linear(1, 1), 0.1)


MODAL = [name for name in OPTIMIZERS if has_modes(run(name, 1)[1])]


def test_schedule_free_methods_have_modes():
    assert MODAL == ["schedulefree_sgd", "schedulefree_adamw"]


@pytest.mark.parametrize("name", MODAL)
def test_schedule_free_evaluates_the_average_of_its_base_iterates(name):
    """Defazio et al. 2024: at a constant rate x is the mean of all z."""
    w = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    optimizer = make_optimizer(name, [w], LR)
    z = []
    for _ in range(30):
        optimizer.zero_grad()
        quadratic(w).backward()
        optimizer.step()
        z.append(optimizer.state[w]["z"].clone())
    optimizer.eval()
    torch.testing.assert_close(w.detach(), torch.stack(z).mean(0), rtol=1e-10, atol=1e-12)


def test_muon_leaves_the_output_layer_and_vectors_to_adamw():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    muon = make_optimizer("muon", model, 0.01, weight_decay=0.1)
    adamw = make_optimizer(
        "adamw", [p.clone().detach().requires_grad_() for p in model.parameters()], 0.01, 0.1, betas=(0.9, 0.95)
    )
    of_muon = {id(p) for g in muon.param_groups if g["use_muon"] for p in g["params"]}
    assert of_muon == {id(model[0].weight)}
    copies = [p for group in adamw.param_groups for p in group["params"]]
    order = [p for p in model.parameters() if p.ndim > 1] + [p for p in model.parameters() if p.ndim == 1]
    for step in range(3):
        for p, copy in zip(order, copies, strict=True):
            p.grad = torch.full_like(p, 0.3 * (-1) ** step + 0.1)
            copy.grad = p.grad.clone()
        muon.step()
        adamw.step()
    for p, copy in zip(order, copies, strict=True):
        if id(p) not in of_muon:
            torch.testing.assert_close(p, copy, rtol=1e-6, atol=1e-8)


def test_nadamw_is_not_torchs_nadam():
    ours, _ = run("nadamw", 5)
    theirs, _ = run("torch.optim.NAdam", 5)
    assert not torch.allclose(ours[-1], theirs[-1], rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "nadamw", "lion", "muon"])
def test_decoupled_decay_acts_alone_without_gradient(name):
    w = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = make_optimizer(name, [w], 0.1, weight_decay=0.5)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), 0.95, dtype=torch.float64))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_method_keeps_decay_and_vectors_apart(name):
    """Parameter groups: what is decayed has two axes or more, and every parameter is in one group."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    optimizer = make_optimizer(name, model, 1e-3, weight_decay=0.1)
    grouped = [(p, g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]]
    assert {id(p) for p, _ in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))
    assert all(decay == (0.1 if p.ndim > 1 else 0.0) for p, decay in grouped)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_method_has_a_shipped_overlay(name):
    shipped = configfile.load(TrainConfig, f"optimizer/{name}").optimizer
    assert shipped.name == name
    assert shipped.lr == OPTIMIZERS[name].lr
    make_optimizer(name, nn.Linear(2, 2), shipped.lr, shipped.weight_decay, **shipped.options)
