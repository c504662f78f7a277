"""The loop of a worker: take a run that nobody has, do it, publish it; until nothing is left to do."""

import gc
import math
import os
import shutil
import time
import traceback
from pathlib import Path
from statistics import fmean

from mrirecon import progress
from mrirecon.ablation.study.data import require_same_contents, signature
from mrirecon.ablation.study.folder import Study, StudyFolder, disk_full
from mrirecon.ablation.study.plan import RunSpec
from mrirecon.ablation.work.execute import Setting, execute, score_split, training_config, usable_attempts
from mrirecon.config import EvaluateConfig
from mrirecon.data.folders.volume_files import sharing_volumes
from mrirecon.errors import DataChangedError, Stopped, explained
from mrirecon.files import is_disk_full, write_json
from mrirecon.leases import Leases
from mrirecon.models.device import choose_device
from mrirecon.reconstruct.find import find_reconstructor

_WAIT_S = (0.1, 5.0)  # between looks, when all that is left is with others


def work(path: Path) -> int:
    """Do what is missing in a study, beside any number of other workers.

    Returns:
        How many runs this worker did.

    Raises:
        InputError: There is no study.
        WorkFailedError: The disk is full.
        Stopped: A signal came in the middle of a run.
    """
    progress.quiet = True
    study = StudyFolder(path).open()
    os.environ.setdefault("WANDB_RUN_GROUP", study.grid.name)
    try:
        with sharing_volumes():
            return Worker(study).loop()
    except OSError as error:
        raise disk_full(path) if is_disk_full(error) else error from None


class Worker:
    """One worker of a study."""

    def __init__(self, study: Study) -> None:
        self.study, self.folder = study, study.folder
        options = study.manifest["options"]
        self.leases = Leases(self.folder.leases, options["lease"])
        self.setting = Setting(
            str(study.data),
            options["device"],
            options["logger"],
            options["keep"],
            study.grid.name,
        )

    def loop(self) -> int:
        """Work until every run is done, failed, or its cell is stuck.

        Raises:
            DataChangedError: The data are not those of the study any more.
            InputError: They are others on this machine.
        """
        self._require_same_data()
        require_same_contents(self.study.data, self.study.grid, self.study.manifest["data"])
        gc.freeze()  # what is imported stays, and need not be looked at after every run
        n_done, wait = 0, _WAIT_S[0]
        while todo := self._todo():
            spec = self._take(todo)
            if spec is None:
                time.sleep(wait)
                wait = min(2 * wait, _WAIT_S[1])
                continue
            try:
                n_done, wait = n_done + self._do(spec), _WAIT_S[0]
            except Stopped as stopped:
                stopped.went_on |= n_done > 0
                raise
            gc.collect()  # a Trainer and its network refer to each other, and Python would let them pile up
        return n_done

    def _todo(self) -> list[RunSpec]:
        done, failed = self.folder.records(), self.folder.failed()
        return [spec for spec in self.study.plan.runs(done) if spec.id not in done and spec.id not in failed]

    def _take(self, todo: list[RunSpec]) -> RunSpec | None:
        return next((spec for spec in todo if self.leases.take(spec.id)), None)

    def _do(self, spec: RunSpec) -> int:
        with self.leases.held(spec.id):
            if self.folder.record(spec.id).is_file():  # published since we looked
                return 0
            try:
                return self._run(spec)
            except (Stopped, DataChangedError):  # no run of the study can be done on other data
                raise
            except Exception as error:  # whatever it is, the other runs go on
                if is_disk_full(error):
                    raise disk_full(self.folder.path) from None
                return self._fail(spec, error)

    def _run(self, spec: RunSpec) -> int:
        self._score_zero_filled()
        home = self.folder.runs / spec.id
        home.mkdir(parents=True, exist_ok=True)
        left = [path for path in usable_attempts(home) if path.name != self.leases.token]
        attempt = self.folder.attempt(spec.id, self.leases.token)
        shutil.rmtree(attempt, ignore_errors=True)
        shows = spec.stage == "rerun" and spec.seed == self.study.grid.seeds[0]
        began = time.monotonic()
        execute(spec, self.setting, attempt, left[-1] if left else None, shows)
        self._require_same_data()
        published = self.folder.publish(spec.id, self.leases.token)
        for other in home.iterdir():
            if other.is_dir() and (other != attempt) == published:
                shutil.rmtree(other, ignore_errors=True)
        print(f"{spec.label}: {time.monotonic() - began:.1f} s", flush=True)
        return int(published)

    def _require_same_data(self) -> None:
        """By size and time of change: a run on other data must not be published as one on these."""
        settings = self.study.grid.cell(self.study.grid.reference).settings
        if signature(self.study.data, settings) != self.study.manifest["data"]["signature"]:
            raise DataChangedError(
                f"the files in {self.study.data} have changed since the study was begun; put them back, or let "
                f"mrirecon ablate run {self.folder.path} look at them anew"
            )

    def _fail(self, spec: RunSpec, error: Exception) -> int:
        if self.folder.record(spec.id).is_file():  # another worker was quicker and cleaned up behind us
            return 0
        traceback.print_exc()
        text = " ".join(str(explained(error) or error).split()) or type(error).__name__
        self.folder.note_failure(spec.id, spec.label, spec.cell.name, text[:500])
        return 0

    def _score_zero_filled(self) -> None:
        """The bottom of the scale that targets are set on; the same whoever writes it."""
        if self.study.zero_filled() is None:
            scores = zero_filled_scores(self.study.reference_run, self.setting)
            write_json(self.folder.zero_filled, {"of": self.study.scale, **scores})


def zero_filled_scores(spec: RunSpec, setting: Setting) -> dict[str, float | str]:
    """Mean scores of the zero-filled validation images, and the names of their masks, where `auto` was asked for."""
    config = training_config(spec, setting)
    reconstructor = find_reconstructor("zero-filled", EvaluateConfig(), choose_device(config.device))
    rows = score_split(reconstructor, config, spec, "val")
    means = {name: fmean(row.scores[name] for row in rows) for name in rows[0].scores}
    means = {name: mean for name, mean in means.items() if math.isfinite(mean)}  # a volume may have no object
    return {"mask": " and ".join(sorted({row.mask for row in rows})), **means}
