"""Run folders are made, found and protected."""

import pytest

from mrirecon.errors import InputError
from mrirecon.runs import RunFolder, new_run, open_run


def test_new_run_refuses_a_folder_in_use(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        new_run(tmp_path, "x")
    with pytest.raises(InputError, match="not a run folder"):
        new_run(tmp_path, "x", overwrite=True)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_overwrite_replaces_a_run(tmp_path):
    run = new_run(tmp_path / "r", "x")
    run.config.write_text("seed: 1\n")
    again = new_run(tmp_path / "r", "x", overwrite=True)
    assert not again.config.exists()


def test_default_names_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {new_run("", "group-adam").path for _ in range(3)}
    assert len(names) == 3


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="is a file"):
        new_run(tmp_path / "f", "x")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_open_run_says_what_is_missing(tmp_path, make):
    make(tmp_path / "r")
    with pytest.raises(InputError, match="run folder"):
        open_run(tmp_path / "r")


def test_unknown_checkpoint(tmp_path):
    with pytest.raises(InputError, match="best or last"):
        RunFolder(tmp_path).checkpoint("bset")


def test_only_what_a_run_wrote_is_overwritten(tmp_path):
    """config.yaml is a common name: a project that has one is not a run."""
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        new_run(tmp_path, "x", overwrite=True)
    assert (tmp_path / "thesis.txt").is_file()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="cannot make the run folder"):
        new_run(tmp_path / "f" / "run", "x")
