"""The grids and spaces that come with the package."""

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from mrirecon.ablation.claims.claim import NOT_TESTED
from mrirecon.ablation.claims.ledger import CLAIMS, decide_claims
from mrirecon.ablation.study.grid import groups_per_level
from mrirecon.ablation.study.grid_file import make_grid, read_grid_file
from mrirecon.ablation.study.plan import Common, Plan
from mrirecon.ablation.study.tune import edge
from mrirecon.cli.ablate import RUN
from mrirecon.config import TrainConfig
from mrirecon.configfile import configs_folder, load, shipped_configs
from mrirecon.evaluation.stats import MIN_SEEDS
from mrirecon.tables.optimizers import BOUNDS
from mrirecon.training.recipe.optimizers import OPTIMIZERS

GRIDS = [key.removeprefix("ablation/") for key in shipped_configs() if key.startswith("ablation/")]


@cache
def grid(name):
    return make_grid(read_grid_file(f"ablation/{name}"))


def test_every_study_that_help_documents_and_claims_name_is_shipped():
    root = Path(__file__).parents[2]
    texts = [path.read_text() for path in (root / "README.md", *(root / "docs").glob("*.md"))] + [RUN.epilog]
    named = {
        name for text in texts for name in re.findall(r"mrirecon ablate run (?:ablation/)?([a-z_]+)(?![\w./])", text)
    }
    assert len(named) > 3
    assert named | {claim.grid for claim in CLAIMS if claim.grid} <= set(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_each_is_a_grid_that_can_decide(name):
    made = grid(name)
    assert made.name == name
    assert len(made.cells) > 1
    assert made.n_units >= MIN_SEEDS
    assert made.simulate["test"] >= 5  # with fewer it is wide


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_methods_has_draws_and_another_says_that_it_compares_configurations(name):
    """Which optimizer, which norm: what tuning leaves to chance is part of the answer."""
    made, comment = grid(name), read_text(name).split("name: ")[0]
    text = " ".join(line.removeprefix("#").strip() for line in comment.splitlines())
    if made.tuning.repeats == 1:
        assert text.startswith("This study compares tuned configurations, not methods")
        assert name in {"smoke", "group_size", "norm_position", "recipe"}
        return
    assert "Methods are compared" in text
    assert (made.tuning.repeats, made.tuning.trials) >= (5, 8)
    of_draw = Counter(made.draws)
    assert len(of_draw) == made.n_units == made.tuning.repeats
    assert len(set(of_draw.values())) == 1  # as many seeds in each draw


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_says_what_it_costs(name):
    """The line of its comment, against the plan."""
    made, comment = grid(name), read_text(name).split("name: ")[0].replace("\n#", "")
    n_cells = len(made.cells)
    assert f"# Costs: {n_cells} cells" in read_text(name)
    assert f"= {Plan(made, Common('')).least():,} runs".replace(",", "") in comment.replace(",", "")
    assert f"up to {n_cells * made.tuning.trials * made.tuning.repeats} more" in comment


@pytest.mark.parametrize("name", GRIDS)
def test_group_norm_has_at_least_two_groups_in_every_level(name):
    """But for the level of `group_size` that is layer norm on purpose."""
    for cell in grid(name).cells:
        if cell.settings["model.norm"] == "group" and cell.levels.get("size") != "all":
            assert min(groups_per_level(cell.settings)) >= 2, cell.name


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("mission", {"sgd", "momentum", "adam"}, {"batch", "instance", "group"}),
        ("mission_cpu", {"sgd", "momentum", "adam"}, {"batch", "instance", "group"}),
        (
            "optimizer_x_norm",
            {"sgd", "momentum", "nesterov", "rmsprop", "adam"},
            {"none", "batch", "layer", "instance", "group"},
        ),
        ("lecture_vs_fastmri", {"adam", "rmsprop"}, {"group", "instance"}),
        ("batch_size", {"batch", "instance", "group"}, {"1", "2", "8", "32"}),
        ("norm_position", {"before", "between", "after"}, {"batch", "instance", "group"}),
    ],
)
def test_two_factor_grids_have_the_levels_they_promise(name, first, second):
    made = grid(name)
    assert [set(levels) for levels in made.factors.values()] == [first, second]
    assert len(made.cells) == len(first) * len(second)


def test_lecture_and_fastmri_differ_as_their_presets_do():
    """Optimizer and norm only; 64 channels, since 32 channels per group need them."""
    presets = {name: load(TrainConfig, f"preset/{name}") for name in ("lecture", "fastmri")}
    cells = {name: grid("lecture_vs_fastmri").cell(cell).settings for name, cell in CORNERS.items()}
    for name, preset in presets.items():
        assert cells[name]["optimizer.name"] == preset.optimizer.name
        assert cells[name]["model.norm"] == preset.model.norm
        assert cells[name]["model.affine"] == preset.model.affine
        assert cells[name]["schedule.name"] == preset.schedule.name
        assert cells[name]["schedule.step_at"] == preset.schedule.step_at
    assert cells["lecture"]["model.channels_per_group"] == 32


CORNERS = {"lecture": "adam/group", "fastmri": "rmsprop/instance"}


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.rule], ids=lambda claim: claim.id)
def test_every_claim_with_a_rule_has_a_shipped_grid_with_its_cells(claim):
    entries = decide_claims(grid(claim.grid), [], {})
    assert next(e["verdict"] for e in entries if e["claim"] == claim.id) != NOT_TESTED


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_says_which_claims_it_decides(name):
    """The line of its comment, against the rules; 'half of N6' is N6b."""
    entries = decide_claims(grid(name), [], {})
    held = {e["claim"].rstrip("b") + "b" * (e["claim"] == "N6b") for e in entries if e["verdict"] != NOT_TESTED}
    comment = [line for line in read_text(name).splitlines() if line.startswith("# Answers:")]
    if not comment:
        assert name in {"smoke", "recipe"}  # which decide none
        return
    said = set(
        comment[0].replace("half of N6", "N6b").rstrip(".").replace(" and ", ", ").split("claims ")[1].split(", ")
    )
    assert said == held - ({"N6b"} if "N6" in said else set())


def read_text(name):
    return (configs_folder() / "ablation" / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_spaces_are_declared_alike(name):
    space, method = OPTIMIZERS[name].space, OPTIMIZERS[name]
    assert set(space) == {"lr", "weight_decay"} | ({"one_minus_beta1"} if method.beta1_key else set())
    assert all(0 < low < high for low, high in space.values())
    assert math.log10(space["lr"][1] / space["lr"][0]) == pytest.approx(3)  # the same fineness for all
    bounds = {**BOUNDS, **method.bounds}
    assert all(bounds[key][0] < low < high <= bounds[key][1] for key, (low, high) in space.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_spaces_hold_the_recommended_rates(name):
    """Well inside, so that a run like those the defaults are made for is not at an edge."""
    rate, bounds = OPTIMIZERS[name].lr, OPTIMIZERS[name].space["lr"]
    assert bounds[0] < rate < bounds[1]
    assert edge(rate, bounds) == ""
