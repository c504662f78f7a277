"""Files appear whole or not at all."""

import json
from pathlib import Path

import pytest

from mrirecon.files import new_folder, replacing, write_json


def test_failure_keeps_the_old_file_and_leaves_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_success_replaces_and_makes_folders(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"x": 1.5})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"x": 1.5}


def test_nan_is_not_written_as_invalid_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not (tmp_path / "a.json").exists()


@pytest.fixture
def results(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.csv").touch()
    return tmp_path / "out"


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_results_come_back_where_their_replacement_is_interrupted(results, monkeypatch, error):
    """Between the two renamings nothing has the folder's name."""
    rename = Path.rename

    def interrupted(path, target):
        if path.suffix == ".tmp":
            raise error
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(Path, "rename", interrupted)
        with new_folder(results) as folder:
            (folder / "new.csv").touch()
    assert [path.name for path in results.iterdir()] == ["old.csv"]
    assert [path.name for path in results.parent.iterdir()] == ["out"]


def test_results_of_a_killed_replacement_come_back(results):
    """A process of the same number, as every first one of a container has it, finds what was set aside."""
    with new_folder(results):
        pass
    (results / "old.csv").touch()
    with new_folder(results) as folder:
        aside = folder.with_suffix(".old")
    results.rename(aside)
    with pytest.raises(RuntimeError, match="broken"), new_folder(results):
        raise RuntimeError("broken")
    assert results.is_dir()
    assert [path.name for path in results.parent.iterdir()] == ["out"]
