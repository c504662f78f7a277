"""Contrasts are sums over cells with known answers, and families find the effects that are there, and only these."""

import numpy as np
import pytest
from scipy import stats
from synthetic import FACTORS, NORMS, OPTIMIZERS, make_study

from mrirecon.ablation.findings.contrasts import families
from mrirecon.ablation.findings.inference import ALPHA, decide
from mrirecon.ablation.findings.rerun_scores import rerun_scores

THREE = {**FACTORS, "batch": {"b1": {"batch_size": 1}, "b8": {"batch_size": 8}}}


def by_name(grid):
    return {contrast.name: contrast for family in families(grid) for contrast in family.contrasts}


def scores_of(grid, results):
    return rerun_scores(grid, results, "ssim", "final")


def decided(*, family=0, margin=0.001, **options):
    grid, results, _ = make_study(**options)
    chosen = decide(families(grid)[family], scores_of(grid, results), margin, "")
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
    assert family["smallest_p"] == 2 / 2**8
    assert found["sgd/batch - adam/instance"]["verdict"] == "WORSE"
    assert found["adam/group - adam/instance"]["verdict"] == "BETTER"
    for name, effect in (("sgd/batch", -0.02), ("adam/group", 0.01)):
        comparison = found[f"{name} - adam/instance"]
        assert comparison["low_family"] < effect < comparison["high_family"]
    others = [c["verdict"] for c in found.values() if c["first"] not in ("sgd/batch", "adam/group")]
    assert len(others) == 6
    assert not {"BETTER", "WORSE"} & set(others)


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


@pytest.mark.parametrize("margin", [None, float("nan")])
def test_without_a_margin_nothing_is_equivalent(margin):
    _, found = decided(margin=margin, sd_seed=1e-5, sd_volume=1e-5, sd_residual=1e-5)
    assert "EQUIVALENT" not in {c["verdict"] for c in found.values()}


def test_a_family_of_too_few_seeds_is_refused_with_the_reason_and_without_verdicts():
    family, found = decided(seeds=range(5), effects={"sgd/batch": -0.2})
    assert {c["verdict"] for c in found.values()} == {""}
    assert "5 paired seeds cannot reach" in family["refused"]
    assert "at least 6 seeds" in family["note"]
    assert found["sgd/batch - adam/instance"]["effect"] == pytest.approx(-0.2, abs=0.01)  # still shown
    assert all("no verdict" in c["words"] for c in found.values())


def test_a_diverged_rerun_costs_only_its_own_comparison_a_seed():
    family, found = decided(seeds=range(10), diverged=[("sgd/batch", 4)])
    assert family["n_seeds"] == 9
    assert {name: c["n_seeds"] for name, c in found.items() if c["n_seeds"] != 10} == {"sgd/batch - adam/instance": 9}


def test_no_verdict_in_favour_of_a_cell_that_diverged_but_against_it():
    seeds, diverged = range(10), [("sgd/batch", 4)]
    for effect, verdict in ((0.03, "INCONCLUSIVE"), (-0.03, "WORSE")):
        _, found = decided(seeds=seeds, diverged=diverged, effects={"sgd/batch": effect})
        assert found["sgd/batch - adam/instance"]["verdict"] == verdict
        assert "diverged in sgd/batch" in found["sgd/batch - adam/instance"]["words"]
    of_reference = [("adam/instance", 4)]
    for effect, verdict in ((0.03, "BETTER"), (-0.03, "INCONCLUSIVE")):
        _, found = decided(seeds=seeds, diverged=of_reference, effects={"sgd/batch": effect})
        assert found["sgd/batch - adam/instance"]["verdict"] == verdict


def test_a_survivor_is_not_called_equivalent():
    quiet = {"sd_seed": 1e-5, "sd_volume": 1e-5, "sd_residual": 1e-5}
    _, found = decided(seeds=range(10), diverged=[("sgd/batch", 4)], **quiet)
    assert found["sgd/batch - adam/instance"]["verdict"] == "INCONCLUSIVE"
    assert found["sgd/group - adam/instance"]["verdict"] == "EQUIVALENT"


def test_parts_of_a_family_with_different_seeds_share_its_alpha():
    """Bonferroni between the parts: p is multiplied by the share, and intervals are those of the whole family."""
    _, whole = decided(seeds=range(10))
    _, parts = decided(seeds=range(10), diverged=[("sgd/batch", 4)])
    rest = {name: c for name, c in parts.items() if c["n_seeds"] == 10}
    assert len(rest) == 7
    for name, comparison in rest.items():
        assert (comparison["alpha"], comparison["n_comparisons"]) == (ALPHA, 8)
        for field in ("effect", "low", "high", "low_family", "high_family", "bootstrap_low"):
            assert comparison[field] == pytest.approx(whole[name][field], rel=1e-9), field
        assert comparison["p_family"] >= comparison["p"]


def test_missing_cells_are_named_not_guessed():
    grid, results, _ = make_study()
    left = [r for r in results if r.stage != "rerun" or r.cell != "sgd/batch"]
    cells, main, _ = (decide(family, scores_of(grid, left), 0.001, "") for family in families(grid))
    assert "sgd/batch - adam/instance" in cells["note"]
    assert cells["note"].startswith("7 comparisons of SSIM; sign flips")
    assert len(cells["comparisons"]) == 7
    assert {c["name"] for c in main["comparisons"]} == {"optimizer: momentum - adam", "norm: group - instance"}


def test_several_accelerations_count_as_one_unit_per_volume():
    _, once = decided(sd_residual=0.0)
    _, twice = decided(sd_residual=0.0, accelerations=(4.0, 8.0))
    for name, comparison in twice.items():
        assert comparison["n_volumes"] == 10
        assert comparison["effect"] == pytest.approx(once[name]["effect"], abs=1e-12)


def test_volumes_of_one_patient_are_one_unit():
    _, found = decided(n_volumes=12, volumes_per_patient=2)
    assert {(c["n_volumes"], c["n_patients"]) for c in found.values()} == {(12, 6)}


def studies_without_effects(n, sd_volume):
    """The comparisons of `n` studies of one factor whose cells are alike; volumes may prefer a cell for good."""
    one = {"factors": {"optimizer": OPTIMIZERS}, "seeds": range(6), "trials": 1, "sweep": 0, "n_steps": 40}
    return [decided(**one, rng=rng, margin=None, sd_volume=sd_volume)[1].values() for rng in range(n)]


def test_without_effects_the_smallest_p_of_a_family_is_uniform():
    """Of cells that differ by chance of the seeds alone; without the family's adjustment p of this test is 1e-4."""
    smallest = [min(c["p_family"] for c in found) for found in studies_without_effects(60, sd_volume=0.0)]
    quarters = np.histogram(smallest, 4, (0, 1 + 1e-9))[0]  # 8 each of the 32 values that six seeds can give
    assert stats.chisquare(quarters).pvalue > 0.01


def test_what_volumes_prefer_by_chance_makes_no_winner():
    """Flips over seeds alone find it in a third of the studies; the verdict asks whether other patients would."""
    found = studies_without_effects(60, sd_volume=0.003)
    wins = sum(bool({"BETTER", "WORSE"} & {c["verdict"] for c in of_study}) for of_study in found)
    flips = sum(min(c["p_family"] for c in of_study) <= ALPHA for of_study in found)
    assert flips > 12
    assert wins <= stats.binom.ppf(0.99, len(found), ALPHA)
