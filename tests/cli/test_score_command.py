"""`mrirecon score` on the command line."""

import csv
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mrirecon.cli import main


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two references and their predictions, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, key in (("theirs", "reconstruction"), ("targets", "reconstruction_rss")):
        (tmp_path / folder).mkdir()
        for i in range(2):
            with h5py.File(tmp_path / folder / f"v{i}.h5", "w") as file:
                file[key] = rng.random((2, 16, 12), dtype=np.float32)
    return tmp_path


def test_two_folders_are_enough(folders, capsys):
    assert main(["score", "theirs", "targets"]) == 0
    out, err = capsys.readouterr()
    place = "runs/theirs/evaluation/targets-all-undeclared-undeclared"
    assert f"tables: {place}\n" in out
    assert out.splitlines()[-1].startswith("MSE = ")
    assert "theirs, fastmri-v1: 2 volumes" in err
    with (folders / place / "volumes.csv").open() as handle:
        assert [row["volume"] for row in csv.DictReader(handle)] == ["v0.h5", "v1.h5"]


def test_flags_and_quiet(folders, capsys):
    words = ["--mask", "equispaced", "--acceleration", "8", "--crop", "square", "--name", "unet", "--quiet"]
    (folders / "theirs" / "extra.h5").touch()
    assert main(["score", "theirs", "targets", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "unet, equispaced mask, 8x (true -), protocol fastmri-v1+square" in out
    assert (folders / "runs/unet/evaluation/targets-all-equispaced-8x/summary.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "score needs PREDICTIONS"),
        (["theirs"], "score needs TARGETS"),
        (["theirs", "nowhere"], "no folder nowhere"),
        (["nowhere", "targets"], "no folder nowhere"),
        (["targets", "targets"], "prediction v0.h5: has no reconstruction"),
        (["theirs", "targets", "--crop", "round"], "unknown crop 'round'"),
        (["theirs", "targets", "--mask", "radial"], "unknown mask 'radial'"),
        (["theirs", "targets", "--acceleration", "0.5"], "--acceleration 0.5"),
        (["theirs", "targets", "--output", "targets"], "holds something else"),
    ],
)
def test_wrong_calls_exit_2_with_one_line_and_write_nothing(folders, words, message, capsys):
    assert main(["score", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in folders.iterdir()) == ["targets", "theirs"]


def test_help_needs_no_torch():
    code = "import sys; from mrirecon.cli import main; main(['score', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
