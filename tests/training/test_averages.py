"""Averaged weights equal their closed forms and are what is evaluated and saved."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mrirecon.config import AverageConfig
from mrirecon.errors import InputError
from mrirecon.training.recipe.averages import AVERAGES, EvaluatedWeights, make_average

N_STEPS = 20


def walk(average, n=N_STEPS, seed=0):
    """Weights after each of `n` steps, all shown to `average`."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(3, 2, generator=generator, dtype=torch.float64) for _ in range(n)]
    for w in weights:
        average.update([w.clone()])
    return torch.stack(weights)


def test_ema_is_the_weighted_sum_of_all_steps():
    """With d_n = min(decay, (1 + n) / (10 + n)): average = sum of (1 - d_i) prod_{j > i} d_j times weights i."""
    average = make_average(AverageConfig("ema", decay=0.3), N_STEPS)
    weights = walk(average)
    decays = [0.0] + [min(0.3, (1 + n) / (10 + n)) for n in range(1, N_STEPS)]
    shares = torch.tensor([(1 - d) * torch.tensor(decays[i + 1 :]).double().prod() for i, d in enumerate(decays)])
    assert shares.sum().item() == pytest.approx(1)
    torch.testing.assert_close(average.values([weights[0]])[0], torch.einsum("n,nij->ij", shares, weights))


def test_ema_equals_torchs_averaged_model():
    model = nn.Linear(3, 2).double()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.05))  # below every limit but that of step 1
    ours = make_average(AverageConfig("ema", decay=0.05), N_STEPS)
    for _ in range(N_STEPS):
        for p in model.parameters():
            p.data.add_(torch.randn_like(p))
        theirs.update_parameters(model)
        ours.update(list(model.parameters()))
    for a, b in zip(ours.values(list(model.parameters())), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach())


@pytest.mark.parametrize(("start", "first"), [(0.75, 15), (0.0, 0), (0.5, 10), (0.99, 19)])
def test_swa_is_the_mean_of_the_last_steps(start, first):
    average = make_average(AverageConfig("swa", start=start), N_STEPS)
    weights = walk(average)
    torch.testing.assert_close(average.values([weights[0]])[0], weights[first:].mean(0))


def test_swa_has_no_average_before_its_start():
    average = make_average(AverageConfig("swa", start=0.75), N_STEPS)
    weights = walk(average, n=15)
    assert average.values([weights[0]]) is None


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("stop", [3, 16])
def test_a_restart_changes_nothing(name, stop):
    config = AverageConfig(name, decay=0.9)
    whole, part = make_average(config, N_STEPS), make_average(config, N_STEPS)
    weights = walk(whole)
    for w in weights[:stop]:
        part.update([w.clone()])
    resumed = make_average(config, N_STEPS)
    resumed.load(part.state_dict(), part.values([weights[0]]) or [])
    for w in weights[stop:]:
        resumed.update([w.clone()])
    assert torch.equal(resumed.values([weights[0]])[0], whole.values([weights[0]])[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AverageConfig("emma"), "unknown average 'emma'; did you mean 'ema'"),
        (AverageConfig("ema", decay=1.0), "decay 1"),
        (AverageConfig("swa", start=1.0), "start 1"),
        (AverageConfig("swa", bn_batches=0), "bn_batches 0"),
    ],
)
def test_wrong_averages_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        make_average(config, 10)


@pytest.fixture
def swapped():
    """A module whose average is that of three known weights, and what its recalibration was called with."""
    module, calls = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), []
    average = make_average(AverageConfig("swa", start=0.0), 3)

    def recalibrate():
        calls.append(module[0].weight.detach().clone())
        module[1].running_mean.fill_(7.0)
        module.eval()

    evaluated = EvaluatedWeights(module, average, recalibrate)
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(module[0].weight, value)
        evaluated.update()
    return module, evaluated, calls


def test_averages_are_in_place_with_fresh_statistics_and_the_trained_weights_come_back(swapped):
    module, evaluated, calls = swapped
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with evaluated.in_place():
        assert torch.equal(module[0].weight, torch.full((2, 2), 3.0))
        assert torch.equal(module[1].running_mean, torch.full((2,), 7.0))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert module.training
    assert [c.mean().item() for c in calls] == [3.0]  # measured with the averages in place


def test_they_come_back_after_an_error_too(swapped):
    module, evaluated, _ = swapped
    with pytest.raises(KeyboardInterrupt), evaluated.in_place():
        raise KeyboardInterrupt
    assert torch.equal(module[0].weight, torch.full((2, 2), 6.0))


@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint_holds_the_averages_and_goes_on_with_the_trained_weights(swapped, inside):
    """Whether it is saved while the averages are in place (as a plain Trainer does after validating) or not."""
    module, evaluated, calls = swapped
    checkpoint = {}
    if inside:
        with evaluated.in_place():
            checkpoint["state_dict"] = module.state_dict()
            evaluated.save(checkpoint)
    else:
        checkpoint["state_dict"] = module.state_dict()
        evaluated.save(checkpoint)
    assert torch.equal(checkpoint["state_dict"]["0.weight"], torch.full((2, 2), 3.0))
    assert torch.equal(checkpoint["state_dict"]["1.running_mean"], torch.full((2,), 7.0))
    assert len(calls) == 1
    resumed = EvaluatedWeights(module, make_average(AverageConfig("swa", start=0.0), 3), lambda: None)
    resumed.load(checkpoint)
    assert torch.equal(checkpoint["state_dict"]["0.weight"], torch.full((2, 2), 6.0))
    assert torch.equal(checkpoint["state_dict"]["1.running_mean"], torch.zeros(2))
    assert torch.equal(resumed.average.averages[0], torch.full((2, 2), 3.0))


def test_statistics_are_measured_once_for_each_step(swapped):
    module, evaluated, calls = swapped
    for _ in range(3):
        with evaluated.in_place():
            pass
    evaluated.save({"state_dict": module.state_dict()})
    assert len(calls) == 1
    evaluated.update()
    with evaluated.in_place():
        pass
    assert len(calls) == 2
