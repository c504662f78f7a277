"""From synthetic records to the study by schema 1: every number has a truth that it is held against."""

import json
import math
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from small_studies import QUIET, SMALL, analysed, cell_of
from synthetic import FACTORS, NORMS, OPTIMIZERS, ZERO_FILLED, World, make_study

from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.findings.leaderboard import leader, mean_and_interval
from mrirecon.ablation.findings.learning_curves import band
from mrirecon.ablation.findings.rerun_scores import rerun_scores, reruns_of


def test_what_does_not_depend_on_the_objective_is_that_of_grid_records_and_facts():
    grid, results, facts = make_study(**SMALL, diverged=[("sgd", 2)])
    study = analyse(grid, results, facts)
    assert [study[key] for key in ("schema", "name", "reference", "seeds")] == [1, "synthetic", "adam", [*range(6)]]
    for key in ("command", "created", "data", "model", "budget", "protocol"):
        assert study[key] == facts[key]
    assert study["factors"] == {"optimizer": ["sgd", "adam"]}
    assert study["tuning"]["n_runs"] == sum(run.stage == "tune" for run in results)
    assert study["provenance"]["code"] == sorted({run.code for run in results} - {""})
    for cell in study["cells"]:
        runs = [run for run in results if run.cell == cell["cell"]]
        assert cell["levels"] == runs[0].levels
        assert cell["n_diverged"] == sum(run.diverged_at is not None for run in runs if run.stage == "rerun")
        assert len(cell["tuning"]["trials"]) == sum(run.stage == "tune" for run in runs)
        assert cell["peak_memory"] == max(run.timing.peak_memory for run in runs)
        assert cell["n_parameters"] == max(run.n_parameters for run in runs)


@pytest.mark.parametrize("keep", [lambda r: False, lambda r: r.stage == "tune", lambda r: r.seed != 3, lambda r: True])
@pytest.mark.parametrize("facts_are_known", [True, False])
def test_an_unfinished_study_is_plain_json_too(keep, facts_are_known):
    grid, results, facts = make_study(**SMALL, diverged=[("sgd", 2)])
    study = analyse(grid, [r for r in results if keep(r)], facts if facts_are_known else {})
    assert json.loads(json.dumps(study, allow_nan=False)) == study


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": [3]},
        {"seeds": [3], "n_volumes": 3},
        {"seeds": [1, 2], "n_volumes": 1},
        {"factors": {"optimizer": {"adam": OPTIMIZERS["adam"]}}},
        {"diverged": [("sgd", s) for s in range(6)]},
        {"diverged": [("adam", s) for s in range(6)]},
        {"worlds": {"sgd": World(ssim=0.6)}},
        {"default": World(ssim=0.6)},
        {"sweep": 0},
        {"accelerations": (4.0, 8.0)},
    ],
)
def test_odd_studies_are_plain_json(options):
    study = analysed(**options)
    assert json.loads(json.dumps(study, allow_nan=False)) == study


def test_the_order_of_the_records_does_not_matter():
    grid, results, facts = make_study(**SMALL, repeats=2)
    shuffled = random.Random(1).sample(results, len(results))
    assert analyse(grid, shuffled, facts) == analyse(grid, results, facts)


def test_final_scores_are_those_of_the_world():
    study = analysed(worlds={"sgd": World(ssim=0.78), "adam": World(ssim=0.83)}, **QUIET)
    zero_filled = study["zero_filled"]["ssim"]
    for name, gain in (("sgd", 0.08), ("adam", 0.13)):
        final = cell_of(study, name)["final"]
        assert final["ssim"]["mean"] - zero_filled == pytest.approx(gain, abs=1e-5)
        assert final["psnr"]["mean"] - study["zero_filled"]["psnr"] == pytest.approx(50 * gain, abs=1e-3)
        assert final["ssim"]["low"] < final["ssim"]["mean"] < final["ssim"]["high"]
        assert final["ssim"]["sd_seeds"] < 1e-5
    assert study["margin"]["ssim"] == pytest.approx(0.01 * 0.13, abs=1e-6)


def test_the_spread_over_seeds_is_that_of_the_volume_means():
    grid, results, facts = make_study(**SMALL)
    ssim = cell_of(analyse(grid, results, facts), "adam")["final"]["ssim"]
    means = [np.mean([s.scores["ssim"] for s in r.scores]) for r in results if r.stage == "rerun" and r.cell == "adam"]
    assert ssim["sd_seeds"] == pytest.approx(np.std(means, ddof=1))
    assert ssim["mean"] == pytest.approx(np.mean(means))


def test_a_diverged_rerun_is_counted_and_scores_as_the_zero_filled_image():
    study = analysed(diverged=[("sgd", 2)], **QUIET)
    sgd, adam = (cell_of(study, name)["final"]["ssim"]["mean"] for name in ("sgd", "adam"))
    assert (cell_of(study, "sgd")["n_seeds"], cell_of(study, "sgd")["n_diverged"]) == (6, 1)
    assert sgd == pytest.approx((5 * adam + study["zero_filled"]["ssim"]) / 6, abs=1e-4)
    low, high = stats.binomtest(1, 6).proportion_ci(0.95, method="exact")
    assert cell_of(study, "sgd")["divergence"] == pytest.approx({"n": 1, "of": 6, "low": low, "high": high})
    assert any(
        "sgd: reruns diverged (seed 2); they are scored as the zero-filled" in text for text in study["warnings"]
    )
    assert any("diverged in sgd (1 of 6, 95 % interval 0 to 64 %)" in sentence for sentence in study["verdict"])


def test_a_diverged_rerun_may_be_excluded_and_its_cell_then_leads_nowhere():
    study = analysed(diverged=[("sgd", 2)], diverged_as="exclude", **QUIET)
    sgd, adam = (cell_of(study, name)["final"]["ssim"]["mean"] for name in ("sgd", "adam"))
    assert sgd == pytest.approx(adam, abs=1e-4)
    assert any("left out, and no verdict is in its favour" in warning for warning in study["warnings"])


def test_curves_are_the_worlds_exponential():
    world = World(ssim=0.9, speed=50.0, gap=0.02)
    curve = cell_of(analysed(default=world, **QUIET), "adam")["curve"]
    exact = ZERO_FILLED + 0.2 * (1 - np.exp(-np.array(curve["steps"]) / 50))
    np.testing.assert_allclose(curve["ssim"]["median"], exact, atol=1e-4)
    np.testing.assert_allclose(curve["val_loss"]["median"], 1 - exact, atol=1e-4)
    trained = 1 - (ZERO_FILLED + 0.2 * (1 - np.exp(-np.array(curve["trace_steps"]) / 50))) - 0.02
    np.testing.assert_allclose(curve["train_loss"]["median"], trained, atol=1e-4)


def test_bands_are_percentiles_of_the_seeds_that_are_left():
    columns = [list(range(11)), [3.0, math.nan], []]
    made = band(columns)
    assert [made[name][0] for name in ("low", "median", "high")] == [1.0, 5.0, 9.0]
    assert [made[name][1] for name in ("low", "median", "high")] == [3.0, 3.0, 3.0]
    assert math.isnan(made["median"][2])


def test_intervals_over_seeds_are_students():
    values = np.random.default_rng(0).normal(3, 2, 7)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    made = mean_and_interval([*values, math.inf])  # a diverged run has no area
    assert (made["low"], made["high"]) == pytest.approx((low, high))


def test_best_and_area_are_of_the_curve():
    world = World(ssim=0.9, speed=50.0)
    cell = cell_of(analysed(default=world, val_every=1, **QUIET), "adam")
    assert cell["best_ssim"]["mean"] == pytest.approx(ZERO_FILLED + 0.2 * (1 - math.exp(-6)), abs=1e-4)
    # mean of 1 - 0.7 - 0.2 (1 - exp(-t / 50)) for t from 1 to 300
    exact = 0.1 + 0.2 * 50 * (math.exp(-1 / 50) - math.exp(-6)) / 299
    assert cell["area"]["mean"] == pytest.approx(exact, abs=1e-4)


def test_verdicts_are_conditional_on_the_tuning_draw_unless_there_are_several():
    once, twice = analysed(), analysed(repeats=2)
    each = analysed(repeats=len(once["seeds"]))
    words = [[c["words"] for f in study["families"] for c in f["comparisons"]] for study in (once, twice, each)]
    assert all("conditional on one tuning draw" in sentence for sentence in words[0])
    of_scores = twice["families"][0]["comparisons"]
    assert all("2 tuning draws say too little about others" in comparison["words"] for comparison in of_scores)
    assert not any("conditional" in sentence for sentence in words[1] + words[2])
    assert all("6 paired tuning draws" in sentence for sentence in words[2])
    assert once["verdict"][-1] == "All of this is conditional on one tuning draw."


def test_frozen_targets_are_kept():
    grid, results, facts = make_study(**SMALL)
    frozen = [{"share": 0.9, "ssim": 0.77}]
    for targets in (frozen, {"of": {}, "targets": frozen}):
        study = analyse(grid, results, facts | {"targets": targets})
        assert study["targets"] == frozen
        assert [time["share"] for time in cell_of(study, "adam")["times"]] == [0.9]


def test_the_leader_is_ahead_of_worse_cells_and_not_of_equal_ones():
    study = analysed(factors=FACTORS, seeds=range(8), effects={"adam/group": 0.02, "sgd/group": 0.02})
    first, near, far, *_ = study["verdict"]
    assert first.startswith(("adam/group has the highest", "sgd/group has the highest"))
    other = "sgd/group" if first.startswith("adam") else "adam/group"
    assert near.startswith("Not settled")
    assert near.count("(by") == 1
    assert other in near
    assert far.startswith("It is ahead of 7 others")


def test_the_leader_of_equal_cells_is_seldom_distinct():
    """Chosen by the same data that test it: at most 5 % of A/A studies call any cell worse than the leader."""
    n, wrong = 100, 0
    for rng in range(n):
        grid, results, _ = make_study(
            {"norm": NORMS}, seeds=range(6), trials=1, sweep=0, n_steps=40, rng=rng, reference="group"
        )
        _, ahead = leader(rerun_scores(grid, results, "ssim", "final"))
        wrong += any(gap.low > 0 for gap in ahead)
    assert wrong <= 0.05 * n + 2 * math.sqrt(0.05 * 0.95 * n)


def test_the_leaders_intervals_hold_for_all_pairs_at_once():
    """Where patients react alike the interval is Student's over seeds, here at 1 - .05 / 3 for 3 pairs."""
    options = {"seeds": range(6), "n_volumes": 4, "reference": "group", "sd_volume": 0.0, "sd_residual": 0.0}
    grid, results, _ = make_study({"norm": NORMS}, **options)
    scores = rerun_scores(grid, results, "ssim", "final")
    name, ahead = leader(scores)
    for gap in ahead:
        difference = (scores.values[name] - scores.values[gap.name]).mean(axis=1)
        exact = stats.ttest_1samp(difference, 0).confidence_interval(1 - 0.05 / 3)
        assert (gap.low, gap.high) == pytest.approx(tuple(exact))


def test_scores_are_means_over_accelerations():
    grid, results, _ = make_study(**SMALL, accelerations=(4.0, 8.0))
    scores = rerun_scores(grid, results, "psnr", "final")
    run = reruns_of([r for r in results if r.cell == "sgd"], "final")[2]
    both = [s.scores["psnr"] for s in run.scores if s.volume == scores.volumes[5]]
    assert len(both) == 2
    assert scores.values["sgd"][2, 5] == pytest.approx(sum(both) / 2)


def test_rankings_do_not_rest_on_survivors():
    # 9 of 10 reruns diverged, and the one that is left headed the leaderboard
    options = {"effects": {"sgd/batch": 0.05}, "factors": FACTORS, "seeds": range(10)}
    options["diverged"] = [("sgd/batch", seed) for seed in range(9)]
    study = analysed(**options)
    assert not study["verdict"][0].startswith("sgd/batch")
    assert cell_of(study, "sgd/batch")["final"]["ssim"]["mean"] < 0.73
    assert "95 % interval 55 to 100 %" in " ".join(study["verdict"])
    excluded = analysed(**options, diverged_as="exclude")
    assert not excluded["verdict"][0].startswith("sgd/batch")
    assert "Not ranked, since reruns are left out or missing: sgd/batch." in excluded["verdict"]


def test_a_cell_that_always_diverges_is_the_zero_filled_image():
    study = analysed(diverged=[("sgd", seed) for seed in range(6)])
    assert cell_of(study, "sgd")["final"]["ssim"]["mean"] == pytest.approx(study["zero_filled"]["ssim"])
    assert study["families"][0]["comparisons"][0]["verdict"] == "WORSE"


def test_the_margin_comes_from_validation_and_says_so():
    study = analysed(worlds={"adam": World(ssim=0.83)}, **QUIET)
    assert study["margin"]["ssim"] == pytest.approx(0.01 * 0.13, abs=1e-6)
    source = "1 % of the gap in validation SSIM from zero-filled to adam"
    assert study["margin"]["source"] == f"{source}, the default"
    assert f"({source}, the default)" in " ".join(study["verdict"])
    grid, results, facts = make_study(**SMALL, has_margin=True)
    assert analyse(grid, results, facts)["margin"]["source"] == f"{source}, set in the grid file before the runs"
    changed = analyse(grid, results, facts | {"margin_changed": "2026-02-01"})
    assert "changed in the grid file on 2026-02-01, when reruns were there" in changed["margin"]["source"]
    assert all(c["margin_is_late"] for c in changed["families"][0]["comparisons"])
    assert not any("before" in c["words"] for c in changed["families"][0]["comparisons"])
    absolute = analysed(margin_ssim=0.0005, has_margin=True)
    assert absolute["margin"]["ssim"] == 0.0005
    assert absolute["margin"]["source"] == "set in the grid file before the runs"


def test_test_scores_do_not_move_the_margin():
    grid, results, facts = make_study(**SMALL)
    raised = [
        replace(run, scores=[replace(s, scores={k: v + 0.05 for k, v in s.scores.items()}) for s in run.scores])
        for run in results
    ]
    assert analyse(grid, raised, facts)["margin"] == analyse(grid, results, facts)["margin"]


def test_a_reference_that_gains_nothing_has_no_margin_and_verdicts_without():
    study = analysed(default=World(ssim=0.6), effects={"sgd": 0.05})
    assert study["margin"]["ssim"] is None
    comparison = study["families"][0]["comparisons"][0]
    assert (comparison["verdict"], comparison["margin"]) == ("BETTER", None)


def test_looks_split_alpha_and_wait_for_their_seeds():
    looks = {6: 0.2, 8: 0.3, 12: 0.5}
    grid, results, facts = make_study(FACTORS, seeds=range(12), looks=looks, effects={"sgd/batch": -0.05})

    def at(n):
        kept = [r for r in results if r.stage != "rerun" or r.seed < n]
        return analyse(grid, kept, facts)

    early = at(5)
    assert early["verdict"][0] == "No verdicts yet: the first look is at 6 seeds."
    assert {c["verdict"] for family in early["families"] for c in family["comparisons"]} == {"NO VERDICT"}
    for n_in, n_seen, number, alpha in ((6, 6, 1, 0.01), (7, 6, 1, 0.01), (11, 8, 2, 0.015), (12, 12, 3, 0.025)):
        study = at(n_in)
        comparison = study["families"][0]["comparisons"][0]
        assert (comparison["n_seeds"], comparison["alpha"]) == (n_seen, pytest.approx(alpha))
        assert study["verdict"][0].startswith(f"Look {number} of 3, at {n_seen} seeds")
        assert {c["first"] for c in study["families"][0]["comparisons"] if c["verdict"] == "WORSE"} >= {"sgd/batch"}
        assert cell_of(study, "sgd/batch")["n_seeds"] == n_seen


def test_a_study_that_grew_after_a_reading_says_so():
    grid, results, facts = make_study(**SMALL)
    reading = {"when": "2026-01-05 10:00:00", "n_seeds": 5, "alpha": 0.05, "margin": {}, "verdicts": {}}
    warnings = analyse(grid, results, facts | {"readings": [reading]})["warnings"]
    assert any("Verdicts were read before, at 5 seeds on 2026-01-05, and seeds were added" in text for text in warnings)
    same = analyse(grid, results, facts | {"readings": [{**reading, "n_seeds": 6}]})["warnings"]
    assert not any("were read before" in text for text in same)
    planned = replace(grid, looks={5: 0.5, 6: 0.5})
    warnings = analyse(planned, results, facts | {"readings": [{**reading, "alpha": 0.025}]})["warnings"]
    assert not any("were read before" in text for text in warnings)


def test_accelerations_are_never_averaged_in_silence():
    grid, results, facts = make_study(**SMALL, accelerations=(4.0, 8.0))
    study = analyse(grid, results, facts)
    assert [family["name"] for family in study["families"][:2]] == [
        "cells against adam",
        "cells against adam, by acceleration",
    ]
    assert [family["is_primary"] for family in study["families"][:2]] == [True, False]
    assert [c["at"] for c in study["families"][0]["comparisons"]] == ["4x", "8x"]
    assert [c["at"] for c in study["families"][1]["comparisons"]] == ["8x - 4x"]
    assert [text[:4] for text in study["verdict"][:1]] == ["At 4"]
    by_acceleration = cell_of(study, "sgd")["by_acceleration"]
    assert by_acceleration["4x"]["ssim"]["mean"] - by_acceleration["8x"]["ssim"]["mean"] == pytest.approx(
        0.02, abs=1e-3
    )
    assert [table["at"] for table in study["variances"]] == ["4x", "8x"]


def test_every_study_has_its_variances():
    sds = {"sd_seed": 0.004, "sd_volume": 0.002, "sd_residual": 0.001}
    grid, results, facts = make_study(FACTORS, seeds=range(60), n_volumes=60, **sds, trials=1, sweep=0, n_steps=40)
    (table,) = analyse(grid, results, facts)["variances"]
    assert table["sd"]["method x seed"] == pytest.approx(0.004, rel=0.1)
    assert table["sd"]["method x patient"] == pytest.approx(0.002, rel=0.1)
    assert table["sd"]["rest"] == pytest.approx(0.001, rel=0.1)
    assert table["sd"]["patients"] == pytest.approx(0.03, rel=0.3)
    assert table["sd"]["seeds"] < 0.001
    assert table["correlation"]["patients"] > 0.95
    assert abs(table["correlation"]["seeds"]) < 0.1


def test_mixed_code_and_missing_reruns_are_warned_about():
    grid, results, facts = make_study(**SMALL)
    mixed = [replace(results[0], code="0ld"), *results[1:-1]]  # the last rerun is missing
    warnings = analyse(grid, mixed, facts)["warnings"]
    assert any("0ld, c0de" in warning for warning in warnings)
    assert any("5 of 6 reruns" in warning for warning in warnings)


def test_a_volume_that_some_rerun_lacks_is_left_out_for_all_and_named():
    grid, results, facts = make_study(**SMALL)
    rerun = reruns_of(results, "final")[0]
    rerun.scores.pop(0)
    study = analyse(grid, results, facts)
    assert all(len(cell["volumes"]["names"]) == 9 for cell in study["cells"])
    assert any("file0000.h5" in warning for warning in study["warnings"])


def test_what_only_the_configuration_knows_is_taken_from_it():
    grid, results, _ = make_study(**SMALL, base={"model.channels": 8, "data.mask": "random"})
    study = analyse(grid, results, {})
    assert study["model"] == "unet, 8 channels, 4 pools, 0.48 M parameters"
    assert study["budget"] == "300 steps x 4 slices"
    assert study["protocol"] == "fastmri-v1"
    assert study["data"]["mask"] == "random"


def test_neither_torch_nor_lightning_is_imported():
    code = "import sys, mrirecon.ablation.findings.analysis, mrirecon.ablation.publish\n"
    code += "assert not {'torch', 'pytorch_lightning', 'scipy.stats', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
