"""Run folders from anybody: pipes, devices, endless and nested files, links out of the folder. One line, in time."""

import json
import os
import resource
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from mrirecon.cli import main
from mrirecon.errors import InputError
from mrirecon.files import read_json, read_plain
from mrirecon.runs import open_run
from mrirecon.training.loop.curves import Journal

EVALUATION = "evaluation/small-val-equispaced_fraction-4x"
SUMMARY, TABLE, PICTURE = (f"{EVALUATION}/{name}" for name in ("summary.json", "volumes.csv", "figures/picture.png"))
COMMANDS = {  # the call, and the files that it reads
    "report": (["report", "RUN"], ["provenance.json", "split.json", "curves.csv", SUMMARY, TABLE, PICTURE]),
    "resume": (
        ["train", "--resume", "RUN"],
        [
            "provenance.json",
            "split.json",
            "curves.csv",
            ".lock",
            "checkpoints/last.ckpt.sha256",
            "checkpoints/last.ckpt",
        ],
    ),
    "evaluate": (
        ["evaluate", "RUN", "--overwrite", "--figures", "0"],
        ["provenance.json", "split.json", SUMMARY, "checkpoints/best.ckpt", "checkpoints/best.ckpt.sha256"],
    ),
    "compare": (["compare", "RUN", "SOUND"], ["provenance.json", "split.json", "config.yaml", SUMMARY, TABLE]),
    "export": (["export", "RUN", "--format", "safetensors"], ["provenance.json", "curves.csv", SUMMARY]),
}


def put_pipe(path):
    os.mkfifo(path)


def put_device(path):
    path.symlink_to("/dev/zero")


def put_nested(path):
    path.write_text("[" * 200_000 + "]" * 200_000)


def put_nested_less(path):
    path.write_text('{"a":' * 500 + "1" + "}" * 500)


def put_endless(path):
    with path.open("wb") as handle:
        handle.truncate(2**40)  # takes no room


def put_other_kinds(path):
    path.write_text(
        '{"overall": "x", "protocol": [3], "by_acquisition": 1, "data_manifest": [], "train": 3, "slurm": 1}'
    )


PUTS = [put_pipe, put_device, put_nested, put_nested_less, put_endless, put_other_kinds]


@contextmanager
def in_time(seconds=30):
    """Waiting for a pipe would never end; an alarm ends it."""

    def late(_number, _frame):
        raise TimeoutError("it waits")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, volume_writer):
    """A trained, evaluated run, and its data."""
    root = tmp_path_factory.mktemp("stranger")
    for split, n in (("train", 2), ("val", 2)):
        (root / "small" / split).mkdir(parents=True)
        for i in range(n):
            volume_writer(root / "small" / split / f"{split}{i}.h5", n_slices=2, n_coils=2, matrix=(32, 32), seed=i)
    network = ["--channels", "2", "--pools", "1", "--device", "cpu", "--mask", "equispaced_fraction", "--quiet"]
    run = root / "sound"
    data = ["--data", str(root / "small")]
    assert main(["train", *data, *network, "--max-steps", "2", "--workers", "0", "-o", str(run)]) == 0
    assert main(["evaluate", str(run), "--quiet", "--figures", "0"]) == 0
    assert (run / EVALUATION / "summary.json").is_file()
    (run / EVALUATION / "figures").mkdir(exist_ok=True)
    (run / "figures").mkdir(exist_ok=True)
    return run


@pytest.fixture
def stranger(evaluated, tmp_path):
    """A copy to plant things in."""
    return shutil.copytree(evaluated, tmp_path / "run")


CASES = [(command, file) for command, (_, files) in COMMANDS.items() for file in files]


@pytest.mark.parametrize("put", [put_pipe, put_nested], ids=lambda put: put.__name__[4:])
@pytest.mark.parametrize("file", ["provenance.json", SUMMARY])
def test_a_report_ends_in_time_and_says_one_line(stranger, evaluated, capsys, monkeypatch, file, put):
    run_command(stranger, evaluated, capsys, monkeypatch, "report", file, put)


@pytest.mark.slow  # some 150 commands
@pytest.mark.parametrize("put", PUTS, ids=lambda put: put.__name__[4:])
@pytest.mark.parametrize(("command", "file"), CASES)
def test_every_command_ends_in_time_and_says_one_line(stranger, evaluated, capsys, monkeypatch, command, file, put):
    run_command(stranger, evaluated, capsys, monkeypatch, command, file, put)


def run_command(stranger, evaluated, capsys, monkeypatch, command, file, put):
    monkeypatch.setattr("mrirecon.runs._LOCK_LIMIT_S", 0.2)  # a lock of nobody is watched for so long
    path = stranger / file
    path.unlink(missing_ok=True)
    put(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = [{"RUN": str(stranger), "SOUND": str(evaluated)}.get(word, word) for word in COMMANDS[command][0]]
    capsys.readouterr()
    with in_time():
        code = main([*words, "--quiet"])
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("note", "warning"))]
    assert code in (0, 2), said
    assert len(said) == (code == 2), said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kB: half a GiB


def test_a_picture_that_is_a_link_to_a_secret_is_not_put_into_the_page(stranger, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.write_text("my key")
    (stranger / EVALUATION / "figures" / "x.png").symlink_to(secret)
    assert main(["report", str(stranger)]) == 2
    assert "x.png is no PNG picture" in capsys.readouterr().err
    assert not open_run(stranger).report.exists()
    (stranger / EVALUATION / "figures" / "x.png").unlink()
    (stranger / "config.yaml").unlink()
    (stranger / "config.yaml").symlink_to(secret)
    assert main(["report", str(stranger)]) == 0
    assert "my key" not in open_run(stranger).report.read_text()


def test_pictures_reach_the_page(stranger):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(stranger / "figures" / "x.png")
    assert main(["report", str(stranger)]) == 0
    assert "data:image/png;base64" in open_run(stranger).report.read_text()


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("evaluation", ["evaluate", "--overwrite"]),
        (EVALUATION, ["evaluate", "--overwrite"]),
        ("checkpoints", ["train"]),
    ],
)
def test_nothing_is_written_through_links_out_of_the_folder(stranger, tmp_path, capsys, link, words):
    victim = tmp_path / "victim"
    shutil.move(stranger / link, victim)
    (stranger / link).symlink_to(victim)
    before = {path: path.stat().st_mtime_ns for path in victim.rglob("*")}
    words = ["train", "--resume", str(stranger)] if words == ["train"] else [words[0], str(stranger), *words[1:]]
    assert main([*words, "--quiet"]) == 2
    assert f"{link} is a link to {victim}; nothing is written through links" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in victim.rglob("*")} == before
    assert (stranger / link).is_symlink()


def test_evaluations_of_a_linked_run_folder_go_where_the_user_pointed(stranger, tmp_path):
    """The link is the user's own word, as in runs/latest."""
    (tmp_path / "latest").symlink_to(stranger)
    assert main(["evaluate", str(tmp_path / "latest"), "--overwrite", "--quiet", "--figures", "0"]) == 0


def test_limits_are_exact(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"x" * 10)
    assert read_plain(file, 10) == b"x" * 10
    with pytest.raises(InputError, match="more than"):
        read_plain(file, 9)
    for levels, fits in ((50, True), (51, False)):
        file.write_text("[" * levels + "]" * levels)
        if fits:
            assert json.dumps(read_json(file)) == "[" * levels + "]" * levels
        else:
            with pytest.raises(InputError, match="more than 50 levels"):
                read_json(file)


def test_a_table_that_is_none_is_told(tmp_path):
    (tmp_path / "curves.csv").write_text("step,seconds\nsoon,3\n")
    with pytest.raises(InputError, match=r"curves\.csv is not a table of a training"):
        Journal(tmp_path / "curves.csv").rows()
