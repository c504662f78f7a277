"""What a study means by keys that its grid leaves out stays what it was when the study began."""

import json
import shutil
from pathlib import Path

import pytest

from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.study.identity import DEFAULTS, FIRST, FIRST_STUDIES, TODAY
from mrirecon.ablation.study.plan import Common, Plan
from mrirecon.ablation.work.prepare import read_content
from mrirecon.ablation.work.worker import Setting, training_config
from mrirecon.cli import main
from mrirecon.config import TrainConfig
from mrirecon.config.ablate import AblateConfig
from mrirecon.configfile import flatten
from mrirecon.errors import InputError
from mrirecon.tables.optimizers import OPTIMIZERS

COMPAT = Path(__file__).resolve().parents[1] / "compat"
EARLIER = {"optimizer": "adamw", "model": {"residual": False}, "batch_size": 2}


def grid(base=None, factors=None, **changes):
    factors = factors or {"norm": ["instance", "group"]}
    content = {
        "name": "defaults",
        "factors": factors,
        "base": {"max_steps": 10, "model": {"channels": 8, "pools": 2}, **(base or {})},
        "seeds": 6,
        "reference": {factor: levels[0] for factor, levels in factors.items()},
        "tuning": {"trials": 4, "sweep": 3},
    }
    return make_grid(content | changes)


def ids(of):
    return [spec.id for spec in Plan(of, Common("data")).runs({})]


def configs(of):
    return [training_config(spec, Setting("data")) for spec in Plan(of, Common("data")).runs({})]


def test_the_first_studies_have_the_runs_of_a_grid_that_names_their_defaults():
    named = {**EARLIER, "model": {"channels": 8, "pools": 2, "residual": False}}
    assert ids(grid(defaults=FIRST_STUDIES)) == ids(grid(named))
    assert not set(ids(grid(defaults=FIRST_STUDIES))) & set(ids(grid()))
    for config in configs(grid(defaults=FIRST_STUDIES)):
        assert (config.optimizer.name, config.model.residual, config.batch_size) == ("adamw", False, 2)


def test_what_their_grids_name_counts():
    base = {"batch_size": 3, "model": {"channels": 8, "pools": 2, "residual": True}, "optimizer": {"name": "sgd"}}
    assert ids(grid(base, defaults=FIRST_STUDIES)) == ids(grid(base))


def test_a_new_study_has_the_defaults_of_today():
    for config in configs(grid()):
        assert (config.optimizer.name, config.batch_size) == (TrainConfig().optimizer.name, TrainConfig().batch_size)
        assert config.model.residual is True  # trained anew
    assert ids(grid()) == ids(grid({"model": {"channels": 8, "pools": 2, "residual": True}}))


def test_residual_learning_is_for_networks_that_have_it_and_weights_decide():
    varnet = {"model": {"name": "varnet", "channels": 8, "pools": 2}, "loss": "ssim"}
    assert {cell.settings["model.residual"] for cell in grid(varnet).cells} == {False}
    assert {cell.settings["model.residual"] for cell in grid({"weights": "some.pt"}).cells} == {"auto"}
    with pytest.raises(InputError, match="are the same"):
        grid(factors={"model.residual": ["auto", True]})


@pytest.mark.parametrize(
    ("base", "momentum", "schedule"),
    [
        ({}, 0.95, "onecycle"),
        ({"optimizer": {"momentum": 0.9}}, 0.9, "onecycle"),
        ({"schedule": {"name": "cosine"}}, 0.95, "cosine"),
    ],
)
def test_muon_is_trained_in_the_first_studies_as_it_was(base, momentum, schedule):
    """Its own momentum and what `auto` made of its schedule are in no identity, so they stay with the study."""
    base = {**base, "optimizer": {"name": "muon", **base.get("optimizer", {})}}
    before = grid(base, defaults=FIRST_STUDIES)
    for config in configs(before):
        assert (config.optimizer.momentum, config.schedule.name) == (momentum, schedule)
    named = base | {"batch_size": 2, "model": {"channels": 8, "pools": 2, "residual": False}}
    assert ids(before) == ids(grid(named))
    assert [c.schedule.name for c in configs(grid(named))] == [base.get("schedule", {}).get("name", "auto")] * len(
        ids(before)
    )


def test_a_tuned_momentum_is_not_overwritten_and_is_searched_where_it_was():
    tuning = {"trials": 4, "sweep": 0, "dimensions": ["lr", "one_minus_beta1"]}
    base = {"optimizer": {"name": "muon"}}
    before = grid(base, defaults=FIRST_STUDIES, tuning=tuning)
    key = "optimizer.one_minus_beta1"
    assert {cell[key] for cell in before.tuning.spaces.values()} == {(0.01, 0.2)}
    assert {cell[key] for cell in grid(base, tuning=tuning).tuning.spaces.values()} == {
        OPTIMIZERS["muon"].space["one_minus_beta1"]
    }
    for spec in Plan(before, Common("data")).runs({}):
        config = training_config(spec, Setting("data"))
        assert config.optimizer.momentum == pytest.approx(1 - spec.values[key])
    own = tuning | {"spaces": {"muon": {"one_minus_beta1": [0.1, 0.3]}}}
    of_the_grid = grid(base, defaults=FIRST_STUDIES, tuning=own)
    assert {cell[key] for cell in of_the_grid.tuning.spaces.values()} == {(0.1, 0.3)}


def test_a_study_of_before_that_names_no_batch_size_has_nothing_to_do(tmp_path, capsys):
    """The one on disk names 2; where it had left that to the default, its 18 runs would have been the same."""
    folder = Path(shutil.copytree(COMPAT / "finished", tmp_path / "study"))
    shutil.copytree(COMPAT / "data", folder / "data", copy_function=shutil.copyfile)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "defaults" not in manifest["grid"]
    assert manifest["grid"]["base"].pop("batch_size") == 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["ablate", "status", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "18/18", "0", "0", "0", "0", "complete"]
    assert main(["ablate", "run", str(folder), "--dry-run"]) == 0
    assert "left        0 runs to do, 18 are done" in capsys.readouterr().out.splitlines()


def test_the_folder_decides_and_a_new_one_notes_the_defaults_of_today(tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    content = {"name": "x", "factors": {"norm": ["instance", "group"]}, "reference": {"norm": "group"}}
    (begun / "manifest.json").write_text(json.dumps({"schema": 1, "grid": content}))
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(content))
    asked = {name: read_content(str(file), AblateConfig(output=str(tmp_path / name))) for name in ("begun", "new")}
    assert asked["begun"]["defaults"] == StudyFolder(begun).read_manifest()["grid"]["defaults"] == FIRST_STUDIES
    assert asked["new"]["defaults"] == TODAY
    of_the_first = read_content(str(begun), AblateConfig(output=str(tmp_path / "new")))
    assert of_the_first["defaults"] == FIRST_STUDIES  # its grid goes on to mean what it did


@pytest.mark.parametrize("number", [0, 99, "today", True])
def test_unknown_defaults_are_refused(number):
    with pytest.raises(InputError, match="defaults is .*; give 1 or 2, or leave it out"):
        grid(defaults=number)


def test_a_default_that_changes_is_entered():
    """Studies that began under today's number would else mean something else tomorrow."""
    defaults = flatten(TrainConfig())
    assert {key: defaults[key] for key in FIRST} == {
        **{"data.mask": "auto", "data.acceleration": [4], "data.center_fraction": [], "data.acquisition": []},
        **{"data.volumes": 0, "data.slices": [], "data.coils": "auto", "data.split_seed": -1},
        **{"data.fixed_masks": False, "model.name": "unet", "model.input": "magnitude", "model.normalize": "auto"},
        **{"model.channels": 32, "model.pools": 4, "model.norm": "instance", "model.affine": False},
        **{"model.channels_per_group": 0, "model.n_groups": 0, "model.norm_position": "between"},
        **{"model.residual": "auto", "model.dropout": 0.0, "optimizer.name": "muon", "optimizer.lr": "auto"},
        **{"optimizer.momentum": None, "optimizer.betas": [], "optimizer.alpha": None, "optimizer.eps": None},
        **{"optimizer.weight_decay": 0.0, "schedule.name": "auto", "schedule.warmup": 0.0, "schedule.step_at": 0.8},
        **{"schedule.factor": 0.1, "schedule.final": 0.0, "schedule.power": 0.9, "schedule.decay": 0.2},
        **{"schedule.patience": 5, "average.name": "none", "average.decay": 0.999, "average.start": 0.75},
        **{"average.bn_batches": 50, "loss": "l1", "l1_weight": 0.01, "batch_size": 1, "accumulate": 1},
        **{"max_steps": 0, "max_epochs": 0, "clip": 0.0, "precision": "auto", "val_every": 0, "val_volumes": 0},
        **{"checkpoint_every": 0, "early_stop": 0, "protocol": "fastmri-v1", "seed": 0, "threads": 0},
    }, "enter the defaults of before in DEFAULTS of mrirecon/ablation/study/identity.py, under a new number"
    assert max(DEFAULTS) == TODAY
