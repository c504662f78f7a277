"""Every claim on worlds where it is true, where it is false, and where noise hides it."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from claim_worlds import CASES, FAST, QUIET, SLOW, Case, decided, study
from scipy import stats
from synthetic import FACTORS, NORMS, OPTIMIZERS, ZERO_FILLED, World, make_study

from mrirecon.ablation.claims.claim import (
    BELOW_MARGIN,
    INCONCLUSIVE,
    NOT_TESTED,
    REFUTED,
    SUPPORTED,
    above,
    below,
    within,
)
from mrirecon.ablation.claims.evidence import Limits, Sources, over_draws
from mrirecon.ablation.claims.ledger import CLAIMS, decide_claims
from mrirecon.ablation.findings.analysis import analyse

RULED = [claim.id for claim in CLAIMS if claim.rule]


def test_every_claim_with_a_rule_has_a_case():
    assert list(CASES) == RULED


@pytest.mark.parametrize("claim", RULED)
def test_supported_where_it_is_true(claim):
    entry = decided(claim, CASES[claim], CASES[claim].true)
    assert entry["verdict"] == SUPPORTED, entry["words"]


@pytest.mark.parametrize("claim", RULED)
def test_refuted_where_it_is_false(claim):
    entry = decided(claim, CASES[claim], CASES[claim].false)
    assert entry["verdict"] == REFUTED, entry["words"]


@pytest.mark.parametrize("claim", [claim for claim in RULED if claim != "A10"])  # memory has no noise
def test_inconclusive_in_noise(claim):
    case = CASES[claim]
    entry = decided(claim, case, case.noisy, case.noise)
    assert entry["verdict"] == INCONCLUSIVE, entry["words"]


def test_not_tested_without_its_cells():
    plain = {"schedule": {name: {"schedule.name": name} for name in ("cosine", "linear")}}
    grid, results, facts = make_study(plain, seeds=range(6), sweep=0)
    entries = decide_claims(grid, results, analyse(grid, results, facts))
    assert [entry["claim"] for entry in entries] == [claim.id for claim in CLAIMS]
    for entry, claim in zip(entries, CLAIMS, strict=True):
        assert entry["verdict"] == NOT_TESTED
        assert entry["effect"] is entry["low"] is entry["high"] is None
        assert claim.needs in entry["words"]
        assert entry["command"] == (f"mrirecon ablate run ablation/{claim.grid}" if claim.rule else "")


@pytest.mark.parametrize("claim", RULED)
def test_inconclusive_before_its_cells_have_run(claim):
    grid, _, facts = make_study(CASES[claim].factors, seeds=range(6))
    entry = next(e for e in decide_claims(grid, [], analyse(grid, [], facts)) if e["claim"] == claim)
    assert (entry["verdict"], entry["effect"]) == (INCONCLUSIVE, None)
    assert "but" in entry["words"]


@pytest.mark.parametrize("claim", ["G12", "G2", "N7", "G16b"])
def test_a_single_tuning_draw_of_a_single_cell_decides_nothing(claim):
    case = CASES[claim]
    first, second = list(case.factors.items())[:2]
    labels = {"G12": ("m.9", "m.99"), "N7": ("sgd",)}.get(claim, ("sgd",))
    kept = {first[0]: {k: v for k, v in first[1].items() if k in labels}}
    kept[second[0]] = dict(list(second[1].items())[: 2 if claim == "N7" else 1])
    entry = decided(claim, replace(case, factors=kept), case.true, {"repeats": 1})
    assert entry["verdict"] == INCONCLUSIVE
    assert "tuning.repeats" in entry["words"]


def test_cells_are_found_by_settings_not_by_labels():
    renamed = {"method": {"x": OPTIMIZERS["momentum"], "y": OPTIMIZERS["sgd"]}, "layer": {"z": NORMS["instance"]}}
    entry = decided("G16", Case(renamed, {}, {}), {"x": World(ssim=0.83)})
    assert (entry["verdict"], entry["cells"]) == (SUPPORTED, ["x/z", "y/z"])


def test_what_else_differs_between_two_cells_makes_them_no_pair():
    betas = {
        "nesterov": {"optimizer.name": "nesterov", "optimizer.momentum": 0.99},
        "momentum": {"optimizer.name": "momentum"},
    }
    assert decided("G13", Case({"optimizer": betas}, {}, {}), {})["verdict"] == NOT_TESTED
    schedules = {
        "adam": {"optimizer.name": "adam", "schedule.name": "constant"},
        "rmsprop": {"optimizer.name": "rmsprop", "schedule.name": "step"},
    }
    assert decided("A7", Case({"optimizer": schedules}, {}, {}), {})["verdict"] == NOT_TESTED


def test_intervals_share_the_error_of_all_claims_of_the_study():
    case = CASES["A7b"]
    grid, results, analysed = study(case, case.true, {})
    entries = {entry["claim"]: entry for entry in decide_claims(grid, results, analysed)}
    assert {c for c, entry in entries.items() if entry["effect"] is not None} == {"A7", "A7b", "N6b"}
    n_effects = 1 + 1 + 2 + 1  # G2 waits for tuning draws, and N6b has two pairs of cells
    area = {(r.cell, r.seed): math.log(r.area) for r in results if r.stage == "rerun"}
    per_seed = [np.mean([area[f"adam/{n}", s] - area[f"rmsprop/{n}", s] for n in NORMS]) for s in grid.seeds]
    low, high = stats.t.interval(1 - 0.05 / n_effects, len(per_seed) - 1, np.mean(per_seed), stats.sem(per_seed))
    found = [entries["A7b"][key] for key in ("low", "effect", "high")]
    assert found == pytest.approx(np.exp([low, np.mean(per_seed), high]), rel=1e-9)


def test_an_unfinished_study_is_no_easier():
    """A claim whose cells still wait counts in the family already: the others' intervals do not widen later."""
    case = CASES["G16"]
    grid, results, analysed = study(case, case.true, {})
    early = [r for r in results if not (r.stage == "sweep" and r.cell == "sgd/batch")]  # G2 and G16b have to wait
    widths = []
    for records in (early, results):
        entry = next(e for e in decide_claims(grid, records, analysed) if e["claim"] == "G16")
        widths.append(entry["high"] - entry["low"])
    assert widths[0] == pytest.approx(widths[1])


def test_a_diverged_rerun_is_the_zero_filled_image_in_scores_and_withholds_what_curves_say():
    case = CASES["G16"]
    one = {"diverged": [("sgd/group", 2)]}
    entry = decided("G16", case, case.true, one)
    assert entry["verdict"] == INCONCLUSIVE  # one of the pairs has a run of 0.70 among runs of 0.80: no proof
    assert "reruns diverged" not in entry["words"]
    excluded = decided("G16", case, case.true, {**one, "diverged_as": "exclude"})
    assert excluded["verdict"] == INCONCLUSIVE
    assert "diverged in sgd/group" in excluded["words"]
    curves = decided("A7b", CASES["A7b"], CASES["A7b"].true, {"diverged": [("adam/group", 2)]})
    assert "diverged in adam/group" in curves["words"]


MIXED = {"sgd/group": World(ssim=0.808), "momentum/group": World(ssim=0.808), "adam/group": World(ssim=0.74)}


def test_usually_is_a_majority_of_pairs_and_no_mean():
    """Group norm better with 2 of 3 optimizers (+.008) and worse with one (-.06): the mean is below 0."""
    case = CASES["N6b"]
    entry = decided("N6b", case, MIXED)
    assert entry["verdict"] == SUPPORTED
    assert "Of 3 effects 1 refuted, 2 supported; more than half decide." in entry["words"]
    assert decided("N6b", case, {"adam/group": World(ssim=0.9)})["verdict"] == REFUTED  # one of three, however much


def test_whatever_the_norm_is_every_pair_and_no_mean():
    """Momentum worse with 2 of 3 norms (-.008) and better with one (+.06): the mean is above 0."""
    worlds = {"momentum/batch": World(ssim=0.792), "momentum/group": World(ssim=0.792)}
    worlds["momentum/instance"] = World(ssim=0.86)
    entry = decided("G16", CASES["G16"], worlds)
    assert entry["verdict"] == REFUTED
    assert "Of 3 effects 2 refuted, 1 supported; all have to hold." in entry["words"]


def test_an_effect_of_the_claimed_sign_below_the_margin_is_not_refuted():
    # the margin is 1 % of the gap of .1, .001
    entry = decided("G16", CASES["G16"], {"momentum": World(ssim=0.8004)}, {"sd_seed": 1e-5, "sd_volume": 1e-5,
                                                                             "sd_residual": 1e-5})  # fmt: skip
    assert entry["verdict"] == BELOW_MARGIN, entry["words"]
    assert 0 < entry["low"] < entry["high"] < entry["margin"]


def test_verdicts_of_claims_agree_with_the_comparisons_of_the_study():
    case = CASES["G16"]
    grid, results, analysed = study(case, case.true, {"seeds": range(5)})
    entry = next(e for e in decide_claims(grid, results, analysed) if e["claim"] == "G16")
    assert entry["verdict"] == SUPPORTED
    of_study = {c["name"]: c["verdict"] for c in analysed["families"][0]["comparisons"]}
    assert of_study["sgd/instance - momentum/instance"] == "WORSE"
    few = decided("G16", case, case.true, {"seeds": range(4)})
    assert few["verdict"] == INCONCLUSIVE
    assert "4 seeds say too little about others" in few["words"]


def test_a_best_rate_at_the_edge_is_no_best_rate():
    case = CASES["G12"]
    grid, results, analysed = study(case, case.true, {})
    analysed["cells"][2]["edge"] = "high"
    entry = next(e for e in decide_claims(grid, results, analysed) if e["claim"] == "G12")
    assert entry["verdict"] == INCONCLUSIVE
    assert f"edge of its range in {analysed['cells'][2]['cell']}" in entry["words"]


def test_a_sentence_names_data_model_budget_and_condition():
    case = CASES["G16"]
    words = decided("G16", case, case.true)["words"]
    for part in ("simulated-from-phantom", "random 4x", "U-Net, 8 channels", "300 steps x 4 slices", "one tuning draw"):
        assert part in words
    assert "5 tuning draws and 10 patients" in decided("G16", case, case.true, {"repeats": 5})["words"]


def test_plain_data_whatever_the_order_of_the_records():
    case = CASES["N7"]  # some cells have no rate that failed: open ends
    worlds = {"": replace(FAST, lr_diverged=9.0, curvature=0.001), "none": SLOW}
    grid, results, analysed = study(case, worlds, {"sd_seed": 0, "sd_volume": 1e-6, "sd_residual": 1e-6})
    entries = decide_claims(grid, results, analysed)
    assert decide_claims(grid, results[::-1], analysed) == entries
    assert json.loads(json.dumps(entries, allow_nan=False)) == entries
    gain = next(entry for entry in entries if entry["claim"] == "N7")
    assert (gain["verdict"], gain["high"]) == (SUPPORTED, None)
    assert "at least" in gain["words"]
    assert "none" not in gain["words"].split("No tried rate failed in ")[1].split(".")[0]


@pytest.mark.parametrize(
    ("where", "interval", "verdict"),
    [
        (above(0.01, "SSIM"), (0.011, 0.02), SUPPORTED),
        (above(1, "x"), (0.1, math.inf), SUPPORTED),
        (below(1, "x"), (-math.inf, -0.1), SUPPORTED),
        (above(0.01, "SSIM"), (0.001, 0.009), BELOW_MARGIN),  # a gain that does not matter
        (above(0.01, "SSIM"), (-0.001, 0.009), REFUTED),
        (below(0.8, "x"), (math.log(0.85), math.log(0.95)), BELOW_MARGIN),
        (below(0.8, "x"), (math.log(0.85), math.log(1.05)), REFUTED),
        (above(0.01, "SSIM"), (0.009, 0.02), INCONCLUSIVE),
        (below(0.01, "SSIM"), (-1.0, 0.009), SUPPORTED),
        (below(0.01, "SSIM"), (0.011, 1.0), REFUTED),
        (below(4, "x"), (math.log(1.5), math.log(3.9)), SUPPORTED),
        (below(4, "x"), (math.log(4.1), math.inf), REFUTED),
        (below(4, "x"), (math.log(1.5), math.inf), INCONCLUSIVE),
        (within(2, "x", centre=10), (math.log(5.1), math.log(19)), SUPPORTED),
        (within(2, "x", centre=10), (math.log(0.5), math.log(4.9)), REFUTED),
        (within(2, "x", centre=10), (math.log(4.9), math.log(19)), INCONCLUSIVE),
        (within(0.0005, "SSIM"), (-0.0004, 0.0004), SUPPORTED),
        (within(0.0005, "SSIM"), (-0.0004, 0.0006), INCONCLUSIVE),
        (above(None, "SSIM"), (1.0, 2.0), INCONCLUSIVE),  # the study has no margin yet
        (above(1, "x"), (0.0, 0.0), INCONCLUSIVE),
    ],
)
def test_regions(where, interval, verdict):
    assert where.verdict(Limits(*interval)) == verdict


@pytest.mark.parametrize("n_blocks", [1, 2, 9])
def test_intervals_over_tuning_draws_cover_and_cells_are_no_draws(n_blocks):
    """Cells share what they differ in: taken as draws, 9 of them covered 65 to 79 %."""
    rng = np.random.default_rng(0)
    n_studies, covered, n_draws = 2000, 0, 5
    for _ in range(n_studies):
        x = 0.3 + rng.normal(0, 0.5, (1, n_draws)) + rng.normal(0, 0.2, (n_blocks, n_draws))
        found = {str(i): [Limits(v, v) for v in row] for i, row in enumerate(x)}
        low, high = over_draws("mean", found).at(0.95)
        covered += low < 0.3 < high
    assert abs(covered / n_studies - 0.95) < 3 * math.sqrt(0.95 * 0.05 / n_studies)
    assert over_draws("mean", {str(i): [Limits(1.0, 1.0)] for i in range(9)}) is None


def test_limits_widen_the_interval_on_both_sides():
    exact = {"a": [Limits(x, x) for x in (1.0, 2.0, 4.0, 4.5, 7.0)]}
    wide = {"a": [Limits(x - 0.5, x + 0.25) for x, _ in exact["a"]]}
    (low, high), (lower, higher) = (over_draws("mean", found).at(0.9) for found in (exact, wide))
    assert (lower, higher) == pytest.approx((low - 0.5, high + 0.25))


def test_neither_torch_nor_lightning_is_imported():
    code = "import sys, mrirecon.ablation.claims.ledger\n"
    code += "sys.exit(bool({'torch', 'pytorch_lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def of_failed_runs(shares, **changes):
    """Claims of a study whose rates fail by ending below zero-filled, not by diverging; how many failed; the study."""
    world = World(lr_diverged=1.0, curvature=0.05)
    grid, results, facts = make_study(FACTORS, default=world, seeds=range(6), repeats=5, **QUIET)
    grid, facts = replace(grid, targets=shares), facts | changes
    study = analyse(grid, results, facts)
    sources = Sources(grid, results, study)
    ledger = {entry["claim"]: entry for entry in decide_claims(grid, results, study)}
    return ledger, sum(sources.has_failed(run) for run in results), study


@pytest.mark.parametrize("targets", [(0.9,), (), (0.9, 0.97), (0.5, 0.9, 0.97)])
def test_runs_below_zero_filled_fail_whatever_the_targets_are(targets):
    ledger, n_failed, study = of_failed_runs(targets)
    expected, n_expected, _ = of_failed_runs((0.9, 0.97, 0.995))
    assert n_failed == n_expected > 9
    assert study["zero_filled_val"] == {"ssim": ZERO_FILLED}
    assert not any("zero-filled" in warning for warning in study["warnings"])
    with_targets = {"A7b", "N7b"}  # that speak of the lowest target
    numbers = [(e["claim"], e["verdict"], e["effect"], e["low"], e["high"]) for e in expected.values()]
    found = [(e["claim"], e["verdict"], e["effect"], e["low"], e["high"]) for e in ledger.values()]
    assert [row for row in found if row[0] not in with_targets] == [r for r in numbers if r[0] not in with_targets]
    assert ledger["G2"]["effect"] is not None


def test_a_study_from_before_zero_filled_was_kept_tells_it_by_two_targets_or_says_that_it_is_not_known():
    frozen = [{"share": share, "ssim": ZERO_FILLED + 0.1 * share} for share in (0.9, 0.97)]
    _, n_expected, _ = of_failed_runs((0.9, 0.97))
    _, n_failed, study = of_failed_runs((0.9, 0.97), zero_filled_val=None, targets=frozen)
    assert (n_failed, study["zero_filled_val"]) == (n_expected, {"ssim": None})
    assert not any("zero-filled" in warning for warning in study["warnings"])
    ledger, n_failed, study = of_failed_runs((0.9,), zero_filled_val=None, targets=frozen[:1])
    assert n_failed == 0
    assert any("zero-filled validation images is not known" in warning for warning in study["warnings"])
    assert "zero-filled images is not known, so that only diverged runs count as failed" in ledger["G2"]["words"]
