"""What a call leaves open of a method is chosen on another split than the one reported, by the lowest NMSE."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.config import DataConfig, EvaluateConfig
from mrirecon.data import SliceDataset
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.hdf5.opening import close
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation.results import read_results
from mrirecon.tables.methods import METHODS, Method
from mrirecon.workflows.evaluate import evaluate

GRID = (0.5, 0.9, 1.1, 1.4, 3.0)


@dataclass(frozen=True)
class ScaledOptions:
    """What `scaled` can be set to."""

    factor: float | None = None
    """Of the zero-filled image."""
    power: int = 1
    """Of the factor."""


class Scaled:
    """The zero-filled image times a number, of which NMSE has a closed form."""

    def __init__(self, factor, power):
        self.factor = factor**power

    def __call__(self, sample):
        return sample.image * self.factor


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "scaled", Method("scaled", Scaled, ScaledOptions, chosen={"factor": GRID}))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path, volume_writer):
    """Eight volumes to train, three to validate, whose references are of another scale than their k-space."""
    for split, n in (("train", 8), ("val", 3), ("test", 2)):
        for i in range(n):
            path = volume_writer(
                tmp_path / "data" / split / f"{split}{i}.h5", n_slices=3 + i % 2, n_coils=2, matrix=(32, 40), seed=i
            )
            rescale(path, {"train": 1.4, "val": 3.0, "test": 0.9}[split])
    return tmp_path / "data"


def rescale(path, factor):
    close(path)
    with h5py.File(path, "r+") as file:
        file["reconstruction_rss"][...] *= factor
        file.attrs["max"] = file["reconstruction_rss"][()].max()


def config(data, **changes):
    keys = {key: changes.pop(key) for key in list(changes) if key in DataConfig.__dataclass_fields__}
    of_data = DataConfig(path=str(data), check_reference="off", **{"mask": "random", **keys})
    return EvaluateConfig(data=of_data, **{"output": "out", "overwrite": True, **changes})


def chosen(data, **changes):
    folders = evaluate(config(data, **changes), "scaled")
    return [json.loads((folder / "summary.json").read_text())["chosen"] for folder in folders]


def nmse_of(volumes, factor, acceleration=4):
    """Mean over volumes of the NMSE of the middle slice, by numpy."""
    dataset = SliceDataset(volumes, mask="random", acceleration=acceleration, needs=("image",))
    values = []
    for i, (v, index) in enumerate(dataset.items):
        if index == volumes[v].n_slices // 2:
            image, target = (np.asarray(part, np.float64) for part in (dataset[i].image, dataset[i].target))
            values.append(((factor * image - target) ** 2).sum() / (target**2).sum())
    return np.mean(values)


def test_the_best_of_the_grid_on_another_split(data, capsys):
    (found,) = chosen(data, split="val")
    volumes = [v for v in list_volumes(data / "train", data) if v.name in found["volumes"]]
    assert len(volumes) == 6
    expected = [nmse_of(volumes, factor) for factor in GRID]
    assert [tried["factor"] for tried in found["tried"]] == list(GRID)
    assert [tried["nmse"] for tried in found["tried"]] == pytest.approx(expected, rel=1e-5)
    assert found["values"] == {"factor": GRID[int(np.argmin(expected))]}
    assert (found["split"], found["n_slices"], found["metric"], found["at_edge"]) == ("train", 6, "nmse", [])
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["options"] == {"factor": found["values"]["factor"], "power": 1}
    out = capsys.readouterr().out
    value = found["values"]["factor"]
    assert f"scaled at 4x: factor {value:g}, chosen by the NMSE of 6 slices of 6 volumes of train" in out
    assert out.count("chosen by") == 1
    assert "edge" not in out


def test_val_is_taken_where_test_is_reported(data):
    (found,) = chosen(data, split="test")
    assert found["split"] == "val"
    assert found["volumes"] == [f"val/val{i}.h5" for i in range(3)]
    assert found["n_slices"] == 6  # two of each, as there are three volumes
    assert found["values"] == {"factor": 3.0}


def test_the_reported_split_does_not_move_it(data, monkeypatch):
    """Its references change, and then do those of the split on which the factor is chosen."""
    (before,) = chosen(data, split="val")
    for i in range(3):
        rescale(data / "val" / f"val{i}.h5", 0.1)
    (after,) = chosen(data, split="val")
    assert after == before
    for i in range(8):
        rescale(data / "train" / f"train{i}.h5", 0.5)
    (moved,) = chosen(data, split="val")
    assert moved["values"] != before["values"]


def test_no_sample_of_the_reported_split_is_read_for_it(data, monkeypatch):
    from mrirecon.workflows.setup import evaluations

    read, choose = [], evaluations.choose
    for name in ("kspace", "target"):
        original = getattr(Volume, name)
        monkeypatch.setattr(
            Volume, name, lambda self, index, original=original: read.append(self.name) or original(self, index)
        )

    def watched(*arguments):
        read.clear()
        found = choose(*arguments)
        assert len(read) == len(GRID) * 6 * 2
        assert {name.split("/")[0] for name in read} == {"train"}
        read.clear()
        return found

    monkeypatch.setattr(evaluations, "choose", watched)
    chosen(data, split="val")
    assert {name.split("/")[0] for name in read} == {"val"}


def test_each_acceleration_has_its_own(data, monkeypatch):
    folders = evaluate(config(data, split="val", acceleration=[2, 8], save=True, output=""), "scaled")
    assert folders == [Path(f"runs/scaled/evaluation/data-val-random-{r}x") for r in (2, 8)]
    for folder, acceleration in zip(folders, (2, 8), strict=True):
        found = json.loads((folder / "summary.json").read_text())["chosen"]
        volumes = [v for v in list_volumes(data / "train", data) if v.name in found["volumes"]]
        assert found["tried"][0]["nmse"] == pytest.approx(nmse_of(volumes, GRID[0], acceleration), rel=1e-5)
        (attrs,) = {h5py.File(path).attrs["options"] for path in sorted((folder / "reconstructions").rglob("*.h5"))}
        assert json.loads(attrs) == found["values"]
        close_all(folder)


def close_all(folder):
    for path in folder.rglob("*.h5"):
        close(path)


@pytest.mark.parametrize(
    ("grid", "beyond", "is_edge"),
    [
        ((0.1, 0.2), [0.4, 0.8, 1.6, 3.2], False),  # upwards until the best is inside
        ((8.0, 16.0), [4.0, 2.0, 1.0, 0.5], False),  # downwards
        ((0.001, 0.002), [0.004, 0.008, 0.016, 0.032], True),  # so far and no further
        ((0.5, 1.4, 9.0), [], False),
        ((1, 0), [], True),  # 0 and whole numbers have no factor
        ((1.4,), [], False),
    ],
)
def test_values_beyond_the_grid_are_tried_where_the_best_is_at_its_edge(
    data, monkeypatch, capsys, grid, beyond, is_edge
):
    monkeypatch.setitem(METHODS, "scaled", Method("scaled", Scaled, ScaledOptions, chosen={"factor": grid}))
    (found,) = chosen(data, split="val")
    volumes = [v for v in list_volumes(data / "train", data) if v.name in found["volumes"]]
    expected = {factor: nmse_of(volumes, factor) for factor in sorted([*grid, *beyond])}
    assert [tried["factor"] for tried in found["tried"]] == list(expected)
    assert [tried["nmse"] for tried in found["tried"]] == pytest.approx(list(expected.values()), rel=1e-5)
    assert found["values"]["factor"] == min(expected, key=expected.get)
    assert (found["n_beyond_grid"], found["at_edge"]) == (len(beyond), ["factor"] * is_edge)
    out = capsys.readouterr().out
    assert ("factor is at the edge of what was tried" in out) == is_edge
    said = f"the best value of the grid was at its edge, and {len(beyond)} beyond it were tried"
    assert (said in out) == bool(beyond)
    assert out.count("scaled at 4x") == 1


def test_values_that_the_method_refuses_are_not_tried(data, monkeypatch, capsys):
    def limited(factor, power):
        if factor > 0.5:
            raise InputError("too large")
        return Scaled(factor, power)

    monkeypatch.setitem(METHODS, "scaled", Method("scaled", limited, ScaledOptions, chosen={"factor": (0.1, 0.2)}))
    (found,) = chosen(data, split="val")
    assert (found["values"], found["at_edge"], found["n_beyond_grid"]) == ({"factor": 0.4}, ["factor"], 1)
    assert "factor is at the edge of what was tried" in capsys.readouterr().out


def test_a_given_value_is_not_chosen(data, capsys):
    (folder,) = evaluate(config(data, split="val", method={"factor": 0.7}, output=""), "scaled")
    assert folder.parts[:2] == ("runs", "scaled-factor-0.7")
    assert "chosen" not in json.loads((folder / "summary.json").read_text())
    assert "chosen" not in capsys.readouterr().out


def test_other_options_name_the_folder_and_are_kept_in_the_choice(data):
    (folder,) = evaluate(config(data, split="val", method={"power": 2}, output=""), "scaled")
    assert folder.parts[:2] == ("runs", "scaled-power-2")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["options"]["power"] == 2
    volumes = [v for v in list_volumes(data / "train", data) if v.name in summary["chosen"]["volumes"]]
    expected = [nmse_of(volumes, factor**2) for factor in GRID]
    assert [tried["nmse"] for tried in summary["chosen"]["tried"]] == pytest.approx(expected, rel=1e-5)


def test_total_variation_is_better_with_its_chosen_weight_than_with_the_others(data, capsys):
    """On the split where it is chosen, scored there with each weight given, of the same slices."""
    options = {"maps": "low-resolution", "iterations": 12}
    keys = {"slices": [1, 1], "metrics": ["nmse"]}
    (folder,) = evaluate(config(data, split="test", method=options, **keys), "tv")
    found = json.loads((folder / "summary.json").read_text())["chosen"]
    scores = {}
    for weight in METHODS["tv"].chosen["lambda"]:
        (folder,) = evaluate(config(data, split="val", method={**options, "lambda": weight}, **keys), "tv")
        scores[weight] = np.mean([row.nmse for row in read_results(folder / "volumes.csv")])
    assert found["values"] == {"lambda": min(scores, key=scores.get)}
    assert {tried["lambda"]: tried["nmse"] for tried in found["tried"]} == pytest.approx(scores, rel=1e-12)


@pytest.mark.parametrize(
    ("split", "kept", "said"),
    [
        ("all", ("train", "val", "test"), "--split all leaves none: give --method.factor VALUE"),
        ("val", ("val", "test"), "has no train: give --method.factor VALUE"),
        ("test", ("test",), "has no val or train: give --method.factor VALUE"),
    ],
)
def test_no_other_split_is_refused(data, split, kept, said):
    for other in {"train", "val", "test"} - set(kept):
        shutil.rmtree(data / other)
    with pytest.raises(InputError, match=said):
        evaluate(config(data, split=split), "scaled")
    assert not Path("out").exists()


def test_a_flat_folder_is_split_and_chosen_on_the_training_part(data):
    flat = data.parent / "flat"
    flat.mkdir()
    for path in (data / "train").iterdir():
        shutil.copy(path, flat)
    (found,) = chosen(flat)
    scored = {row.volume for row in read_results(Path("out/volumes.csv"))}
    assert found["split"] == "train"
    assert scored
    assert not scored & set(found["volumes"])
    with pytest.raises(InputError, match="--split all leaves none"):
        chosen(flat, split="all")


def test_files_with_masks_of_their_own_need_such_files_elsewhere(data, volume_writer):
    mask = np.arange(40) % 3 == 0
    mask[16:24] = True
    volume_writer(data / "val" / "own.h5", n_coils=2, matrix=(32, 40), mask=mask, seed=5)
    with pytest.raises(InputError, match="no volume of the split 'train' has masks of 2x of their own: give --method"):
        evaluate(config(data, split="val", mask="auto"), "scaled")
    for i in range(8):
        close(data / "train" / f"train{i}.h5")
        volume_writer(data / "train" / f"train{i}.h5", n_coils=2, matrix=(32, 40), mask=mask, seed=i)
    for i in range(3):
        (data / "val" / f"val{i}.h5").unlink()
    (found,) = chosen(data, split="val", mask="auto")
    assert found["n_slices"] == 6
    mask[:30] = True  # of another acceleration
    for i in range(8):
        close(data / "train" / f"train{i}.h5")
        volume_writer(data / "train" / f"train{i}.h5", n_coils=2, matrix=(32, 40), mask=mask, seed=i)
    with pytest.raises(InputError, match=r"no volume of the split 'train' has masks of \dx of their own"):
        chosen(data, split="val", mask="auto")


def test_scores_that_are_not_finite_choose_nothing(data, monkeypatch):
    from mrirecon.workflows.scoring import choose_options

    monkeypatch.setattr(choose_options, "fmean", lambda _: math.nan)
    with pytest.raises(InputError, match="is finite: give --method"):
        chosen(data, split="val")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "lambda is 0; it must be above 0"),
        ("-1", "lambda is -1; it must be above 0"),
        ("1e400", "lambda is inf; it must be above 0 and finite"),
        ("nan", "tv: lambda: Expected a float or null. Got value: nan"),
        ("", "tv: lambda: Expected a float or null. Got value: nothing"),
    ],
)
@pytest.mark.parametrize("call", [("evaluate", "tv", "--data", "missing"), ("reconstruct", "tv", "missing", "-o", "o")])
def test_a_weight_that_is_none_is_refused_before_work(capsys, call, value, words):
    assert main([*call, "--method.lambda", value]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_reconstruct_asks_for_what_is_open_before_work(capsys):
    assert main(["reconstruct", "tv", "missing", "-o", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lambda is not set: give --method.lambda VALUE" in error
