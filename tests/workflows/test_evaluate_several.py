"""Several things in one call: each has the tables it has alone, then one table, differences and pictures of all."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.config import CompareConfig, DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.files import write_json
from mrirecon.workflows.compare import compare
from mrirecon.workflows.evaluate import evaluate

METHODS_SET = {"lambda": 0.01, "maps": "low-resolution", "iterations": 4}


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    """Six volumes to report, one to train with."""
    root = tmp_path_factory.mktemp("several") / "data"
    for split, n in (("train", 1), ("val", 6)):
        for i in range(n):
            volume_writer(root / split / f"{split}{i}.h5", n_slices=2, n_coils=2, matrix=(32, 40), seed=i)
    return root


def write_run(path, data, seed=0, **keys):
    """A run whose network was not trained."""
    import torch

    from mrirecon.training.build import build_model
    from mrirecon.training.module import ReconModule

    torch.manual_seed(seed)
    trained = TrainConfig(data=DataConfig(path=str(data), **keys), model=ModelConfig(channels=2, pools=2), seed=seed)
    configfile.save(trained, path / "config.yaml")
    (path / "checkpoints").mkdir()
    torch.save({"state_dict": ReconModule(build_model(trained.model)).state_dict()}, path / "checkpoints" / "best.ckpt")
    return str(path)


def config(data, **changes):
    keys = {key: changes.pop(key) for key in list(changes) if key in DataConfig.__dataclass_fields__}
    of_data = DataConfig(path=str(data), **{"mask": "random", **keys})
    return EvaluateConfig(data=of_data, **{"split": "val", "device": "cpu", "figure_volumes": ["val0"], **changes})


def rows(path):
    with Path(path).open() as handle:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(handle)]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_each_has_what_it_has_alone_and_all_are_compared(data, tmp_path, capsys):
    run = write_run(tmp_path / "net", data)
    words = ["zero-filled", "tv", run]
    (together,) = evaluate(config(data, method=METHODS_SET, output="out"), *words)
    out = capsys.readouterr().out
    assert together == Path("out/together")
    assert names("out") == ["net", "together", "tv", "zero-filled"]
    tables = [Path("out", name) for name in ("zero-filled", "tv", "net")]
    options = [{}, METHODS_SET, {}]
    for word, own, method in zip(words, tables, options, strict=True):
        (alone,) = evaluate(config(data, method=method, output=f"alone/{own.name}"), word)
        assert rows(own / "volumes.csv") == rows(alone / "volumes.csv")
        assert names(own) == names(alone)
        for path in (alone / "figures").iterdir():
            assert path.read_bytes() == (own / "figures" / path.name).read_bytes()
        mine, its = (json.loads((folder / "summary.json").read_text()) for folder in (own, alone))
        assert mine["overall"] == its["overall"]
        assert mine.get("options") == its.get("options")
    capsys.readouterr()

    assert names(together) == ["comparison.json", "figures", "table.csv"]
    theirs = compare(CompareConfig(), [str(path) for path in tables])
    ours = json.loads((together / "comparison.json").read_text())
    assert ours["comparisons"] == json.loads(json.dumps(theirs["comparisons"]))
    assert [c["name"] for c in ours["comparisons"]["ssim"]] == ["tv", "net"]
    for comparison in ours["comparisons"]["ssim"]:
        assert comparison["verdict"] in out
        assert comparison["words"] in out
    table = rows(together / "table.csv")
    assert [row["name"] for row in table] == ["zero-filled", "tv", "net"]
    for row, own in zip(table, tables, strict=True):
        scores = np.array([float(volume["nmse"]) for volume in rows(own / "volumes.csv")])
        assert float(row["nmse"]) == pytest.approx(scores.mean(), rel=1e-12)
        assert float(row["nmse_sd"]) == pytest.approx(scores.std(ddof=1), rel=1e-12)
        (line,) = [line for line in out.split("\n") if line.startswith(f"{row['name']} ") and "±" in line]
        assert f"{scores.mean():.4f} ± {scores.std(ddof=1):.4f}" in line


def test_the_picture_has_all_of_them_beside_each_other(data):
    (together,) = evaluate(
        config(data, method=METHODS_SET, output="out", figures=[0], figure_volumes=["all"]),
        "zero-filled",
        "sense",
        "tv",
    )
    pictures = sorted((together / "figures").iterdir())
    assert [path.name for path in pictures] == names("out/tv/figures")
    assert len(pictures) == 6
    for picture in pictures:  # target and zero-filled, beside one or two others
        wide, alone = (np.asarray(Image.open(path)) for path in (picture, Path("out/tv/figures", picture.name)))
        n_pixels = alone.shape[1] - np.asarray(Image.open(Path("out/zero-filled/figures", picture.name))).shape[1]
        assert wide.shape[1] == alone.shape[1] + n_pixels
        cell = n_pixels
        top = slice(50, 50 + 32)  # images begin below title and name
        assert np.array_equal(wide[top, -cell:], alone[top, -cell:])  # tv
        sense = np.asarray(Image.open(Path("out/sense/figures", picture.name)))
        assert np.array_equal(wide[top, -2 * cell : -cell], sense[top, -cell:])
        assert not np.array_equal(sense[top, -cell:], alone[top, -cell:])


def test_without_output_each_goes_where_it_goes_alone(data, tmp_path):
    run = write_run(tmp_path / "net", data)
    folders = evaluate(config(data, acceleration=[2, 4], method=METHODS_SET), "zero-filled", "tv", run)
    where = [f"data-val-random-{r}x" for r in (2, 4)]
    assert folders == [Path("runs/zero-filled+tv+net", name) for name in where]
    assert names("runs/zero-filled/evaluation") == names(tmp_path / "net" / "evaluation") == where
    of_tv, *others = names("runs")
    assert of_tv.startswith("tv-")
    assert others == ["zero-filled", "zero-filled+tv+net"]
    with pytest.raises(InputError, match="is there already; add --overwrite"):
        evaluate(config(data, acceleration=[2, 4], method=METHODS_SET), "zero-filled", "tv", run)


def test_what_is_open_is_chosen_for_each(data, capsys):
    method = {"maps": "low-resolution", "iterations": 3}
    evaluate(config(data, method=method, output="out"), "zero-filled", "sense", "tv")
    out = capsys.readouterr().out
    assert out.count("chosen by the NMSE of 2 slices of 1 volume of train") == 2
    for name in ("sense", "tv"):
        summary = json.loads(Path("out", name, "summary.json").read_text())
        assert summary["chosen"]["values"]["lambda"] == summary["options"]["lambda"]


def test_seconds_of_slices_one_at_a_time_after_the_first(data, monkeypatch, capsys):
    from mrirecon.workflows.scoring import loop

    original, taken = loop._reconstruct, iter([100.0, *range(1, 12)] * 2)
    method = {"maps": "low-resolution"}
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_reconstruct", lambda *a: (original(*a)[0], float(next(taken))))
        evaluate(config(data, method=method, output="out"), "zero-filled", "combined")
    out = capsys.readouterr().out
    times = json.loads(Path("out/combined/summary.json").read_text())["seconds_per_slice"]
    assert times == {"median": 6.0, "p90": 10.0, "n_slices": 11}
    (line,) = [line for line in out.split("\n") if line.startswith("combined ") and "±" in line]
    assert line.split()[-2:] == ["6", "10"]
    evaluate(config(data, output="alone"), "zero-filled")
    assert "seconds per slice: median" in capsys.readouterr().out
    (several,) = evaluate(config(data, output="batches", batch_size=2), "zero-filled")
    assert json.loads((several / "summary.json").read_text())["seconds_per_slice"] is None
    assert "seconds per slice" not in capsys.readouterr().out


def test_maps_that_one_made_are_not_there_for_the_next(data, monkeypatch):
    """The time of each has its own maps in it."""
    from mrirecon.reconstruct import maps

    made, original = [], maps.espirit_smaps
    monkeypatch.setattr(maps, "espirit_smaps", lambda *a, **k: made.append(0) or original(*a, **k))
    wide = config(data, center_fraction=[0.15], output="out", slices=[0, 0])
    evaluate(wide, "combined", "zero-filled")
    alone = len(made)
    assert alone == 6
    evaluate(
        config(data, center_fraction=[0.15], output="two", slices=[0, 0], method={"lambda": 0.1, "iterations": 1}),
        "combined",
        "sense",
    )
    assert len(made) == alone + 12


def test_trainings_that_differ_in_their_seed_alone_have_a_table_and_no_comparison(data, tmp_path, capsys):
    runs = [write_run(tmp_path / f"net-s{seed}", data, seed) for seed in (0, 1)]
    (together,) = evaluate(config(data), *runs)
    spoken = capsys.readouterr()
    assert "not compared" in spoken.err
    assert "differ in their seed alone" in spoken.err
    assert [row["name"] for row in rows(together / "table.csv")] == ["net-s0", "net-s1"]
    assert not (together / "comparison.json").exists()


def test_equal_names_are_told_apart(data, tmp_path):
    runs = [write_run(tmp_path / place / "net", data, seed) for seed, place in enumerate("ab")]
    (together,) = evaluate(config(data, output="out"), *runs)
    assert names("out") == ["net", "net-2", "together"]
    assert [row["name"] for row in rows(together / "table.csv")] == runs


def test_masks_are_those_of_the_run_wherever_it_stands(data, tmp_path):
    run = write_run(tmp_path / "net", data, acceleration=[3])
    words = ["zero-filled", run, "--data", str(data), "--split", "val", "--output", "out", "--quiet"]
    assert main(["evaluate", *words]) == 0
    assert {row["acceleration"] for row in rows("out/zero-filled/volumes.csv")} == {"3.0"}


def test_options_go_to_those_that_have_them(data, capsys):
    words = ["--data", str(data), "--split", "val", "--mask", "random", "--output", "out", "--quiet"]
    words += ["--method.maps", "low-resolution", "--method.lambda=0.02", "--method.iterations", "2"]
    assert main(["evaluate", "zero-filled", "combined", "sense", "tv", *words, "--method.solver", "pdhg"]) == 0
    options = {
        name: json.loads(Path("out", name, "summary.json").read_text()).get("options")
        for name in names("out")[:-1]
        if name != "together"
    }
    assert options["combined"] == {"maps": "low-resolution", "crop": 0.0, "whiten": "none"}
    assert options["sense"]["lambda"] == options["tv"]["lambda"] == 0.02
    assert options["sense"]["iterations"] == options["tv"]["iterations"] == 2
    assert options["tv"]["solver"] == "pdhg"
    assert "solver" not in options["sense"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zero-filled", "tv", "--method.lamda", "1"], "none of zero-filled, tv has an option 'lamda'"),
        (["zero-filled", "combined", "--method.lambda", "1"], "their options are crop, maps"),
        (["zero-filled", "tv", "--method.lambda", "many"], "tv: "),
        (["zero-filled", "tv", "--method.lambda", "0"], "lambda is 0; it must be above 0"),
        (["tv", "sense", "tv"], "tv is given twice; give each once"),
        (["zero-filled", "vt"], "unknown method 'vt'"),
        (["zero-filled", "tv", "--slurm.nodes", "1"], "one thing at a time"),
        (["zero-filled", "tv", "--split", "all"], "lambda of tv is not set, and is chosen on another split"),
    ],
)
def test_wrong_calls_are_refused_in_one_line_before_work(data, capsys, words, said):
    assert main(["evaluate", *words[:2], *words[2:], "--data", str(data), "--output", "out", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_runs_that_are_to_be_scored_on_different_files_ask_for_the_split(tmp_path, volume_writer):
    flat = tmp_path / "flat"
    for i in range(4):
        volume_writer(flat / f"v{i}.h5", n_slices=1, n_coils=2, matrix=(32, 40), seed=i)
    known, foreign = (write_run(tmp_path / name, flat) for name in ("known", "foreign"))
    write_json(Path(known) / "split.json", {"train": ["v0.h5", "v1.h5"], "val": ["v2.h5"], "test": ["v3.h5"]})
    write_json(Path(foreign) / "split.json", {"train": ["other.h5"], "val": [], "test": []})
    with pytest.raises(InputError, match="say which with --split"):
        evaluate(config(flat, split="auto", figure_volumes=[]), "zero-filled", known, foreign)
    assert not Path("runs").exists()
    evaluate(config(flat, split="auto", figure_volumes=[], output="one"), "zero-filled", known)
    assert len(rows("one/zero-filled/volumes.csv")) == 1
    evaluate(config(flat, split="auto", figure_volumes=[], output="all"), "zero-filled", foreign)
    assert len(rows("all/zero-filled/volumes.csv")) == 4


def test_a_run_that_was_trained_on_what_is_scored_is_named(data, tmp_path, capsys):
    run = write_run(tmp_path / "net", data)
    write_json(Path(run) / "split.json", {"train": ["val/val1.h5", "val/val0.h5"]})
    evaluate(config(data, output="out", slices=[0, 0]), "zero-filled", run)
    assert (
        f"{run} was trained on 2 of the 6 volumes (val/val0.h5): its scores are optimistic" in capsys.readouterr().err
    )
