import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from result_rows import three
from scipy.stats import qmc

from mrirecon.ablation.study.records import Point, RunResult
from mrirecon.ablation.study.tune import apply, edge, sweep_rates, trial_values, widened, winner
from mrirecon.config import OptimizerConfig
from mrirecon.tables.optimizers import OPTIMIZERS
from mrirecon.training import make_optimizer

LR = "optimizer.lr"


def trial(number, loss, lr=0.01, is_wider=False, diverged_at=None):
    points = [] if diverged_at else [Point(10, loss, three(0.5, 20.0, 0.1))]
    return RunResult(
        str(number), "a", {}, "tune", "final", 0, number, is_wider, 0, {LR: lr}, 10, 2, diverged_at, points
    )


def test_trials_are_scipys_sobol_points_on_a_log_axis():
    values = trial_values({LR: (1e-4, 1e-1)}, 8, first_seed=1000, repeat=0)
    points = qmc.Sobol(1, scramble=True, rng=1000).random_base2(3)[:, 0]
    np.testing.assert_allclose([v[LR] for v in values], 10 ** (-4 + 3 * points), rtol=1e-5)


def test_all_cells_try_the_same_shares_of_their_ranges():
    one = [math.log(v[LR] / 1e-4) / math.log(1e3) for v in trial_values({LR: (1e-4, 1e-1)}, 8, 5, 0)]
    other = [math.log(v[LR] / 1.0) / math.log(10) for v in trial_values({LR: (1.0, 10.0)}, 8, 5, 0)]
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_more_trials_begin_with_the_same_ones_and_repeats_differ():
    ranges = {LR: (1e-4, 1e-1), "optimizer.weight_decay": (1e-6, 1e-2)}
    few, many = trial_values(ranges, 4, 1000, 0), trial_values(ranges, 8, 1000, 0)
    assert many[:4] == few
    assert not {v[LR] for v in few} & {v[LR] for v in trial_values(ranges, 4, 1000, 1)}


def test_the_winner_has_the_least_loss_and_divergence_never_wins():
    trials = [trial(0, 0.3), trial(1, math.nan), trial(2, 0.2), trial(3, 0.1, diverged_at=4), trial(4, 0.2)]
    assert winner(trials, "final").trial == 2
    assert winner([trial(0, 0.1, diverged_at=3)], "final") is None


def test_the_area_is_the_time_mean_of_the_loss():
    points = [Point(0, 1.0, three(0, 0, 0)), Point(10, 0.5, three(0, 0, 0)), Point(30, 0.5, three(0, 0, 0))]
    run = replace(trial(0, 0.5), points=points)
    assert run.area == pytest.approx((10 * 0.75 + 20 * 0.5) / 30)
    assert run.loss("area") == run.area
    assert run.loss("final") == 0.5


@pytest.mark.parametrize(("lr", "side"), [(1.3e-4, "low"), (2e-3, ""), (8e-2, "high"), (2.5e-4, ""), (1e-1, "high")])
def test_the_outer_eighth_of_a_log_range_is_its_edge(lr, side):
    assert edge(lr, (1e-4, 1e-1)) == side
    share = (math.log10(lr) + 4) / 3
    assert (share < 1 / 8, share > 7 / 8) == (side == "low", side == "high")


def test_a_range_grows_on_the_side_of_the_best_by_half_its_width():
    ((low, high),) = widened({LR: (1e-4, 1e-2)}, {LR: 9e-3}, {}).values()
    assert (low, high) == pytest.approx((1e-4, 1e-1))
    ((low, high),) = widened({LR: (1e-4, 1e-2)}, {LR: 1.1e-4}, {}).values()
    assert (low, high) == pytest.approx((1e-5, 1e-2))
    assert widened({LR: (1e-4, 1e-2)}, {LR: 1e-3}, {}) is None


def test_a_sweep_doubles_and_leaves_out_the_winner():
    assert sweep_rates(0.01, 7) == pytest.approx([0.0025, 0.005, 0.02, 0.04, 0.08, 0.16, 0.32])
    assert sweep_rates(0.01, 0) == []


@pytest.mark.parametrize(("objective", "best"), [("final", 0), ("ssim", 1), ("psnr", 2), ("nmse", 3), ("area", 4)])
def test_each_objective_has_its_own_winner(objective, best):
    scores = [  # loss, SSIM, PSNR, NMSE at the end
        (0.1, 0.5, 20.0, 0.5),
        (0.9, 0.9, 21.0, 0.5),
        (0.8, 0.6, 30.0, 0.4),
        (0.7, 0.7, 22.0, 0.1),
        (0.5, 0.5, 20.0, 0.6),
        (math.nan, math.nan, math.nan, math.nan),
        (0.6, 0.6, math.inf, -math.inf),
    ]
    trials = [
        replace(
            trial(i, 0.5),
            points=[Point(0, 0.01 if i == 4 else 9.0, three(0, 0, 0)), Point(10, row[0], three(*row[1:]))],
        )
        for i, row in enumerate(scores)
    ]
    trials.append(trial(7, 0.01, diverged_at=3))
    assert winner(trials, objective).trial == best
    assert winner(trials[-1:], objective) is None


@pytest.mark.parametrize("objective", ["ssim", "psnr", "nmse"])
def test_what_a_score_lacks_is_above_zero_and_falls_as_the_score_gets_better(objective):
    """So that it can be read, drawn and averaged as a loss is."""
    values = {"ssim": [-0.2, 0.1, 0.9, 0.95], "psnr": [-3.0, 12.0, 30.0, 31.0], "nmse": [5.0, 0.5, 0.2, 0.1]}
    runs = [replace(trial(0, 0.5), points=[Point(10, 1.0, three(v, v, v))]) for v in values[objective]]
    losses = [run.loss(objective) for run in runs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > 0


@pytest.mark.parametrize("name", [name for name, entry in OPTIMIZERS.items() if entry.beta1_key])
def test_a_tuned_first_beta_changes_nothing_else_of_the_method(name):
    """At the method's own value it is the method as it is, whatever its second beta is."""
    settings = {f"optimizer.{key}": value for key, value in OptimizerConfig(name).options.items()}
    tuned = apply({"optimizer.one_minus_beta1": 1 - OPTIMIZERS[name].beta1}, {"optimizer.name": name, **settings})
    options = {key.removeprefix("optimizer."): value for key, value in tuned.items() if key != "optimizer.name"}
    ours = make_optimizer(name, torch.nn.Linear(3, 2), 0.1, **options)
    plain = make_optimizer(name, torch.nn.Linear(3, 2), 0.1)
    for group, expected in zip(ours.param_groups, plain.param_groups, strict=True):
        assert settings_of(group) == pytest.approx(settings_of(expected))


def settings_of(group):
    """The numbers of a group of parameters by name; of both betas each."""
    flat = {key: value for key, value in group.items() if isinstance(value, int | float)}
    return flat | {f"beta{i}": beta for i, beta in enumerate(group.get("betas", ()), 1)}
