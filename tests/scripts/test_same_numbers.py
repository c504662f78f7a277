"""scripts/same_numbers.py sees what differs between two folders, and takes for equal only what is."""

import csv
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "same_numbers.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("same_numbers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["same_numbers"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["same_numbers"]


def write_table(path, **columns):
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_image(path, image):
    with h5py.File(path, "w") as file:
        file["reconstruction"] = image
        file.attrs["acceleration"] = 4


def write_checkpoint(path, **changes):
    state = {"state_dict": {"w": torch.ones(3)}, "global_step": 4, "callbacks": {"Keeper": {"best": 0.5, "seconds": 1}}}
    torch.save(state | changes, path)


@pytest.fixture
def sides(tmp_path):
    """The same call's folder twice; the seconds differ."""
    for i, side in enumerate(("old", "new")):
        folder = tmp_path / side / "out"
        folder.mkdir(parents=True)
        write_table(folder / "volumes.csv", volume=["a", "b"], ssim=[0.1, 0.2], seconds=[i, 2 * i])
        write_image(folder / "a.h5", np.arange(6, dtype=np.float32).reshape(2, 3))
        write_checkpoint(folder / "last.ckpt", callbacks={f"Keeper{i}": {"best": 0.5, "seconds": i}})
        save_file({"w": torch.ones(2)}, str(folder / "weights.safetensors"))
        (folder / "summary.json").write_text(json.dumps({"ssim": {"mean": 0.1}, "data": str(folder), "peak_mib": i}))
    return tmp_path / "old", tmp_path / "new"


def test_equal_but_for_times_and_places_is_equal(script, sides):
    found = script.compare_folders(sides, "out")
    assert found.differences == {}
    assert found.new == []
    assert found.compared == {".csv": 1, ".h5": 1, ".ckpt": 1, ".safetensors": 1, ".json": 1}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            lambda f: write_table(f / "volumes.csv", volume=["a", "b"], ssim=[0.1, 0.2000001]),
            "volumes.csv:ssim (row 1)",
        ),
        (lambda f: write_table(f / "volumes.csv", volume=["a"], ssim=[0.1]), "volumes.csv:number of rows"),
        (lambda f: write_table(f / "volumes.csv", volume=["a", "b"], seconds=[1, 2]), "volumes.csv:column ssim"),
        (lambda f: write_table(f / "volumes.csv", volume=["a", "b"], ssim=[1, 2]), "volumes.csv:column seconds"),
        (lambda f: write_image(f / "a.h5", np.arange(6, dtype=np.float64).reshape(2, 3)), "a.h5:reconstruction"),
        (lambda f: write_image(f / "a.h5", -np.arange(6, dtype=np.float32).reshape(2, 3)), "a.h5:reconstruction"),
        (
            lambda f: write_checkpoint(f / "last.ckpt", state_dict={"w": torch.ones(3) + 2**-23}),
            "last.ckpt:state_dict.w",
        ),
        (lambda f: write_checkpoint(f / "last.ckpt", state_dict={}), "last.ckpt:state_dict.w"),
        (lambda f: write_checkpoint(f / "last.ckpt", callbacks={"K": {"best": 0.25}}), "last.ckpt:callback.best"),
        (lambda f: write_checkpoint(f / "last.ckpt", callbacks={}), "last.ckpt:callback.best"),
        (lambda f: save_file({"w": torch.zeros(2)}, str(f / "weights.safetensors")), "weights.safetensors:w"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"x"), "weights.safetensors:unreadable"),
        (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors:file"),
        (lambda f: (f / "summary.json").write_text('{"ssim": {"mean": 0.2}, "data": ""}'), "summary.json:ssim.mean"),
        (lambda f: (f / "summary.json").write_text('{"data": ""}'), "summary.json:ssim.mean"),
    ],
)
def test_what_differs_is_named(script, sides, change, name):
    change(sides[1] / "out")
    assert name in script.compare_folders(sides, "out").differences


def test_what_only_new_has_is_named_and_no_difference(script, sides):
    table = {"volume": ["a", "b"], "ssim": [0.1, 0.2], "seconds": [1, 2], "hfen": [3, 4]}
    write_table(sides[1] / "out" / "volumes.csv", **table)
    save_file({"w": torch.zeros(2)}, str(sides[1] / "out" / "more.safetensors"))
    found = script.compare_folders(sides, "out")
    assert found.differences == {}
    assert found.new == ["volumes.csv:column hfen", "more.safetensors:file"]


def test_attempts_at_a_run_of_a_study_go_by_other_names(script, sides):
    for side, attempt, best in (("old", "0123456789ab", 1.0), ("new", "ba9876543210", 2.0)):
        folder = sides[0].parent / side / "study" / "runs" / "0123456789abcdef" / attempt
        folder.mkdir(parents=True)
        write_table(folder / "volumes.csv", reconstructor=[attempt])
        save_file({"w": torch.tensor([best])}, str(folder / "weights.safetensors"))
    assert list(script.compare_folders(sides, "study").differences) == ["runs/0123456789abcdef/weights.safetensors:w"]


def test_nothing_written_proves_nothing(script, sides):
    for side in sides:
        shutil.rmtree(side / "out")
    assert "nothing" in script.compare_folders(sides, "out").differences


def test_an_intended_difference_is_shown_with_its_reason_and_does_not_count(script, sides):
    write_table(sides[1] / "out" / "volumes.csv", volume=["a", "b"], ssim=[0.1, 0.3], seconds=[1, 2])
    call, used = script.Call("evaluate a", "evaluate a", "out"), set()
    found = script.compare_folders(sides, "out")
    line, n = script.line_of(call, found, {}, used)
    assert "DIFFERENT in 1, first evaluate a:volumes.csv:ssim (row 1): OLD '0.2', NEW '0.3'" in line
    assert (n, used) == (1, set())
    line, n = script.line_of(call, found, {"evaluate*:volumes.csv:ssim*": "another window"}, used)
    assert "equal" in line
    assert "(intended: another window)" in line
    assert (n, used) == (0, {"evaluate*:volumes.csv:ssim*"})


def test_a_folder_that_is_neither_environment_nor_checkout_is_refused(script, tmp_path):
    with pytest.raises(SystemExit, match=r"neither an environment \(with bin/python\) nor a checkout"):
        script.Side.of("old", tmp_path, tmp_path / "scratch")


@pytest.fixture
def checkout(tmp_path):
    """Makes a package that writes one number, by any call, or ends with an error."""

    def make(name, number):
        package = tmp_path / name / "mrirecon"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        write = f"pathlib.Path('out').mkdir()\npathlib.Path('out/volumes.csv').write_text('ssim\\n{number}\\n')"
        fail = "sys.exit('first line\\nmrirecon: no such mask')"
        (package / "__main__.py").write_text(f"import pathlib, sys\n{fail if number is None else write}\n")
        return str(package.parent)

    return make


@pytest.mark.parametrize(
    ("number", "more", "code", "line"),
    [
        (0.5, [], 0, "1 calls in"),
        (0.25, [], 1, "DIFFERENT in 1, first write:volumes.csv:ssim (row 0): OLD '0.5', NEW '0.25'"),
        (0.25, ["--intended", "write:*ssim*"], 0, "1 intended, first write:volumes.csv:ssim (row 0): OLD '0.5'"),
        (0.5, ["--intended", "write:*ssim*"], 0, "intended, but nothing differs there: write:*ssim*"),
        (None, [], 1, "write:new failed: exit code 1: mrirecon: no such mask"),
    ],
)
def test_two_packages(script, checkout, monkeypatch, capsys, number, more, code, line):
    monkeypatch.setattr(script, "calls", lambda real: [script.Call("write", "anything", "out")])
    monkeypatch.setattr(sys, "argv", ["same_numbers.py", checkout("a", 0.5), checkout("b", number), *more])
    assert script.main() == code
    assert line in capsys.readouterr().out
