"""Files appear whole or not at all."""

import json

import pytest

from mrirecon.files import replacing, write_json


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
