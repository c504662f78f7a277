"""Schedules are closed forms of the step."""

import itertools

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from mrirecon.config import ScheduleConfig
from mrirecon.errors import InputError
from mrirecon.training.schedules import SCHEDULES, make_schedule, schedule_factor


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


def test_cosine_equals_torch_without_warmup():
    ours, theirs = optimizer(), optimizer()
    got = rates(make_schedule(ours, ScheduleConfig("cosine"), 50), ours, 50)
    want = rates(CosineAnnealingLR(theirs, 49), theirs, 50)
    assert got == pytest.approx(want, abs=1e-12)


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


def test_wrong_schedules():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        schedule_factor(ScheduleConfig("cosin"), 10)
    with pytest.raises(InputError, match="leaves none of the 10 steps"):
        schedule_factor(ScheduleConfig("step", warmup=10), 10)
    for wrong in ({"step_at": 3.0}, {"factor": -1.0}):
        with pytest.raises(InputError, match="a share from 0 to 1, and 0 or more"):
            schedule_factor(ScheduleConfig("step", **wrong), 10)
