"""The study folder: the one place that knows its file names."""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.study.identity import FIRST_STUDIES, run_id, scale_id
from mrirecon.ablation.study.plan import Common, Plan, RunSpec
from mrirecon.ablation.study.records import RunResult, read_record
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.files import read_json, write_json

SCHEMA = 1
SPLIT_SEED = 0  # all studies train, validate and test on the same split of a folder
_OURS = (
    "data",
    "runs",
    "leases",
    "failures",
    "logs",
    "report",
    "zero_filled.json",
    "verdicts.json",
    "ablation.yaml",
    "manifest.json",
    "wandb",
)


class StudyFolder:
    """A study on disk: `manifest.json`, `ablation.yaml`, a folder per run, leases and the report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, RunResult] = {}

    @property
    def is_foreign(self) -> bool:
        """Say whether the folder holds something that no study wrote."""
        return self.path.is_dir() and any(
            path.name not in _OURS and not path.name.startswith(".") for path in self.path.iterdir()
        )

    @property
    def manifest_file(self) -> Path:
        """File of what was asked for and what was decided once: grid, data, code, targets."""
        return self.path / "manifest.json"

    @property
    def verdicts_file(self) -> Path:
        """Every reading of verdicts: when, at how many seeds, with which margin, and what they were."""
        return self.path / "verdicts.json"

    def verdicts(self) -> list[dict[str, Any]]:
        """The readings, the first one first."""
        return list(read_json(self.verdicts_file)) if self.verdicts_file.is_file() else []

    @property
    def grid_file(self) -> Path:
        """The grid, YAML, for people."""
        return self.path / "ablation.yaml"

    @property
    def data(self) -> Path:
        """Simulated data, where none were given."""
        return self.path / "data"

    @property
    def runs(self) -> Path:
        """A folder per run, named by its id."""
        return self.path / "runs"

    @property
    def leases(self) -> Path:
        """A file per run that is being worked on."""
        return self.path / "leases"

    @property
    def failures(self) -> Path:
        """A file per run that failed since `run` was last called."""
        return self.path / "failures"

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.path / "logs"

    @property
    def jobs_file(self) -> Path:
        """Ids of the SLURM jobs that were submitted for the study, a JSON list."""
        return self.logs / "jobs.json"

    def jobs(self) -> list[str]:
        """Return the ids of submitted SLURM jobs, the oldest first; none where workers ran here."""
        try:
            return [str(job) for job in read_json(self.jobs_file)]
        except (OSError, ValueError, TypeError):
            return []

    def note_jobs(self, jobs: list[str]) -> None:
        """Record that jobs were submitted."""
        write_json(self.jobs_file, [*self.jobs(), *jobs])

    @property
    def zero_filled(self) -> Path:
        """Scores of the zero-filled validation images, JSON."""
        return self.path / "zero_filled.json"

    @property
    def report(self) -> Path:
        """The page, `results.csv`, `timing.csv`, `results.json` and figures."""
        return self.path / "report"

    def record(self, run: str) -> Path:
        """The published record of a run; it is there, whole, or the run is not done."""
        return self.runs / run / "result.json"

    def attempt(self, run: str, token: str) -> Path:
        """Folder of one worker's attempt at a run."""
        return self.runs / run / token

    def publish(self, run: str, token: str) -> bool:
        """Make an attempt's record the run's, if no other attempt was quicker.

        Of several attempts to make one hard link one succeeds
        (https://pubs.opengroup.org/onlinepubs/9699919799/functions/link.html).
        """
        try:
            os.link(self.attempt(run, token) / "result.json", self.record(run))
        except FileExistsError:
            return False
        return True

    def records(self) -> dict[str, RunResult]:
        """Published records by run id; each is read once."""
        for name in (path.name for path in self.runs.iterdir()) if self.runs.is_dir() else ():
            if name not in self._records and self.record(name).is_file():
                self._records[name] = read_record(self.record(name))
        return self._records

    def failed(self) -> dict[str, dict[str, str]]:
        """Runs that failed since the last call of `run`: what they were and the first line of the error."""
        found = {}
        for path in sorted(self.failures.glob("*.json")) if self.failures.is_dir() else []:
            try:
                found[path.stem] = read_json(path)
            except (OSError, ValueError):
                continue
        return found

    def note_failure(self, run: str, label: str, cell: str, error: str) -> None:
        """Record that a run failed."""
        write_json(self.failures / f"{run}.json", {"label": label, "cell": cell, "error": error})

    def forget_failures(self) -> None:
        """Remove the notes of failed runs, so that they are tried again."""
        shutil.rmtree(self.failures, ignore_errors=True)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            InputError: There is none, or it is damaged.
        """
        try:
            content: dict[str, Any] = read_json(self.manifest_file)
            if content["schema"] != SCHEMA:
                raise InputError(f"{self.manifest_file} has schema {content['schema']}; this version reads {SCHEMA}")
            content["grid"].setdefault("defaults", FIRST_STUDIES)
        except FileNotFoundError:
            raise InputError(
                f"{self.path} holds no study; start one: mrirecon ablate run GRID -o {self.path}"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.manifest_file} is damaged ({error}); restore it, or delete it and run again"
            ) from None
        return content

    def open(self) -> "Study":
        """The study as its manifest says."""
        return Study(self, self.read_manifest())


def disk_full(path: Path) -> WorkFailedError:
    """Return the error of a full disk below `path`."""
    return WorkFailedError(
        f"the disk of {path} is full; make room and run again: finished runs are kept, unfinished ones are repeated"
    )


@dataclass
class Study:
    """A study folder with its manifest read."""

    folder: StudyFolder
    manifest: dict[str, Any]

    @cached_property
    def grid(self) -> Grid:
        """The resolved grid."""
        return make_grid(self.manifest["grid"])

    @property
    def data(self) -> Path:
        """Path of the data; those of the study itself move with it."""
        return self.folder.data.resolve() if self.manifest["data"]["own"] else Path(self.manifest["data"]["path"])

    @property
    def reference_run(self) -> RunSpec:
        """Any run of the reference cell."""
        return next(spec for spec in self.plan.runs({}) if spec.cell.name == self.grid.reference)

    @property
    def scale(self) -> str:
        """Hash of what decides the scores of the zero-filled validation images."""
        return scale_id(self.reference_run.settings, self.reference_run.study.data)

    @property
    def reference(self) -> str:
        """Hash of the reference cell's configuration, without what is tuned and the seed."""
        spec = self.reference_run
        fixed = {key: value for key, value in spec.settings.items() if key != "seed" and key not in spec.values}
        return run_id(fixed, "rerun", spec.study.data)

    def zero_filled(self) -> dict[str, Any] | None:
        """Mean scores of the zero-filled validation images and their mask; None when they are not known yet."""
        try:
            content: dict[str, Any] = read_json(self.folder.zero_filled)
        except (OSError, ValueError):
            return None
        return content if content.pop("of", "") == self.scale else None

    @cached_property
    def plan(self) -> Plan:
        """The plan of the study's runs."""
        common = Common(self.manifest["data"]["sha256"], **self.manifest["common"])
        return Plan(self.grid, common)
