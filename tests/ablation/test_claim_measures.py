"""What the claims measure, on curves whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from result_rows import three

from mrirecon.ablation.claims.measures import (
    best_rate,
    bounce,
    bounce_slope,
    failing_rate,
    log_matched_loss_ratio,
    log_steps_ratio,
    trials_needed,
)
from mrirecon.ablation.study.records import Point, RunResult, Trace

LR = "optimizer.lr"


class Known:
    """Stands for the sources of a study: what a measure asks of them."""

    def __init__(self, zero_filled=0.7, target=0.8):
        self.zero_filled, self.targets = zero_filled, [{"share": 0.9, "ssim": target}]

    def has_failed(self, run):
        return run.diverged_at is not None or run.points[-1].scores["ssim"] < self.zero_filled


def run(ssim, lr=1e-3, losses=None, train=None, diverged_at=None, every=10):
    losses = [1 - s for s in ssim] if losses is None else losses
    steps = range(every, every * len(ssim) + 1, every)
    points = [Point(step, loss, three(s, 30.0, 0.1)) for step, s, loss in zip(steps, ssim, losses, strict=True)]
    traces = [Trace(step, loss, 1.0, 1e-3) for step, loss in zip(steps, train or [], strict=False)]
    return RunResult(
        "0", "c", {}, "rerun", "final", 0, 0, False, 0, {LR: lr}, every * len(ssim), 4, diverged_at, points, traces
    )


def test_bounce_is_the_noise_without_the_trend():
    rng = np.random.default_rng(0)
    found = [bounce(run(np.linspace(0.7, 0.9, 400) + 0.003 * rng.standard_normal(400))) for _ in range(50)]
    assert np.mean(found) == pytest.approx(0.003, rel=0.03)
    assert bounce(run(np.linspace(0.7, 0.9, 40))) == pytest.approx(0, abs=1e-12)


def test_bounce_looks_at_the_second_half_only():
    late = 0.8 + 0.01 * np.resize([1, -1], 21)
    early = np.random.default_rng(0).random(19)
    assert bounce(run([*early, *late])) == pytest.approx(0.01 * 4 / math.sqrt(6))
    assert math.isnan(bounce(run([0.8] * 5)))


def test_best_rate_finds_the_vertex_between_the_rates_tried():
    tried = [run([0.8], lr, [0.2 + 0.01 * math.log(lr / 2.7e-3) ** 2]) for lr in 1e-3 * 2.0 ** np.arange(-2, 6)]
    assert math.exp(best_rate(tried)) == pytest.approx(2.7e-3)


def test_best_rate_is_one_that_was_tried_where_there_is_no_vertex_among_them():
    falling = [run([0.8], lr, [1 / lr]) for lr in (1.0, 2.0, 4.0, 8.0)]
    assert math.exp(best_rate(falling)) == pytest.approx(8.0)
    assert math.exp(best_rate(falling[:2])) == pytest.approx(2.0)
    assert math.isnan(best_rate([run([0.8], 1.0, [math.nan])]))


def test_failing_rate_lies_between_the_last_that_works_and_the_first_that_does_not():
    tried = [run([0.8], 1.0), run([0.85], 2.0), run([0.8], 4.0), run([0.69], 8.0), run([0.8], 16.0, diverged_at=3)]
    low, high = failing_rate(tried, Known())
    assert (math.exp(low), math.exp(high)) == pytest.approx((4.0, 8.0))  # 8 ended below zero-filled
    assert failing_rate(tried[:3], Known()).high == math.inf
    assert math.isnan(failing_rate(tried[3:], Known()).low)


def test_slow_rates_that_ended_below_zero_filled_are_no_divergence():
    low, high = failing_rate([run([0.6], 0.1), run([0.85], 2.0), run([0.6], 4.0)], Known())
    assert (math.exp(low), math.exp(high)) == pytest.approx((2.0, 4.0))


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0])
def test_bounce_slope_is_the_exponent(power):
    wave = np.resize([1, -1], 40)
    tried = [run(0.8 + 1e-3 * lr**power * wave, lr) for lr in (0.01, 0.6, 1.0, 2.0, 4.0)]
    tried = [replace(r, points=[replace(p, val_loss=abs(math.log(r.values[LR]))) for p in r.points]) for r in tried]
    assert bounce_slope(tried, Known()) == pytest.approx(power, abs=1e-9)


def test_matched_loss_compares_at_the_lowest_training_loss_of_both():
    first = run([0.8] * 4, losses=[0.5, 0.4, 0.3, 0.25], train=[0.45, 0.35, 0.25, 0.20])  # val = train + .05
    second = run([0.8] * 4, losses=[0.5, 0.4, 0.35, 0.3], train=[0.48, 0.38, 0.33, 0.28])  # val = train + .02
    found = log_matched_loss_ratio(first, second, Known())
    assert found == pytest.approx(math.log((0.28 + 0.05) / (0.28 + 0.02)))
    assert log_matched_loss_ratio(second, first, Known()) == pytest.approx(-found)


def test_matched_loss_needs_training_losses_in_common():
    low, high = (run([0.8] * 2, train=train) for train in ([0.2, 0.1], [0.9, 0.8]))
    assert math.isnan(log_matched_loss_ratio(low, high, Known()))
    assert math.isnan(log_matched_loss_ratio(low, run([0.8] * 2), Known()))


def test_steps_of_a_run_that_misses_the_target_are_all_its_steps():
    fast, slow = run([0.7, 0.85, 0.85, 0.85]), run([0.7, 0.7, 0.7, 0.7])
    assert log_steps_ratio(fast, slow, Known()) == pytest.approx(math.log(20 / 40))
    assert log_steps_ratio(fast, replace(fast, diverged_at=39), Known()) == pytest.approx(math.log(20 / 40))


def test_trials_needed_are_counted_on_the_expected_best():
    def needed(losses):
        return trials_needed({"tuning": {"best_of_k": [[k, loss] for k, loss in enumerate(losses, 1)]}})

    assert needed([0.3, 0.22, 0.2015, 0.2]) == 3
    assert needed([0.2, 0.2]) == 1
    assert needed([]) is None
