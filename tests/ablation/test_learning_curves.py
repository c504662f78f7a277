"""When a curve reaches a target: curves drawn by hand, medians, shares of a known gap."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from result_rows import three
from synthetic import World, make_study

from mrirecon.ablation.findings.leaderboard import validation_scores
from mrirecon.ablation.findings.learning_curves import crossing, decide_steps, make_targets, running_median, times_to
from mrirecon.ablation.findings.rerun_scores import reruns_of
from mrirecon.ablation.study.records import Point

QUIET = {"sd_seed": 0.0, "sd_volume": 0.0, "sd_residual": 0.0}


def points(*ssim):
    return [Point(10 * i, 1 - value, three(value, 0.0, 0.0)) for i, value in enumerate(ssim, start=1)]


@pytest.mark.parametrize(
    ("ssim", "step"),
    [
        ((0.1, 0.2, 0.5, 0.6, 0.7), 30),  # a rising curve crosses where it does
        ((0.1, 0.9, 0.1, 0.2, 0.6, 0.6), 50),  # one lucky validation does not count
        ((0.1, 0.6, 0.1, 0.6, 0.6), 30),  # two of three validations are above around the dip
        ((0.1, 0.6, 0.6, 0.1, 0.1), 20),  # two do, whatever comes later
        ((0.1, 0.2, 0.3, 0.4), None),
        ((0.1, 0.2, 0.5), 30),  # the last one stands for itself
        ((0.5,), 10),
        ((), None),
        ((math.nan, 0.2, 0.5, 0.6), 30),
    ],
)
def test_crossing_of_curves_drawn_by_hand(ssim, step):
    assert crossing(points(*ssim), 0.5) == step


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_running_median_is_that_of_each_three_with_the_ends_as_they_are(n):
    values = [*np.random.default_rng(n).standard_normal(n - 1), -math.inf]
    inner = [statistics.median(values[i - 1 : i + 2]) for i in range(1, n - 1)]
    assert running_median(values) == [*values[:1], *inner, *values[1:][-1:]]


def test_targets_are_shares_of_the_gap_from_zero_filled_to_the_median_of_the_reference():
    grid, results, _ = make_study(default=World(ssim=0.9, speed=1.0), **QUIET)
    targets = make_targets(grid, results, 0.7)
    assert [t["share"] for t in targets] == [0.9, 0.97, 0.995]
    np.testing.assert_allclose([t["ssim"] for t in targets], [0.88, 0.894, 0.899], atol=1e-9)


def test_the_median_of_the_reference_is_not_moved_by_one_bad_seed_or_a_diverged_one():
    grid, results, _ = make_study(default=World(ssim=0.9, speed=1.0), diverged=[("adam/instance", 0)], **QUIET)
    assert make_targets(grid, results, 0.7)[0]["ssim"] == pytest.approx(0.88)


def test_no_targets_before_all_reruns_of_the_reference_are_in_nor_for_a_reference_that_gains_nothing():
    grid, results, _ = make_study()
    without = [r for r in results if (r.cell, r.stage, r.seed) != ("adam/instance", "rerun", 3)]
    assert make_targets(grid, without, 0.7) == []
    assert make_targets(grid, results, 0.95) == []
    assert make_targets(grid, results, math.nan) == []


def test_times_are_those_of_the_exponential_and_censored_where_the_run_ends():
    speed, spacing = 60.0, 5
    world = World(ssim=0.9, speed=speed, step_seconds=0.25)
    grid, results, _ = make_study(default=world, val_every=spacing, n_steps=200, **QUIET)
    own = [r for r in results if r.cell == "adam/instance"]
    targets = [{"share": s, "ssim": 0.7 + 0.2 * s} for s in (0.5, 0.9, 0.99)]
    half, most, all_but = times_to(targets, reruns_of(own, "final"), grid.seeds)
    for time, share in ((half, 0.5), (most, 0.9)):
        exact = -speed * math.log(1 - share)
        assert time["per_seed"] == [spacing * math.ceil(exact / spacing)] * 8
        assert time["samples"]["mean"] == 4 * time["steps"]["mean"]
        assert time["seconds"]["mean"] == pytest.approx(0.25 * time["steps"]["mean"])
    assert all_but["n_reached"] == 0  # 276 steps would be needed
    assert all_but["per_seed"] == [None] * 8
    assert all_but["steps"]["mean"] == all_but["horizon"] == 200
    assert math.isnan(all_but["steps"]["low"])


def test_a_diverged_rerun_has_not_reached_what_it_passed_before():
    grid, results, _ = make_study(default=World(ssim=0.9, speed=5.0), diverged=[("sgd/batch", 2)], **QUIET)
    own = [r for r in results if r.cell == "sgd/batch"]
    (time,) = times_to([{"share": 0.5, "ssim": 0.8}], reruns_of(own, "final"), grid.seeds)
    assert time["per_seed"].count(None) == 1
    assert time["per_seed"][2] is None
    assert (time["n_reached"], time["n_seeds"]) == (7, 8)


def test_the_faster_cell_is_better_and_cells_that_never_arrive_are_not_compared_with_their_like():
    slow, fast = World(ssim=0.9, speed=90.0), World(ssim=0.9, speed=30.0)
    worlds = {"adam/group": fast, "sgd/batch": World(ssim=0.75, speed=30.0)}
    grid, results, _ = make_study(default=slow, worlds=worlds, **(QUIET | {"sd_seed": 0.002}))
    target = {"share": 0.5, "ssim": 0.8}
    family = decide_steps(grid, results, target, "final", "")
    found = {c["first"]: c for c in family["comparisons"]}
    assert found["adam/group"]["verdict"] == "BETTER"
    assert found["adam/group"]["effect"] < 0
    assert found["sgd/batch"]["verdict"] == "WORSE"  # the reference arrives, it does not
    assert "Never reached by sgd/batch" in family["note"]
    nobody = decide_steps(grid, results, {"share": 0.99, "ssim": 0.95}, "final", "")
    assert nobody["comparisons"] == []


def test_a_validation_without_ssim_moves_neither_targets_nor_the_best():
    grid, results, _ = make_study(seeds=range(6))
    reference = reruns_of([r for r in results if r.cell == grid.reference], "final")[0]
    expected = make_targets(grid, [r for r in results if r is not reference] + [reference], 0.7)
    last, lost = reference.points[-1], three(math.nan, math.nan, math.nan)
    spoilt = replace(reference, points=[*reference.points[:-1], replace(last, scores=lost)])
    made = make_targets(grid, [r for r in results if r is not reference] + [spoilt], 0.7)
    assert [t["ssim"] for t in made] == pytest.approx([t["ssim"] for t in expected], abs=1e-3)
    first = replace(reference, points=[replace(reference.points[0], scores=lost), *reference.points[1:]])
    assert validation_scores([first])["best_ssim"]["mean"] == max(p.scores["ssim"] for p in reference.points)
