"""The commands, their wrong inputs and what `--dry-run` and `--smoke` say."""

import os
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_study import GRID

from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.work.run import _submit
from mrirecon.cli import main
from mrirecon.config.ablate import AblateConfig
from mrirecon.data.hdf5 import quarantine


def call(capsys, *words):
    code = main([*map(str, words), "--quiet"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_dry_run_tells_and_trains_nothing(capsys, study_data, study_files, tmp_path):
    folder = tmp_path / "study"
    code, out, _ = call(
        capsys, "ablate", "run", study_files(), "--data", study_data, "-o", folder, "--dry-run", "--workers", 2
    )
    assert code == 0
    assert not folder.exists()
    assert "2 cells, reference adam" in out
    assert "cell        momentum: 9 runs, searched over optimizer.lr" in out
    assert "fixed: momentum 0.9" in out
    assert "fixed: betas (0.9, 0.999), eps 1e-08" in out
    assert "runs        18" in out
    assert "6 paired seeds of one tuning draw (tuned configurations are compared, not methods)" in out
    assert "ms per step" in out
    assert "hours with 2 workers (from a timed probe)" in out
    assert "MB of disk" in out


def test_dry_run_checks_each_file_once(capsys, monkeypatch, study_data, study_files, tmp_path):
    """However many cells have a cost of their own."""
    seen = []
    original = quarantine._one_by_one

    def counting(jobs):
        seen.extend((job.label, job.patience) for job in jobs)
        return original(jobs)

    monkeypatch.setattr(quarantine, "_one_by_one", counting)
    words = ["ablate", "run", study_files(), "--data", study_data, "-o", tmp_path / "study", "--dry-run", "--no-cache"]
    assert call(capsys, *words)[0] == 0
    assert len(seen) == len(set(seen)) == 10 + 5  # structure of all files, samples of those of train and val


def test_smoke_names_the_cells_that_would_fail(capsys, study_data, study_files, tmp_path):
    broken = {"class_path": "torch.nn.LayerNorm"}
    grid = study_files(
        factors={"norm": {"instance": {"model.norm": "instance"}, "broken": {"model.norm": broken}}},
        base={"optimizer": "adam", "model": {"channels": 2, "pools": 1}, "max_steps": 2},
        reference={"norm": "instance"},
    )
    folder = tmp_path / "study"
    code, out, err = call(capsys, "ablate", "run", grid, "--data", study_data, "-o", folder, "--smoke")
    assert code == 2
    assert "smoke       instance: runs" in out
    assert "smoke       broken: would fail: " in out
    assert "1 of 2 cells cannot run: broken: " in err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seeds", "4"], "4 paired seeds say too little about others for a verdict; give at least 5 seeds"),
        (["--dry-run", "--smoke"], "contradict each other"),
        (["--executor", "moon"], "unknown executor 'moon'"),
        (["--data", "nowhere"], "nowhere"),
        (["--workers", "-1"], "workers is -1; it must be at least 0"),
        (["--keep", "all"], "unknown keep 'all'"),
        (["--logger", "paper"], "unknown logger 'paper'"),
        (["--objectives", "best"], "unknown objective 'best'"),
        (["--lease", "1"], "--lease 1"),
        (["--output", "FILE"], "is a file"),
        (["--output", "OTHER"], "holds something else than a study"),
        ([], "no data folder given, and the grid has no 'simulate'"),
    ],
)
def test_wrong_calls_are_one_line_and_leave_nothing(capsys, study_files, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / "thesis.tex").write_text("")
    code, out, err = call(capsys, "ablate", "run", study_files(), *flags)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not out
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_folder_that_cannot_be_written(capsys, study_data, study_files, tmp_path):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    folder = tmp_path / "blocked" / "study"
    code, _, err = call(capsys, "ablate", "run", study_files(), "--data", study_data, "-o", folder)
    assert code == 2
    assert f"cannot write to {folder}" in err


@pytest.mark.parametrize("command", ["status", "report", "worker"])
def test_no_study_there(capsys, tmp_path, command):
    code, _, err = call(capsys, "ablate", command, tmp_path)
    assert code == 2
    assert "holds no study" in err


def test_a_damaged_manifest_and_record_are_named(capsys, undisturbed, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(undisturbed.folder.path, folder)
    record = next((folder / "runs").glob("*/result.json"))
    record.unlink()
    record.write_text("{")
    code, _, err = call(capsys, "ablate", "status", folder)
    assert code == 2
    assert f"{record} is not a record of a run" in err
    (folder / "manifest.json").write_text("[]")
    code, _, err = call(capsys, "ablate", "status", folder)
    assert code == 2
    assert "manifest.json is damaged" in err


def test_status_needs_no_right_to_write(capsys, undisturbed, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(undisturbed.folder.path, folder)
    shutil.rmtree(folder / "leases")
    os.chmod(folder, 0o500)  # noqa: PTH101
    code, out, _ = call(capsys, "ablate", "status", folder)
    os.chmod(folder, 0o700)  # noqa: PTH101
    assert code == 0
    assert "complete" in out
    assert not (folder / "leases").exists()


def test_a_study_folder_is_a_grid_too(capsys, undisturbed):
    code, out, _ = call(capsys, "ablate", "run", undisturbed.folder.path)
    assert code == 0
    assert str(undisturbed.page) in out


def test_the_grid_is_kept_as_it_was_asked_for(undisturbed):
    kept = yaml.safe_load(undisturbed.folder.grid_file.read_text())
    assert kept["factors"] == GRID["factors"]
    assert kept["seeds"] == 6


def test_the_calls_that_a_submission_names_work(capsys, undisturbed, tmp_path, monkeypatch):
    """In a folder with a space in its name, once its jobs have done the study."""
    folder = tmp_path / "a place" / "study"
    shutil.copytree(undisturbed.folder.path, folder)
    monkeypatch.setattr("mrirecon.ablation.work.run.submit_workers", lambda *_: ["7"])
    _submit(SimpleNamespace(folder=StudyFolder(folder)), AblateConfig(), 1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    calls = [shlex.split(call) for call in line.removeprefix("next:").split("&&")]
    assert [(words[:3], Path(words[3])) for words in calls] == [
        (["mrirecon", "ablate", "status"], folder),
        (["mrirecon", "ablate", "report"], folder),
    ]
    assert [main(words[1:]) for words in calls] == [0, 0]
