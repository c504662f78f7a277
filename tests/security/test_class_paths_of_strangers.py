"""A class path in a stranger's YAML or run folder is refused before anything of it is imported: exit code 2, one line.

A module is planted on the import path that makes a file when it is imported; only `--allow-import` lets it in.
"""

import subprocess
import sys
import time

import pytest
import yaml

from mrirecon.classpaths import resolve_class
from mrirecon.cli import main
from mrirecon.config import DataConfig, ModelConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.workflows.train import train

PLANTED = "planted_by_a_stranger"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The file that appears when the planted module is imported."""
    sign = tmp_path / "was-imported"
    folder = tmp_path / "path"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(sign)!r}).touch()\nfrom torch.nn import BatchNorm2d as Thing\n"
    (folder / f"{PLANTED}.py").write_text(code + "def call(*a, **k): Path('/').exists()\n")
    monkeypatch.syspath_prepend(folder)
    yield sign
    sys.modules.pop(PLANTED, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (root / split).mkdir()
        volume_writer(root / split / f"{split}.h5", n_slices=2, n_coils=2, matrix=(32, 32))
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A sound run of two steps, as YAML text and folder."""
    output = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(
        data=DataConfig(path=str(data)),
        model=ModelConfig(channels=4, pools=1),
        max_steps=2,
        precision="fp32",
        device="cpu",
        threads=1,
        output=str(output),
    )
    train(config)
    return output


PATHS = [f"{PLANTED}.Thing", f"{PLANTED}.call", "os.system", "subprocess.Popen", "builtins.exec", "torch.hub.load"]
SPECS = [*PATHS, {"class_path": f"{PLANTED}.Thing", "init_args": {"x": 1}}, {"class_path": "os.system"}]
PLACES = ["model.norm", "loss", "optimizer.name"]


def nested(place, value):
    group, _, key = place.rpartition(".")
    return {group: {key: value}} if group else {key: value}


def refused(capsys, words, planted, says="may not be imported"):
    capsys.readouterr()
    assert main([*map(str, words), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not planted.exists()
    assert PLANTED not in sys.modules


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_in_an_overlay(tmp_path, capsys, planted, data, place, spec):
    file, output = tmp_path / "theirs.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(nested(place, spec)))
    words = ["train", "-c", file, "--data", data, "-o", output, "--max-steps", 1, "--model.pools", 1]
    refused(capsys, [*words, "--channels", 4, "--device", "cpu"], planted)
    assert not list(output.glob("checkpoints/*"))


COMMANDS = {
    "evaluate": lambda run, data, out: ["evaluate", run, "--data", data, "-o", out],
    "reconstruct": lambda run, data, out: ["reconstruct", run, data / "val", "-o", out],
    "export": lambda run, data, out: ["export", run, "--output", out],
    "resume": lambda run, data, out: ["train", "--resume", run],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_run_folder(trained, tmp_path, capsys, planted, data, command, place):
    run = tmp_path / "theirs"
    subprocess.run(["cp", "-r", trained, run], check=True)
    content = yaml.safe_load((run / "config.yaml").read_text())
    group, _, key = place.rpartition(".")
    (content[group] if group else content)[key] = {"class_path": PATHS[0], "init_args": {}}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    uses_it = command == "resume" or place == "model.norm"  # the others are for training alone
    words = COMMANDS[command](run, data, tmp_path / "out")
    if uses_it:
        refused(capsys, words, planted)
        return
    assert main([*map(str, words), "--quiet"]) == 0
    assert not planted.exists()


def test_a_report_of_a_run_imports_nothing(trained, tmp_path, planted):
    run = tmp_path / "theirs"
    subprocess.run(["cp", "-r", trained, run], check=True)
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["model"]["norm"] = {"class_path": PATHS[0]}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert main(["report", str(run), "--quiet"]) == 0
    assert PLANTED in (run / "report.html").read_text()
    assert not planted.exists()


@pytest.mark.parametrize("place", ["factors", "base", "levels"])
@pytest.mark.parametrize("path", [PATHS[0], "os.system"])
def test_in_a_grid(tmp_path, capsys, planted, data, place, path):
    spec = {"class_path": path}
    grid = {
        "factors": {"norm": ["batch", spec] if place == "factors" else ["batch", "group"]},
        "reference": {"norm": "batch"},
        "base": {"max_steps": 2, "model": {"channels": 4, "pools": 1}} | ({"loss": spec} if place == "base" else {}),
        "seeds": 6,
        "tuning": {"trials": 1},
    }
    if place == "levels":
        grid["factors"] = {"thing": {"a": {"model.norm": "batch"}, "b": {"model.norm": spec}}}
        grid["reference"] = {"thing": "a"}
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    refused(capsys, ["ablate", "run", file, "--data", data, "--output", tmp_path / "study"], planted)


def test_the_plant_grows_where_it_is_let_in(planted):
    """So that the tests above can fail."""
    with pytest.raises(InputError, match="may not be imported"):
        resolve_class(PATHS[0])
    assert not planted.exists()
    resolve_class(PATHS[0], ["torch", PLANTED])
    assert planted.exists()


YAMLS = {
    "python object": "loss: !!python/object/apply:os.system ['touch {sign}']",
    "python name": "loss: !!python/name:os.system",
    "python module": f"loss: !!python/module:{PLANTED}",
    "python new": "loss: !!python/object/new:subprocess.Popen [['touch', '{sign}']]",
    "own tag": "loss: !run x",
    "billion laughs": "a: &a [l, l, l, l, l, l, l, l, l]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": "loss: &a [*a]",
    "merged with itself": "loss: &a {<<: *a}",
    "deep list": "loss: " + "[" * 50_000 + "]" * 50_000,
    "deep map": "loss: " + "{a: " * 20_000 + "1" + "}" * 20_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(400)),
    "huge number": "max_steps: " + "9" * 100_000,
    "large text": "loss: '" + "x" * 2**22 + "'",
}


@pytest.mark.parametrize("command", ["train", "ablate"])
@pytest.mark.parametrize("kind", YAMLS)
def test_yaml_that_would_run_or_grow(tmp_path, capsys, planted, kind, command):
    file = tmp_path / "theirs.yaml"
    file.write_text(YAMLS[kind].replace("{sign}", str(planted)))
    words = ["train", "-c", file, "--print-config"] if command == "train" else ["ablate", "run", file]
    start = time.process_time()
    refused(capsys, words, planted, "")
    assert time.process_time() - start < 10


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_a_yaml_of_100_mb(tmp_path, capsys, planted, command):
    file = tmp_path / "theirs.yaml"
    with file.open("w") as handle:
        handle.write("factors: [" if command == "ablate" else "data: [")
        for _ in range(100):
            handle.write("aaaa, " * (2**20 // 6))
    words = ["train", "-c", file, "--print-config"] if command == "train" else ["ablate", "run", file]
    start = time.process_time()
    refused(capsys, words, planted, "bytes")
    assert time.process_time() - start < 10
