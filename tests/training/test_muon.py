"""Muon: its iteration against singular value decompositions and on hard gradients, its step against timm's."""

import pytest
import timm.optim
import torch
from torch import nn

from mrirecon.models.unet import UNet
from mrirecon.training.recipe.muon import in_blocks, orthogonalised
from mrirecon.training.recipe.optimizers import make_optimizer, muon_groups

JORDAN = (3.4445, -4.7750, 2.0315)
BF16_LARGEST = 1.32


def quintic(s):
    a, b, c = JORDAN
    return a * s + b * s**3 + c * s**5


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def of_singular_values(values, n_columns):
    n = len(values)
    u, v = (torch.linalg.qr(random(k, n, seed=k, dtype=torch.float64))[0] for k in (n, n_columns))
    return u @ torch.diag(values) @ v.T


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (32, 288), (3, 16, 40)])
@pytest.mark.parametrize("iterations", [1, 3, 5])
def test_singular_values_go_through_the_polynomial_and_vectors_stay(shape, iterations):
    matrix = random(*shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / torch.linalg.matrix_norm(matrix)[..., None]
    for _ in range(iterations):
        s = quintic(s)
    torch.testing.assert_close(
        orthogonalised(matrix, iterations, torch.float64), (u * s[..., None, :]) @ vh, rtol=1e-6, atol=1e-6
    )


def test_three_iterations_bring_all_but_the_smallest_near_to_one():
    """From 1/50 of the Frobenius norm on: between .67 and 1.21, in bfloat16 with its rounding."""
    values = torch.cat([torch.full((1,), 0.9), torch.linspace(0.02, 0.2, 15)]).double()
    found = torch.linalg.svdvals(orthogonalised(of_singular_values(values / values.norm(), 144)).double())
    assert found.min() > 0.6
    assert found.max() < BF16_LARGEST


def gradients():
    """Gradients of all convolutions of a U-Net in training, after none and after some steps."""
    torch.manual_seed(0)
    network = UNet(channels=8, pools=3)
    optimizer = make_optimizer("muon", network, 0.01)
    image = torch.randn(1, 1, 48, 40)
    for step in range(13):
        optimizer.zero_grad()
        (network(image) - image.roll(2, -1)).abs().mean().backward()
        if step in (0, 12):
            yield from (p.grad.flatten(1).clone() for p in network.parameters() if p.ndim > 2)
        optimizer.step()


def hard():
    yield "ill-conditioned", of_singular_values(torch.logspace(0, -8, 64, dtype=torch.float64), 576).float()
    yield "rank 1", torch.outer(random(64), random(576, seed=1))
    yield "rank 3", random(64, 3) @ random(3, 576, seed=1)
    yield "one entry", torch.zeros(64, 576).index_put_((torch.tensor(3), torch.tensor(5)), torch.tensor(1.0))
    yield "equal rows", random(1, 576).expand(64, 576)
    yield "zero", torch.zeros(64, 576)
    yield "tiny", 1e-25 * random(64, 576)
    yield "huge", 1e18 * random(64, 576)
    for i, gradient in enumerate(gradients()):
        yield f"of a U-Net {i}", gradient


def test_hard_gradients_never_grow():
    """A polynomial steeper at 0 passed on random matrices and reached 1e13 on gradients of a network."""
    for name, gradient in hard():
        found = orthogonalised(gradient)
        assert bool(torch.isfinite(found).all()), name
        largest = float(torch.linalg.matrix_norm(found.double(), 2))
        assert largest < BF16_LARGEST, (name, largest)
        expected = orthogonalised(gradient.double(), dtype=torch.float64)
        scale = max(float(torch.linalg.matrix_norm(expected)), 1e-12)
        assert float(torch.linalg.matrix_norm(found.double() - expected)) < 0.2 * scale + 1e-9, name


def stepped(make, shapes, n_steps=4):
    torch.manual_seed(1)
    weights = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = make(weights)
    for step in range(n_steps):
        for k, w in enumerate(weights):
            w.grad = random(*w.shape, seed=10 * step + k)
        optimizer.step()
    return [w.detach().clone() for w in weights]


SHAPES = [(16, 8, 3, 3), (16, 8, 3, 3), (8, 16, 2, 2), (12, 30), (7,), (2, 16, 1, 1)]


def test_steps_are_timms_with_the_same_iteration():
    """Momentum, decay, step size and which are AdamW's, over four steps; bfloat16 rounds both."""

    def ours(weights):
        return make_optimizer("muon", weights, 0.05, weight_decay=0.1, momentum=0.95)

    def timms(weights):
        wanted = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim == 1]
        groups = muon_groups([{"params": p, "weight_decay": d} for p, d in zip(wanted, (0.1, 0.0), strict=True)])
        for group in groups:
            group |= {"nesterov": group["use_muon"], "eps": 1e-8}
        return timm.optim.Muon(
            groups, lr=0.05, momentum=0.95, betas=(0.9, 0.95), ns_steps=3, ns_coefficients=JORDAN,
            adjust_lr_fn="match_rms_adamw", eps=1e-8,
        )  # fmt: skip

    for mine, theirs, start in zip(
        *(stepped(make, SHAPES) for make in (ours, timms)), stepped(ours, SHAPES, 0), strict=True
    ):
        moved = float((theirs - start).norm())
        assert moved > 0.01
        assert float((mine - theirs).norm()) < 0.02 * moved


def test_a_step_without_gradients_moves_nothing():
    weights = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(3))]
    make_optimizer("muon", weights, 0.1).step()
    assert all(bool((w == 1).all()) for w in weights)


def test_it_goes_on_exactly_from_its_state():
    def run(n_steps, state=None, weights=None):
        weights = weights or [nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(3))]
        optimizer = make_optimizer("muon", weights, 0.05, weight_decay=0.1)
        if state:
            optimizer.load_state_dict(state[0])
        for step in range(state[1] if state else 0, n_steps):
            for k, w in enumerate(weights):
                w.grad = random(*w.shape, seed=7 * step + k)
            optimizer.step()
        return weights, optimizer.state_dict()

    whole, _ = run(6)
    half, kept = run(3)
    resumed, _ = run(6, (kept, 3), half)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


@pytest.mark.parametrize(("shape", "axis"), [((24, 40), 0), ((40, 24), 1), ((3, 24, 40), 1), ((10, 40), 0)])
def test_blocks_of_the_smaller_side_are_orthogonal_each_by_itself(shape, axis):
    matrices = random(*shape)
    blocks = [orthogonalised(block) for block in matrices.split(10, axis)]
    assert torch.equal(in_blocks(matrices, rows=10), torch.cat(blocks, axis))
    assert torch.equal(in_blocks(matrices, rows=24), orthogonalised(matrices))


def trained(name, seed, n_steps=120):
    """The mean loss of the last of `n_steps`, each on a new image, of a U-Net with more than `_ROWS` channels."""
    torch.manual_seed(seed)
    network = UNet(channels=80, pools=2, residual=True)
    lr = 0.005
    if name == "timm":
        wanted = muon_groups([{"params": list(network.parameters())}])
        optimizer = timm.optim.Muon(wanted, lr=lr, momentum=0.8, nesterov=True, adjust_lr_fn="match_rms_adamw")
    else:
        optimizer = make_optimizer("muon", network, lr)
    losses = []
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / n_steps)
        optimizer.zero_grad()
        target = nn.functional.interpolate(random(1, 1, 6, 6, seed=step), size=(48, 48), mode="bilinear")
        loss = (network(target + 0.3 * random(1, 1, 48, 48, seed=1000 + step)) - target).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


@pytest.mark.slow  # six trainings, two minutes
def test_a_training_ends_as_well_as_with_timms_iterations_on_whole_matrices():
    """Three iterations in bfloat16 on blocks, against timm's five on whole matrices, over three seeds."""
    ours, theirs = ([trained(name, seed) for seed in range(3)] for name in ("ours", "timm"))
    assert sum(ours) < 1.05 * sum(theirs), (ours, theirs)
