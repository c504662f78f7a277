import itertools
import math
import time
from dataclasses import replace

import pytest
import torch
from result_rows import three

from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.study.identity import FIRST, LEFT_OUT, YOUNG, run_id, scale_id
from mrirecon.ablation.study.plan import Common, Plan
from mrirecon.ablation.study.records import Point, RunResult
from mrirecon.ablation.study.tune import REPLACE, WIDENINGS, apply, trial_values, wider_space
from mrirecon.config import TrainConfig
from mrirecon.configfile import keys
from mrirecon.errors import InputError
from mrirecon.tables.optimizers import OPTIMIZERS
from mrirecon.training import make_optimizer

COMMON = Common("data")
LR = "optimizer.lr"


def grid_of(**changes):
    content = {
        "name": "plan",
        "factors": {"optimizer": ["momentum", "adam"]},
        "base": {"max_steps": 10},
        "seeds": 6,
        "reference": {"optimizer": "adam"},
        "tuning": {"trials": 4, "sweep": 3},
    }
    return make_grid(content | changes)


def outcome(spec, loss=None, diverged=False):
    """A record whose loss is least at the middle of the cell's range."""
    low, high = 1e-4, 1e-1
    loss = abs(spec.values[LR] - (low * high) ** 0.5) if loss is None else loss
    points = [] if diverged else [Point(10, loss, three(0.5, 20.0, 0.1))]
    at = 3 if diverged else None
    return RunResult(
        spec.id, "x", {}, spec.stage, spec.objective, 0, 0, False, spec.seed, spec.values, 10, 2, at, points
    )


def play(plan, result=outcome):
    """Do every run as it becomes known; the records and the runs in their order."""
    done, order = {}, []
    while todo := [spec for spec in plan.runs(done) if spec.id not in done]:
        done[todo[0].id] = result(todo[0])
        order.append(todo[0])
    return done, order


def test_a_cell_is_tuned_then_swept_and_rerun():
    plan = Plan(grid_of(), COMMON)
    assert {spec.stage for spec in plan.runs({})} == {"tune"}
    _, order = play(plan, lambda spec: outcome(spec, 0.1))  # the first trial wins
    stages = [spec.stage for spec in order if spec.cell.name == "adam" and not spec.widened]
    assert stages == ["tune"] * 4 + ["sweep"] * 3 + ["rerun"] * 6
    winner = order[[spec.cell.name for spec in order].index("adam")]
    assert {spec.values[LR] for spec in order if spec.stage == "rerun" and spec.cell.name == "adam"} == {
        winner.values[LR]
    }


def test_reruns_are_on_the_seeds_of_the_grid_and_tuning_is_not():
    _, order = play(Plan(grid_of(), COMMON))
    assert {spec.seed for spec in order if spec.stage == "rerun"} == set(range(6))
    assert {spec.seed for spec in order if spec.stage != "rerun"} == {1000}


def test_a_winner_at_the_edge_widens_the_range_once():
    plan = Plan(grid_of(tuning={"trials": 16, "sweep": 0}), COMMON)
    _, order = play(plan, lambda spec: outcome(spec, -spec.values[LR]))  # ever higher rates are ever better
    further = [spec for spec in order if spec.widened]
    assert len(further) == 2 * 16
    highest = max(spec.values[LR] for spec in order if spec.cell.name == "adam" and spec.stage == "rerun")
    assert highest > 1e-1


@pytest.mark.parametrize("wide", WIDENINGS)
def test_every_winner_is_the_best_of_as_many_trials(wide):
    """Where a range is widened its trials choose the winner, those before it only the range; in old studies all do."""
    grid = grid_of(tuning={"trials": 16, "sweep": 0, "widening": wide})
    edge_of_adam = [spec for spec in Plan(grid, COMMON).runs({}) if spec.cell.name == "adam"]
    top = max(edge_of_adam, key=lambda spec: spec.values[LR])

    def result(spec):  # the highest of the declared rates is the best of all by far; the other cell has no edge
        if spec.cell.name == "momentum":
            return outcome(spec, abs(math.log(spec.values[LR] / 0.16)))
        return outcome(spec, 0.0 if spec.id == top.id else 1 + abs(spec.values[LR] - 0.2))

    done, order = play(Plan(grid, COMMON), result)
    tuned = {cell: [s for s in order if s.cell.name == cell and s.stage == "tune"] for cell in ("momentum", "adam")}
    assert [len(tuned[cell]) for cell in tuned] == [16, 32]
    wider = [spec for spec in tuned["adam"] if spec.widened]
    best = min(wider, key=lambda spec: done[spec.id].final_loss)
    (rate,) = {spec.values[LR] for spec in order if spec.cell.name == "adam" and spec.stage == "rerun"}
    assert rate == (best if wide == REPLACE else top).values[LR]
    assert best.values[LR] != top.values[LR]


def test_a_widened_range_in_which_all_diverges_leaves_the_winner_that_is_known():
    plan = Plan(grid_of(tuning={"trials": 16, "sweep": 0, "widening": REPLACE}), COMMON)
    _, order = play(plan, lambda spec: outcome(spec, -spec.values[LR], diverged=spec.widened))
    assert any(spec.widened for spec in order)
    declared = max(spec.values[LR] for spec in order if spec.cell.name == "adam" and not spec.widened)
    assert {s.values[LR] for s in order if s.cell.name == "adam" and s.stage == "rerun"} == {declared}


@pytest.mark.parametrize("wide", WIDENINGS)
@pytest.mark.parametrize("name", [name for name, entry in OPTIMIZERS.items() if not entry.whole_set])
def test_no_search_leaves_the_bounds_wherever_the_best_trial_lies(name, wide):
    """Every corner of every space, each widened; of all of its trials the optimizer can be made and takes a step."""
    dimensions = list(OPTIMIZERS[name].space)
    grid = make_grid(
        {
            "name": "corners",
            "factors": {"norm": ["instance", "group"]},
            "base": {"optimizer": {"name": name}, "max_steps": 10},
            "reference": {"norm": "group"},
            "tuning": {"trials": 8, "dimensions": dimensions, "widening": wide},
        }
    )
    spec = Plan(grid, COMMON).runs({})[0]
    ranges, grown = grid.tuning.spaces[spec.cell.name], set()
    for corner in itertools.product((0.01, 0.5, 0.99), repeat=len(ranges)):
        values = {key: low * (high / low) ** u for (key, (low, high)), u in zip(ranges.items(), corner, strict=True)}
        wider = wider_space(grid.tuning, spec.cell.name, replace(outcome(spec, 0.1), values=values)) or {}
        grown |= {key for key in wider if wider[key] != ranges[key]}
        for trial in trial_values(wider, 8, 1000, 0) if wider else ():
            assert trial["optimizer.lr"] > 0
            assert trial["optimizer.weight_decay"] >= 0
            settings = apply(trial, spec.cell.settings)
            assert 0 <= (settings["optimizer.betas"] or [0])[0] < 1
            assert 0 <= (settings["optimizer.momentum"] or 0) < 1
            options = {key: settings[f"optimizer.{key}"] for key in OPTIMIZERS[name].options}
            given = {key: value for key, value in options.items() if value not in (None, [])}
            make_optimizer(name, torch.nn.Conv2d(1, 1, 3), trial["optimizer.lr"], **given)
    assert LR in grown
    assert (grown == {LR}) == (wide == REPLACE)


def test_an_old_study_whose_wider_range_left_no_bound_keeps_its_trials():
    """They were drawn from a range that reaches beyond: a study that could go on is named as it was."""
    space = {"adam": {"lr": [1e-4, 1e-1], "one_minus_beta1": [0.1, 0.5]}}
    for trials, beyond in ((1, False), (16, True)):
        grid = grid_of(tuning={"trials": trials, "dimensions": ["lr", "one_minus_beta1"], "spaces": space})
        spec = next(spec for spec in Plan(grid, COMMON).runs({}) if spec.cell.name == "adam")
        best = replace(outcome(spec, 0.1), values={LR: 3e-3, "optimizer.one_minus_beta1": 0.49})
        high = wider_space(grid.tuning, "adam", best)["optimizer.one_minus_beta1"][1]
        assert high == pytest.approx(1.0 if beyond else 0.5 * 5**0.5)


def test_a_declared_range_stays_within_the_bounds_too():
    spaces = {"adam": {"lr": [1e-3, 1e-1], "one_minus_beta1": [0.1, 2.0]}}
    with pytest.raises(InputError, match=r"adam: the range of one_minus_beta1 is \[0\.1, 2\.0\]; it must end at 1 or"):
        grid_of(tuning={"dimensions": ["lr", "one_minus_beta1"], "spaces": spaces})
    with pytest.raises(InputError, match=r"unknown tuning.widening 'both'.* Known: add, replace"):
        grid_of(tuning={"widening": "both"})


def test_a_cell_whose_trials_all_diverge_ends_there():
    plan = Plan(grid_of(), COMMON)
    _, order = play(plan, lambda spec: outcome(spec, diverged=spec.cell.name == "momentum"))
    assert [spec.stage for spec in order if spec.cell.name == "momentum"] == ["tune"] * 4
    assert any(spec.stage == "rerun" for spec in order)


def test_the_order_of_results_does_not_matter():
    grid = grid_of()
    done, order = play(Plan(grid, COMMON))
    backwards = dict(reversed(done.items()))
    assert [spec.id for spec in Plan(grid, COMMON).runs(backwards)] == [
        spec.id for spec in Plan(grid, COMMON).runs(done)
    ]
    assert len({spec.id for spec in order}) == len(order)


def test_repeats_are_dealt_to_the_seeds():
    grid = grid_of(tuning={"trials": 4, "sweep": 0, "repeats": 2})
    _, order = play(Plan(grid, COMMON))
    reruns = [spec for spec in order if spec.stage == "rerun" and spec.cell.name == "adam"]
    assert [spec.repeat for spec in reruns] == [0, 1, 0, 1, 0, 1]
    assert {spec.seed for spec in order if spec.stage == "tune"} == {1000, 1001}


def test_both_objectives_rerun_their_own_winner():
    grid = grid_of(tuning={"trials": 4, "sweep": 0, "objectives": "both"})

    def result(spec):
        first, last = spec.values[LR], 1 / spec.values[LR]
        return replace(outcome(spec), points=[Point(1, first, three(0, 0, 0)), Point(10, last / 1e6, three(0, 0, 0))])

    _, order = play(Plan(grid, COMMON), result)
    best = {spec.objective: spec.values[LR] for spec in order if spec.stage == "rerun" and spec.cell.name == "adam"}
    assert best["area"] < best["final"]


def test_more_seeds_and_trials_keep_the_old_runs():
    few, many = grid_of(), grid_of(seeds=8, tuning={"trials": 8, "sweep": 3})
    done, order = play(Plan(few, COMMON))
    tuned = {spec.id for spec in order if spec.stage == "tune" and not spec.widened}
    assert tuned <= {spec.id for spec in Plan(many, COMMON).runs({})}
    more_seeds = Plan(grid_of(seeds=8), COMMON).runs(done)
    assert {spec.id for spec in order} <= {spec.id for spec in more_seeds}
    assert sum(spec.id not in done for spec in more_seeds) == 2 * 2


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"data.path": "/elsewhere"}, True),
        ({"device": "cuda"}, True),
        ({"logger": "wandb"}, True),
        ({"output": "here"}, True),
        ({"devices": 2}, True),
        ({"slurm.nodes": 2}, True),
        ({"slurm.time": 2}, True),
        ({"threads": 2}, False),
        ({"precision": "bf16-mixed"}, False),
        ({"protocol": "algoperf-v1"}, False),
        ({"seed": 7}, False),
        ({"optimizer.lr": 0.5}, False),
        ({"data.mask": "equispaced"}, False),
    ],
)
def test_an_identity_is_what_decides_the_numbers(change, same):
    settings = Plan(grid_of(), COMMON).runs({})[0].settings
    assert (run_id(settings | change, "tune", "data") == run_id(settings, "tune", "data")) == same


def test_every_configuration_key_has_its_place_in_an_identity():
    """A new key in none of the tables would rename the runs of all studies there are: they would be done again."""
    known = {key.name for key in keys(TrainConfig)}
    tables = (LEFT_OUT, FIRST, tuple(YOUNG))
    new = sorted(known - {key for table in tables for key in table})
    assert not new, (
        f"new configuration keys {new}: in mrirecon/ablation/study/identity.py, enter each in YOUNG with the value at "
        "which a run is what it was before there was the key, or in LEFT_OUT if it never changes a number (never in "
        "FIRST)"
    )
    gone = sorted({key for table in tables for key in table} - known)
    assert not gone, (
        f"keys {gone} of mrirecon/ablation/study/identity.py are no configuration keys any more: run identities hash "
        "them by name, so the runs of earlier studies would be done again; keep the key, or hash it under its old name"
    )
    assert len({key for table in tables for key in table}) == sum(map(len, tables)), "a key stands in two tables"


def test_keys_that_came_later_leave_the_runs_of_earlier_studies_what_they_were():
    """Those were named before there were such keys."""
    settings = Plan(grid_of(), COMMON).runs({})[0].settings
    before = {key: value for key, value in settings.items() if key not in YOUNG}
    assert set(before) >= set(FIRST)
    assert run_id(settings | YOUNG, "tune", "data") == run_id(before, "tune", "data")
    changed = {run_id(settings | {key: "other"}, "tune", "data") for key in YOUNG}
    assert len(changed | {run_id(before, "tune", "data")}) == 1 + len(YOUNG)


def test_a_young_key_of_the_data_leaves_the_scale_what_it_was(monkeypatch):
    settings = Plan(grid_of(), COMMON).runs({})[0].settings
    before = scale_id(settings, "data")
    monkeypatch.setitem(YOUNG, "data.new", 0)
    assert scale_id(settings | {"data.new": 0}, "data") == before
    assert scale_id(settings | {"data.new": 1}, "data") != before
    assert scale_id(settings | {"data.workers": 5, "optimizer.lr": 3.0}, "data") == before


def test_other_data_or_another_stage_are_other_runs():
    settings = Plan(grid_of(), COMMON).runs({})[0].settings
    ids = {run_id(settings, stage, data) for stage in ("tune", "rerun") for data in ("a", "b")}
    assert len(ids) == 4


def test_hundreds_of_runs_are_planned_in_no_time():
    """Each level is checked once: 650 checks of a configuration would take 11 s."""
    began = time.process_time()
    factors = {"optimizer": ["sgd", "momentum", "nesterov", "rmsprop", "adam"], "norm": ["none", "batch", "instance"]}
    grid = grid_of(factors=factors, reference={"optimizer": "adam", "norm": "batch"}, tuning={"trials": 32})
    done = {spec.id: outcome(spec) for spec in Plan(grid, COMMON).runs({})}
    assert len(Plan(grid, COMMON).runs(done)) >= 480
    assert time.process_time() - began < 3
