"""Contrasts are sums over cells with known answers, and families find the effects that are there, and only these."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import FACTORS, NORMS, OPTIMIZERS, make_study

from mrirecon.ablation.findings.contrasts import ALPHA, decide, families
from mrirecon.ablation.findings.rerun_scores import accelerations_of, between, rerun_scores
from mrirecon.evaluation.stats import Margin

EXCLUDED = {"diverged_as": "exclude"}
THREE = {**FACTORS, "batch": {"b1": {"batch_size": 1}, "b8": {"batch_size": 8}}}


def by_name(grid):
    return {contrast.name: contrast for family in families(grid) for contrast in family.contrasts}


MARGIN = Margin(0.001, "0.001 SSIM, set in the grid file before the runs")


def scores_of(grid, results):
    return [rerun_scores(grid, results, "ssim", "final", at) for at in accelerations_of(results)]


def decided(*, family=0, margin=MARGIN, without=(), **options):
    grid, results, _ = make_study(**options)
    kept = [r for r in results if r.stage != "rerun" or (r.cell, r.seed) not in without]
    chosen = decide(families(grid)[family], scores_of(grid, kept), margin, "")
    return chosen, {c["name"]: c for c in chosen["comparisons"]}


def additive(grid, **effects):
    """A number for each cell: the sum of its levels' effects."""
    return {cell.name: np.array(sum(effects.get(label, 0.0) for label in cell.levels.values())) for cell in grid.cells}


@pytest.mark.parametrize("factors", [FACTORS, THREE, {"optimizer": OPTIMIZERS}])
def test_weights_add_up_to_zero_in_every_contrast_and_to_one_on_each_side_of_plain_ones(factors):
    grid, *_ = make_study(factors, seeds=[0], sweep=0, trials=1)
    for name, contrast in by_name(grid).items():
        weights = np.array(list(contrast.weights.values()))
        assert weights.sum() == pytest.approx(0, abs=1e-12), name
        if " x " not in name:
            assert weights[weights > 0].sum() == pytest.approx(1), name


def test_a_family_for_cells_main_effects_and_interactions_of_the_right_sizes():
    grid, *_ = make_study(THREE, seeds=[0], sweep=0, trials=1)
    sizes = {family.name: len(family.contrasts) for family in families(grid)}
    # 3 x 3 x 2 cells; (3-1) + (3-1) + (2-1) levels; (2*2) + (2*1) + (2*1) products of levels
    assert sizes == {f"cells against {grid.reference}": 17, "main effects": 5, "interactions": 8}


def test_one_factor_has_no_main_effects_beside_its_cells():
    grid, *_ = make_study({"optimizer": OPTIMIZERS}, seeds=[0], sweep=0, trials=1)
    assert [family.name for family in families(grid)] == ["cells against adam"]


def test_additive_worlds_have_their_levels_as_main_effects_and_no_interaction():
    grid, *_ = make_study(THREE, seeds=[0], sweep=0, trials=1)
    values = additive(grid, sgd=-3.0, momentum=1.0, batch=0.5, b8=7.0)
    found = {name: float(contrast.of(values)) for name, contrast in by_name(grid).items()}
    assert found["optimizer: sgd - adam"] == pytest.approx(-3.0)
    assert found["norm: batch - instance"] == pytest.approx(0.5)
    assert found["batch: b1 - b8"] == pytest.approx(-7.0)
    assert all(value == pytest.approx(0, abs=1e-12) for name, value in found.items() if " x " in name)


def test_an_interaction_is_the_difference_of_differences():
    grid, *_ = make_study(seeds=[0], sweep=0, trials=1)
    rng = np.random.default_rng(1)
    values = {cell.name: rng.standard_normal((4, 5)) for cell in grid.cells}
    expected = (values["sgd/group"] - values["adam/group"]) - (values["sgd/instance"] - values["adam/instance"])
    contrast = by_name(grid)["optimizer x norm: (sgd - adam) at group - at instance"]
    np.testing.assert_allclose(contrast.of(values), expected, atol=1e-14)


def test_interactions_of_two_factors_average_over_the_third():
    grid, *_ = make_study(THREE, seeds=[0], sweep=0, trials=1)
    values = additive(grid)
    values["sgd/group/b1"] += 2.0  # at one of two batch sizes
    contrast = by_name(grid)["optimizer x norm: (sgd - adam) at group - at instance"]
    assert float(contrast.of(values)) == pytest.approx(1.0)


def test_known_effects_are_found_with_their_size_and_sign():
    family, found = decided(effects={"sgd/batch": -0.02, "adam/group": 0.01})
    assert (family["is_primary"], family["alpha"], family["n_seeds"]) == (True, ALPHA, 8)
    assert family["note"].startswith("The primary family: 8 comparisons of SSIM, one 95 % level for all")
    assert found["sgd/batch - adam/instance"]["verdict"] == "WORSE"
    assert found["sgd/batch - adam/instance"]["size"] == "by more than the margin"
    assert found["adam/group - adam/instance"]["verdict"] == "BETTER"
    for name, effect in (("sgd/batch", -0.02), ("adam/group", 0.01)):
        comparison = found[f"{name} - adam/instance"]
        assert comparison["low"] < effect < comparison["high"]
        assert comparison["p"] <= 0.05
    others = [c for c in found.values() if c["first"] not in ("sgd/batch", "adam/group")]
    assert len(others) == 6
    assert not {"BETTER", "WORSE"} & {c["verdict"] for c in others}
    assert all(c["low"] <= 0 <= c["high"] and c["p"] > 0.05 for c in others)


def test_main_effects_and_interactions_are_found():
    effects = {f"sgd/{norm}": -0.02 for norm in NORMS}
    _, main = decided(family=1, effects=effects)
    assert main["optimizer: sgd - adam"]["verdict"] == "WORSE"
    assert main["optimizer: sgd - adam"]["low"] < -0.02 < main["optimizer: sgd - adam"]["high"]
    _, crossed = decided(family=2, effects={"sgd/group": 0.03})
    assert [name for name, c in crossed.items() if c["verdict"] == "BETTER"] == [
        "optimizer x norm: (sgd - adam) at group - at instance"
    ]


def test_equal_cells_with_little_noise_are_equivalent():
    _, found = decided(sd_seed=1e-5, sd_volume=1e-5, sd_residual=1e-5)
    assert {c["verdict"] for c in found.values()} == {"EQUIVALENT"}


def test_without_a_margin_nothing_is_equivalent():
    _, found = decided(margin=None, sd_seed=1e-5, sd_volume=1e-5, sd_residual=1e-5)
    assert "EQUIVALENT" not in {c["verdict"] for c in found.values()}


def test_a_family_of_too_few_seeds_is_refused_with_the_reason_and_without_verdicts():
    family, found = decided(seeds=range(4), effects={"sgd/batch": -0.2})
    assert {c["verdict"] for c in found.values()} == {"NO VERDICT"}
    assert family["refused"] == "4 seeds say too little about others: a verdict takes 5 of each"
    assert found["sgd/batch - adam/instance"]["effect"] == pytest.approx(-0.2, abs=0.01)  # still shown
    assert all("NO VERDICT, since 4 seeds" in c["words"] for c in found.values())
    _, found = decided(seeds=range(5), effects={"sgd/batch": -0.2})
    assert found["sgd/batch - adam/instance"]["verdict"] == "WORSE"


def test_a_missing_rerun_costs_only_its_own_comparison_a_seed():
    _, whole = decided(seeds=range(10))
    family, found = decided(seeds=range(10), without=[("sgd/batch", 4)])
    assert family["n_seeds"] == 9
    assert {name: c["n_seeds"] for name, c in found.items() if c["n_seeds"] != 10} == {"sgd/batch - adam/instance": 9}
    assert all(found[name] == c for name, c in whole.items() if name != "sgd/batch - adam/instance")
    assert found["sgd/batch - adam/instance"]["pairing"] == "paired seeds"


def test_a_missing_rerun_of_the_reference_changes_no_estimand():
    _, found = decided(seeds=range(10), without=[("adam/instance", 4)], effects={"sgd/batch": -0.1})
    assert {c["over"] for c in found.values()} == {"seeds and patients"}
    assert {c["pairing"] for c in found.values()} == {"paired seeds"}
    assert found["sgd/batch - adam/instance"]["verdict"] == "WORSE"


def test_a_diverged_rerun_scores_as_the_zero_filled_image():
    seeds = range(10)
    _, found = decided(seeds=seeds, diverged=[("sgd/batch", 4)], effects={"sgd/batch": 0.03})
    c = found["sgd/batch - adam/instance"]
    assert c["n_seeds"] == 10
    assert c["effect"] == pytest.approx(0.03 - 0.13 / 10, abs=2e-3)  # a tenth of the runs ends at 0.70 in place of 0.83
    assert c["verdict"] == "UNDECIDED"
    assert "diverged reruns (sgd/batch 1) are scored as the zero-filled image" in c["words"]
    others = [c for name, c in found.items() if name != "sgd/batch - adam/instance"]
    _, whole = decided(seeds=seeds, effects={"sgd/batch": 0.03})
    assert all(c == whole[c["name"]] for c in others)


def test_a_diverged_rerun_of_the_reference_leaves_verdicts_and_true_reasons():
    # one of ten took the verdict from all eight comparisons, "not even 1000 seeds alone would settle it"
    options = {"seeds": range(10), "diverged": [("adam/instance", 4)]}
    _, found = decided(**options, effects=dict.fromkeys(("sgd/batch", "sgd/group", "momentum/group"), -0.2))
    assert [c["first"] for c in found.values() if c["verdict"] == "WORSE"] == [
        "sgd/batch",
        "sgd/group",
        "momentum/group",
    ]
    assert all("1000" not in c["words"] for c in found.values() if c["verdict"] != "UNDECIDED")


def test_a_cell_far_behind_is_worse_although_one_seed_diverged():
    _, found = decided(seeds=range(8), diverged=[("sgd/batch", 2)], effects={"sgd/batch": -0.1})
    assert found["sgd/batch - adam/instance"]["verdict"] == "WORSE"


def test_survivors_get_no_verdict_in_their_favour_where_the_grid_excludes_what_diverged():
    seeds, diverged = range(10), [("sgd/batch", 4)]
    for effect, verdict in ((0.03, "NO VERDICT"), (-0.03, "WORSE")):
        _, found = decided(seeds=seeds, diverged=diverged, effects={"sgd/batch": effect}, **EXCLUDED)
        assert found["sgd/batch - adam/instance"]["verdict"] == verdict
        assert "diverged reruns (sgd/batch 1) are left out" in found["sgd/batch - adam/instance"]["words"]
    of_reference = [("adam/instance", 4)]
    for effect, verdict in ((0.03, "BETTER"), (-0.03, "NO VERDICT")):
        _, found = decided(seeds=seeds, diverged=of_reference, effects={"sgd/batch": effect}, **EXCLUDED)
        assert found["sgd/batch - adam/instance"]["verdict"] == verdict
    quiet = {"sd_seed": 1e-5, "sd_volume": 1e-5, "sd_residual": 1e-5}
    _, found = decided(seeds=range(10), diverged=[("sgd/batch", 4)], **quiet, **EXCLUDED)
    assert found["sgd/batch - adam/instance"]["verdict"] == "NO VERDICT"
    assert found["sgd/group - adam/instance"]["verdict"] == "EQUIVALENT"


def test_the_number_of_comparisons_is_that_of_the_plan():
    _, found = decided(without=[("sgd/batch", seed) for seed in range(8)])
    assert len(found) == 7
    assert {c["n_comparisons"] for c in found.values()} == {8}


def test_other_families_are_secondary_and_all_pairs_come_on_request():
    grid, results, _ = make_study(seeds=range(6), all_pairs=True)
    cells, *others = families(grid)
    assert [family.name for family in others] == ["main effects", "interactions", "all pairs of cells"]
    assert cells.is_primary
    assert not any(family.is_primary for family in others)
    made = decide(others[-1], scores_of(grid, results), MARGIN, "")
    assert len(made["comparisons"]) == 36
    assert made["note"].startswith("A secondary family, at its own 5 %: 36 comparisons")


def test_missing_cells_are_named_not_guessed():
    grid, results, _ = make_study()
    left = [r for r in results if r.stage != "rerun" or r.cell != "sgd/batch"]
    cells, main, _ = (decide(family, scores_of(grid, left), MARGIN, "") for family in families(grid))
    assert "sgd/batch - adam/instance" in cells["note"]
    assert "too few reruns to compare sgd/batch - adam/instance" in cells["note"]
    assert len(cells["comparisons"]) == 7
    assert {c["name"] for c in main["comparisons"]} == {"optimizer: momentum - adam", "norm: group - instance"}


def test_accelerations_are_a_factor():
    _, once = decided(sd_residual=0.0)
    family, twice = decided(sd_residual=0.0, accelerations=(4.0, 8.0))
    assert {c["n_comparisons"] for c in twice.values()} == {16}
    assert [name for name in twice if name.startswith("sgd/batch")] == [
        "sgd/batch - adam/instance at 4x",
        "sgd/batch - adam/instance at 8x",
    ]
    for name, comparison in once.items():
        for at in ("4x", "8x"):
            assert twice[f"{name} at {at}"]["effect"] == pytest.approx(comparison["effect"], abs=1e-12)
            assert (twice[f"{name} at {at}"]["n_volumes"], twice[f"{name} at {at}"]["at"]) == (10, at)
    assert family["note"].startswith("The primary family: 16 comparisons")


def test_an_interaction_with_the_acceleration_is_found():
    grid, results, _ = make_study(accelerations=(4.0, 8.0), sd_residual=1e-4)
    for run in results:
        if run.cell == "sgd/group":
            for k, score in enumerate(run.scores):
                if score.acceleration == 8:
                    run.scores[k] = replace(score, scores={**score.scores, "ssim": score.scores["ssim"] - 0.01})
    four, eight = scores_of(grid, results)
    made = decide(families(grid)[0], [between(eight, four)], MARGIN, "")
    found = {c["first"]: c for c in made["comparisons"]}
    assert found["sgd/group"]["verdict"] == "WORSE"
    assert found["sgd/group"]["effect"] == pytest.approx(-0.01, abs=1e-3)
    assert found["sgd/group"]["at"] == "8x - 4x"
    assert not {"BETTER", "WORSE"} & {c["verdict"] for first, c in found.items() if first != "sgd/group"}


def test_seeds_of_one_tuning_draw_are_one_unit():
    family, found = decided(seeds=range(10), repeats=5)
    assert {(c["unit"], c["n_seeds"], c["runs"]) for c in found.values()} == {
        ("tuning draw", 5, "5 paired tuning draws")
    }
    assert family["refused"] == ""
    family, _ = decided(seeds=range(10), repeats=2)
    assert family["refused"] == "2 tuning draws say too little about others: a verdict takes 5 of each"


def test_volumes_of_one_patient_are_one_unit():
    _, found = decided(n_volumes=12, volumes_per_patient=2)
    assert {(c["n_volumes"], c["n_patients"]) for c in found.values()} == {(12, 6)}


def studies_without_effects(n, sd_volume):
    """The comparisons of `n` studies of one factor whose cells are alike; volumes may prefer a cell for good."""
    one = {"factors": {"optimizer": OPTIMIZERS}, "seeds": range(6), "trials": 1, "sweep": 0, "n_steps": 40}
    return [decided(**one, rng=rng, margin=None, sd_volume=sd_volume)[1].values() for rng in range(n)]


def test_cells_that_are_alike_are_seldom_called_different():
    """Sign flips over seeds alone find what volumes prefer by chance in a third of such studies."""
    found = studies_without_effects(60, sd_volume=0.003)
    wins = sum(bool({"BETTER", "WORSE"} & {c["verdict"] for c in of_study}) for of_study in found)
    flips = sum(min(c["p_these_patients"] for c in of_study) <= ALPHA for of_study in found)
    assert flips > 12
    assert wins <= stats.binom.ppf(0.99, len(found), ALPHA)
