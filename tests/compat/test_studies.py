"""Studies that an earlier version did, wholly or half, keep their runs."""

import csv
import gc
import math
from pathlib import Path

import pytest

from mrirecon import progress
from mrirecon.ablation.publish import write_results_csv
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.work.prepare import prepare, read_content
from mrirecon.ablation.work.status import count
from mrirecon.ablation.work.worker import work
from mrirecon.cli import main
from mrirecon.config.ablate import AblateConfig

EXPECTED = Path(__file__).parent / "expected" / "results.csv"


def ids(folder):
    return {path.parent.name for path in folder.glob("runs/*/result.json")}


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}


def rows(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_runs_that_are_planned_are_those_that_were_done(study):
    """Identities are what they were: no key that came later is in them."""
    folder = study("finished")
    opened = StudyFolder(folder).open()
    assert {spec.id for spec in opened.plan.runs(opened.folder.records())} == ids(folder)
    assert len(ids(folder)) == 18
    assert opened.zero_filled() is not None  # its scale is what it was


def test_a_finished_study_has_nothing_to_do(study, capsys):
    folder = study("finished")
    before = bytes_of(folder)
    assert main(["ablate", "status", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "18/18", "0", "0", "0", "0", "complete"]
    assert main(["ablate", "run", str(folder), "--dry-run"]) == 0
    assert "left        0 runs to do, 18 are done" in capsys.readouterr().out.splitlines()
    assert main(["ablate", "run", str(folder)]) == 0  # another package, and nothing to accept
    assert bytes_of(folder) == before
    assert len(StudyFolder(folder).read_manifest()["code"]) == 1  # that of then: this one did no run
    assert_same_results(folder)


def test_a_half_finished_study_does_the_rest(study, capsys, monkeypatch):
    folder = study("half_finished")
    (folder / "report").mkdir()
    monkeypatch.setattr(progress, "quiet", False)  # a worker is, and stays so
    monkeypatch.setattr(gc, "freeze", lambda: None)  # of a worker's process, not of the tests'
    before, done = bytes_of(folder), ids(folder)
    assert len(done) == 7
    assert main(["ablate", "run", str(folder), "--dry-run"]) == 0
    assert "left        11 runs to do, 7 are done" in capsys.readouterr().out
    assert main(["ablate", "run", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "the package has changed since 7 runs" in err
    assert "11 are to do; go on with --accept-code-change" in err
    assert bytes_of(folder) == before
    accepted = prepare(str(folder), AblateConfig(accept_code_change=True))
    assert work(folder) == 11  # what the command's workers do
    write_results_csv(
        folder / "report" / "results.csv", accepted.grid, accepted.plan.results(accepted.folder.records())
    )
    assert before.items() <= bytes_of(folder).items()
    assert ids(folder) >= done
    assert count(StudyFolder(folder).open()).is_complete
    assert ids(folder) == {row["run"] for row in rows(EXPECTED)}
    assert len(StudyFolder(folder).read_manifest()["code"]) == 2
    assert_same_results(folder, 1e-5)


def test_how_ranges_are_widened_stays_as_it_was_when_a_study_began(study, tmp_path):
    """In earlier studies twice as many trials chose the winner: by today's rule they would have other winners."""
    grid, folder, other = str(Path(__file__).parent / "grid.yaml"), study("finished"), str(tmp_path / "new")

    def widening(name, **config):
        return make_grid(read_content(name, AblateConfig(**config))).tuning.widening

    assert widening(str(folder)) == widening(grid, output=str(folder)) == "add"
    assert widening(grid, output=other) == widening(str(folder), output=other) == "replace"
    assert prepare(grid, AblateConfig(output=str(folder))).manifest["grid"]["tuning"] == {"trials": 2, "sweep": 1}
    new = prepare(grid, AblateConfig(output=other, device="cpu"))
    assert new.manifest["grid"]["tuning"]["widening"] == "replace"
    assert widening(grid, output=other) == StudyFolder(Path(other)).open().grid.tuning.widening == "replace"


def assert_same_results(folder, tolerance=0.0):
    """Of every run the same rows; trainings on another processor round otherwise."""
    found, expected = rows(folder / "report" / "results.csv"), rows(EXPECTED)
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        for name, value in wanted.items():
            if not tolerance or row[name] == value:
                assert row[name] == value, name
            else:
                assert math.isclose(float(row[name]), float(value), rel_tol=tolerance, abs_tol=tolerance), name


@pytest.mark.parametrize("threads", [1, 2])
def test_what_decides_numbers_makes_other_runs(study, threads, capsys):
    folder = study("finished")
    assert main(["ablate", "run", str(folder), "--dry-run", "--threads", str(threads)]) == 0
    left = 0 if threads == 1 else 18
    assert f"left        {left} runs to do" in capsys.readouterr().out
