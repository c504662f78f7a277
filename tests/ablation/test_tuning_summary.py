"""What the tuning found and cost: subsets counted one by one, worlds with a known best rate."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from small_studies import QUIET, SMALL, analysed, cell_of
from synthetic import LR, World, make_study

from mrirecon.ablation.claims.measures import trials_needed
from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.findings.tuning_summary import best_of_k
from mrirecon.report.figures.study_curves import draw_best_of_k, draw_lr_sensitivity


def test_best_of_k_is_the_mean_over_all_subsets():
    losses = [0.5, 0.2, math.inf, 0.9, 0.4]
    counted = [0.5, 0.2, 2.0, 0.9, 0.4]
    for k, expected in best_of_k(losses, diverged_loss=2.0):
        assert expected == pytest.approx(np.mean([min(chosen) for chosen in itertools.combinations(counted, k)]))


def test_best_of_k_agrees_with_draws():
    """An independent Monte Carlo: k of n trials drawn without replacement, the least loss averaged."""
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=16)
    shuffled = rng.permuted(np.tile(losses, (20_000, 1)), axis=1)
    for k, expected in best_of_k(losses.tolist(), diverged_loss=9.0):
        least = shuffled[:, :k].min(axis=1)
        assert abs(least.mean() - expected) <= 4 * least.std() / math.sqrt(len(least)) + 1e-12


def test_a_diverged_trial_counts_as_the_worst_of_its_own_cell():
    grid, results, facts = make_study(**SMALL)
    trials = [r for r in results if r.stage == "tune" and r.cell == "sgd"]
    losses = [r.final_loss for r in trials]
    best = min(trials, key=lambda r: r.final_loss)
    worst = max(*filter(math.isfinite, losses), best.points[0].val_loss)
    assert not all(map(math.isfinite, losses))
    (k, first), *_ = cell_of(analyse(grid, results, facts), "sgd")["tuning"]["best_of_k"]
    assert k == 1
    assert first == pytest.approx(np.mean([loss if math.isfinite(loss) else worst for loss in losses]))


def test_what_trials_of_one_cell_do_moves_no_other_cells_curve():
    grid, results, facts = make_study(**SMALL)

    def curve(changed):
        return cell_of(analyse(grid, changed, facts), "adam")["tuning"]["best_of_k"]

    def with_sgd(**changes):
        return [replace(r, **changes) if (r.cell, r.stage) == ("sgd", "tune") else r for r in results]

    awful = [replace(point, val_loss=1e6) for point in results[0].points]
    assert curve(with_sgd(points=awful)) == curve(with_sgd(diverged_at=3)) == curve(results)


def test_a_cell_of_which_one_trial_works_is_not_as_good_as_that_one():
    """A diverged trial counts at least as what the best one was at its first validation."""
    grid, results, facts = make_study(**SMALL)
    best = min((r for r in results if (r.cell, r.stage) == ("adam", "tune")), key=lambda r: r.final_loss)
    others = {r.run for r in results if (r.cell, r.stage) == ("adam", "tune")} - {best.run}
    changed = [replace(r, diverged_at=3) if r.run in others else r for r in results]
    (_, first), *_, (_, last) = cell_of(analyse(grid, changed, facts), "adam")["tuning"]["best_of_k"]
    assert last == best.final_loss
    assert first == pytest.approx((best.final_loss + len(others) * best.points[0].val_loss) / (1 + len(others)))


def test_the_sweep_brackets_the_best_rate_and_where_it_diverges():
    world = World(lr=2e-3, lr_diverged=1.5e-2, curvature=0.02)
    sweep = cell_of(analysed(default=world, trials=32), "adam")["sweep"]
    assert sweep["lr_best"] == pytest.approx(2e-3, rel=0.5)
    rates = [point["lr"] for point in sweep["points"]]
    assert sweep["lr_survived"] == max(rate for rate in rates if rate < 1.5e-2)
    assert sweep["lr_diverged"] == min(rate for rate in rates if rate >= 1.5e-2)
    assert rates == sorted(rates)
    assert [point["lr"] for point in sweep["points"] if point["diverged_at"] is not None] == [
        rate for rate in rates if rate >= 1.5e-2
    ]


def test_the_good_region_keeps_nine_tenths_of_the_gain():
    # SSIM falls by curvature * log(rate / best)^2: a tenth of the gain of 0.1 is lost at log = 1
    world = World(ssim=0.8, lr=2e-3, lr_diverged=9.0, curvature=0.01, speed=1.0)
    sweep = cell_of(analysed(default=world, trials=256, **QUIET), "adam")["sweep"]
    assert sweep["good_low"] == pytest.approx(2e-3 / math.e, rel=0.05)
    assert sweep["good_high"] == pytest.approx(2e-3 * math.e, rel=0.05)
    assert sweep["lr_diverged"] is None


def test_a_winner_at_the_end_of_its_range_is_marked():
    for lr, said in ((1.2e-4, "optimizer.lr at its low end"), (3e-3, ""), (8e-2, "optimizer.lr at its high end")):
        study = analysed(default=World(lr=lr, lr_diverged=9.0), trials=32)
        assert {cell["edge"] for cell in study["cells"]} == {said}
        assert any(f"adam ({said})" in sentence for sentence in study["verdict"]) == bool(said)
    drawn = analysed(default=World(lr=8e-2, lr_diverged=9.0), trials=32, repeats=2)
    assert cell_of(drawn, "adam")["edge"] == "optimizer.lr at its high end in 2 of 2 draws"


def test_an_edge_of_another_key_than_the_rate_is_no_alarm():
    """A key that does not matter has its winner in an outer eighth in one of four studies."""
    grid, results, facts = make_study(**SMALL, default=World(lr=3e-3))
    decay = "optimizer.weight_decay"
    spaces = {cell: {**space, decay: (1e-6, 1e-2)} for cell, space in grid.tuning.spaces.items()}
    grid = replace(grid, tuning=replace(grid.tuning, dimensions=(*grid.tuning.dimensions, decay), spaces=spaces))
    study = analyse(grid, [replace(r, values={**r.values, decay: 9e-3}) for r in results], facts)
    for cell in study["cells"]:
        assert (cell["edge"], cell["edges"]) == ("", {decay: f"{decay} at its high end"})
    assert not any("edge" in sentence for sentence in study["verdict"])


def test_a_cell_whose_range_was_widened_says_how_many_trials_chose_its_winner():
    grid, results, facts = make_study(**SMALL, default=World(lr=3e-3))
    grid = replace(grid, tuning=replace(grid.tuning, widening="replace"))
    trials = [r for r in results if (r.cell, r.stage) == ("adam", "tune")]
    wider = [replace(r, widened=True, run=f"{r.run}w", values={LR: 2 * r.values[LR]}) for r in trials]
    best = min(wider, key=lambda r: r.final_loss)
    worse = [replace(r, points=[replace(p, val_loss=p.val_loss + 0.01) for p in r.points]) for r in wider]
    counts, curves = [], []
    for more in ([], wider, worse):
        cell = cell_of(analyse(grid, [*results, *more], facts), "adam")
        counts.append((cell["tuning"]["n_trials"], cell["tuning"]["n_chosen_from"]))
        curves.append(cell["tuning"]["best_of_k"])
    assert counts == [(8, 8), (16, 8), (16, 8)]
    assert cell["winners"] == [best.values]  # of the wider range, although a trial before it was better
    assert [len(curve) for curve in curves] == [8, 8, 8]
    assert curves[2][-1][1] == pytest.approx(best.final_loss + 0.01)


def test_old_studies_take_the_best_of_all_their_trials():
    grid, results, facts = make_study(**SMALL, default=World(lr=3e-3))
    trials = [r for r in results if (r.cell, r.stage) == ("adam", "tune")]
    worse = [
        replace(r, widened=True, run=f"{r.run}w", points=[replace(p, val_loss=p.val_loss + 0.01) for p in r.points])
        for r in trials
    ]
    cell = cell_of(analyse(grid, [*results, *worse], facts), "adam")
    assert cell["winners"] == [min(trials, key=lambda r: r.final_loss).values]
    assert (cell["tuning"]["n_trials"], cell["tuning"]["n_chosen_from"]) == (16, 16)


def test_winners_are_the_best_trials_of_each_draw_for_each_objective():
    grid, results, facts = make_study(**SMALL, repeats=2, objectives=("final", "area"))
    study = analyse(grid, results, facts)
    for part, loss in ((study, "final_loss"), (study["second"], "area")):
        for repeat in range(2):
            trials = [r for r in results if (r.cell, r.stage, r.repeat) == ("sgd", "tune", repeat)]
            best = min(trials, key=lambda r: getattr(r, loss))
            assert cell_of(part, "sgd")["winners"][repeat] == best.values
    assert study["second"]["objective"] == "area"


@pytest.mark.parametrize("objective", ["ssim", "psnr", "nmse", "area"])
def test_a_study_tuned_for_a_score_is_analysed_like_any(objective):
    """SSIM, PSNR and NMSE of these worlds follow each other, so the winners are the same."""
    grid, results, facts = make_study(**{**SMALL, "objectives": (objective,)})
    study = analyse(grid, results, facts)
    assert study["objective"] == objective
    cell = cell_of(study, "adam")
    trials = [r for r in results if r.stage == "tune" and r.cell == "adam"]
    best = min(trials, key=lambda r: r.loss(objective))
    assert cell["values"] == best.values
    assert cell["tuning"]["best_of_k"][-1][1] == pytest.approx(best.loss(objective))
    assert trials_needed(cell) >= 1
    drawn = {point["lr"]: point["loss"] for point in cell["sweep"]["points"]}
    assert drawn[best.values["optimizer.lr"]] == pytest.approx(best.final_loss)  # the figure says: final loss
    draw_best_of_k(study)
    draw_lr_sensitivity(study)
