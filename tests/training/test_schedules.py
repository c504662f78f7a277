"""Schedules are closed forms of the step."""

import itertools
import re

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, PolynomialLR, ReduceLROnPlateau

from mrirecon.config import ScheduleConfig
from mrirecon.errors import InputError
from mrirecon.training.recipe.optimizers import make_optimizer
from mrirecon.training.recipe.schedules import SCHEDULES, make_schedule, resolve_auto, schedule_factor


def rates(schedule, optimizer, n_steps):
    seen = []
    for _ in range(n_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def optimizer(lr=0.5):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


@pytest.mark.parametrize(("n_steps", "warmup"), [(100, 0.0), (100, 0.1), (37, 0.25)])
def test_onecycle_equals_torch(n_steps, warmup):
    ours, theirs = optimizer(), optimizer()
    got = rates(make_schedule(ours, ScheduleConfig("onecycle", warmup), n_steps), ours, n_steps)
    want = rates(
        OneCycleLR(theirs, 0.5, total_steps=n_steps, pct_start=warmup or 0.3, cycle_momentum=False),
        theirs,
        n_steps - 1,
    )
    assert got[: n_steps - 1] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    ("config", "torchs"),
    [
        (ScheduleConfig("cosine"), lambda o: CosineAnnealingLR(o, 49)),
        (ScheduleConfig("cosine", final=0.1), lambda o: CosineAnnealingLR(o, 49, eta_min=0.05)),
        (ScheduleConfig("linear", final=0.01), lambda o: LinearLR(o, 1.0, 0.01, total_iters=50)),
        (ScheduleConfig("polynomial", power=0.9), lambda o: PolynomialLR(o, total_iters=50, power=0.9)),
        (ScheduleConfig("polynomial", power=1.0), lambda o: LinearLR(o, 1.0, 0.0, total_iters=50)),
    ],
)
def test_equals_torch_without_warmup(config, torchs):
    ours, theirs = optimizer(), optimizer()
    got = rates(make_schedule(ours, config, 50), ours, 50)
    want = rates(torchs(theirs), theirs, 50)
    assert got == pytest.approx(want, abs=1e-12)


def test_wsd_rises_stays_and_falls_in_a_line():
    """Hu et al. 2024: warm-up, stable, decay; shares of the whole run."""
    factor = schedule_factor(ScheduleConfig("wsd", warmup=0.1, decay=0.2, final=0.05), 100)
    assert [factor(s) for s in range(10)] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert [factor(s) for s in range(10, 81)] == pytest.approx([1.0] * 71)
    assert [factor(s) for s in range(80, 100)] == pytest.approx([1 - 0.95 * (s - 80) / 20 for s in range(80, 100)])


def test_plateau_equals_torch():
    scores = [0.1, 0.2, 0.15, 0.2, 0.19, 0.3, 0.29, 0.28, 0.2, 0.2, 0.2, 0.1, 0.31, 0.3, 0.3, 0.3]
    ours, theirs = optimizer(), optimizer()
    schedule = make_schedule(ours, ScheduleConfig("plateau", factor=0.5, patience=2), 1000)
    reference = ReduceLROnPlateau(theirs, mode="max", factor=0.5, patience=2, threshold=0.0)
    for score in scores:
        ours.step()
        schedule.step()
        schedule.observe(score)
        reference.step(score)
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    assert ours.param_groups[0]["lr"] == 0.5 * 0.5**4


def test_plateau_remembers_across_a_restart():
    def observed(restart):
        schedule = make_schedule(optimizer(), ScheduleConfig("plateau", factor=0.5, patience=1), 100)
        for i, score in enumerate([0.5, 0.4, 0.4, 0.6, 0.5]):
            if i == restart:
                state = schedule.state_dict()
                schedule = make_schedule(optimizer(), ScheduleConfig("plateau", factor=0.5, patience=1), 100)
                schedule.load_state_dict(state)
            schedule.observe(score)
        return schedule.state_dict()

    assert [observed(i) for i in range(5)] == [observed(None)] * 5


def test_auto_is_onecycle_linear_for_muon_and_constant_for_schedule_free():
    def chosen(name, **given):
        made = make_optimizer(name, [nn.Parameter(torch.zeros(2, 2))], 0.1)
        config = resolve_auto(ScheduleConfig("auto", **given), made)
        return config.name, config.warmup

    assert chosen("adamw") == ("onecycle", 0.0)
    assert chosen("muon") == ("linear", 0.0)
    assert chosen("schedulefree_adamw") == ("constant", 0.05)
    assert chosen("schedulefree_sgd", warmup=0.2) == ("constant", 0.2)


def test_step_drops_at_its_share():
    factor = schedule_factor(ScheduleConfig("step", step_at=0.8, factor=0.1), 50)
    assert [factor(s) for s in (0, 39, 40, 49)] == [1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_to_the_top_and_is_never_zero(name):
    factor = schedule_factor(ScheduleConfig(name, warmup=10), 100)
    ramp = [factor(s) for s in range(11)]
    assert ramp[0] > 0
    assert all(b > a for a, b in itertools.pairwise(ramp[:10]))
    assert max(ramp) == pytest.approx(1.0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_short_runs_have_finite_rates(name, n_steps):
    factor = schedule_factor(ScheduleConfig(name), n_steps)
    assert all(0 < factor(s) <= 1 or (name == "cosine" and s == n_steps - 1) for s in range(n_steps))
    assert 0 <= factor(n_steps) <= 1  # asked for after the last step


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 2, 10, 37])
@pytest.mark.parametrize("warmup", [0.01, 0.3, 0.6, 0.96, 0.999, 1, 1.5, 9.4, 9.6])
def test_a_warmup_leaves_steps_and_stays_below_the_top(name, n_steps, warmup):
    try:
        factor = schedule_factor(ScheduleConfig(name, warmup), n_steps)
    except InputError as error:
        said = str(error)
    else:
        said = ""
        assert all(0 <= factor(step) <= 1 + 1e-12 for step in range(n_steps + 1))  # torch asks once more at the end
    assert re.search("^$|leaves none of the|lowers the rate", said)


def test_wrong_schedules():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        schedule_factor(ScheduleConfig("cosin"), 10)
    with pytest.raises(InputError, match="leaves none of the 10 steps"):
        schedule_factor(ScheduleConfig("step", warmup=10), 10)
    for overlapping in (ScheduleConfig("wsd", 0.9, decay=0.5), ScheduleConfig("step", 0.9, step_at=0.5)):
        with pytest.raises(InputError, match="lowers the rate"):
            schedule_factor(overlapping, 20)
    with pytest.raises(InputError, match="must be below 1"):
        schedule_factor(ScheduleConfig("plateau", factor=5.0), 10)
    for wrong in ({"final": 2.0}, {"power": 0.0}, {"decay": 0.0}, {"patience": -1}):
        with pytest.raises(InputError, match="a share above 0"):
            schedule_factor(ScheduleConfig("wsd", **wrong), 10)
    for wrong in ({"step_at": 3.0}, {"factor": -1.0}):
        with pytest.raises(InputError, match="a share from 0 to 1, and 0 or more"):
            schedule_factor(ScheduleConfig("step", **wrong), 10)
