"""The loop of a worker: take a run that nobody has, do it, publish it; until nothing is left to do."""

import gc
import math
import os
import shutil
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from mrirecon import progress
from mrirecon.ablation.study.data import require_same_contents, signature
from mrirecon.ablation.study.folder import Study, StudyFolder, disk_full
from mrirecon.ablation.study.identity import code_hash
from mrirecon.ablation.study.plan import RunSpec
from mrirecon.ablation.study.records import Point, RunResult, Score, Timing, Trace, write_record
from mrirecon.ablation.work.examples import Examples
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.configfile import unflatten
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_split, require_targets
from mrirecon.data.folders.volume_files import sharing_volumes
from mrirecon.data.mask_choice import mask_spec, scored_passes
from mrirecon.errors import DataChangedError, DivergedError, InputError, Stopped, explained
from mrirecon.evaluation import find_protocol
from mrirecon.evaluation.results import VolumeResult, write_results
from mrirecon.files import is_disk_full, write_json
from mrirecon.leases import Leases
from mrirecon.models.device import choose_device, inference
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.find import find_reconstructor
from mrirecon.runs import RunFolder, open_run
from mrirecon.tables.metrics import METRICS
from mrirecon.training.footprint import PeakMemory, optimizer_bytes
from mrirecon.training.loop.curves import Journal
from mrirecon.workflows.fit import fit
from mrirecon.workflows.resume import reopen
from mrirecon.workflows.scoring.loop import score_dataset
from mrirecon.workflows.setup.training_work import TrainingWork
from mrirecon.workflows.train import describe

_WAIT_S = (0.1, 5.0)  # between looks, when all that is left is with others
_BULKY = ("checkpoints", "figures")


@dataclass(frozen=True)
class Setting:
    """Place where a worker works: nothing that decides a result."""

    data: str  # folder
    device: str = "auto"
    logger: str = "none"
    keep: str = "weights"
    study: str = ""  # its name, for provenance.json of each run


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
            spec = next((spec for spec in todo if self.leases.take(spec.id)), None)
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
        # the bottom of the scale that targets are set on; the same whoever writes it
        if self.study.zero_filled() is None:
            scores = zero_filled_scores(self.study.reference_run, self.setting)
            write_json(self.folder.zero_filled, {"of": self.study.scale, **scores})
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


def zero_filled_scores(spec: RunSpec, setting: Setting) -> dict[str, float | str]:
    """Mean scores of the zero-filled validation images, and the names of their masks, where `auto` was asked for."""
    config = training_config(spec, setting)
    reconstructor = find_reconstructor("zero-filled", EvaluateConfig(), choose_device(config.device))
    rows = score_split(reconstructor, config, spec, "val")
    means = {name: fmean(row.scores[name] for row in rows) for name in rows[0].scores}
    means = {name: mean for name, mean in means.items() if math.isfinite(mean)}  # a volume may have no object
    return {"mask": " and ".join(sorted({row.mask for row in rows})), **means}


# ---- one run of a study: train, score reruns on the test volumes, leave a record


def training_config(spec: RunSpec, setting: Setting) -> TrainConfig:
    """The whole configuration of a run."""
    here = {"data.path": setting.data, "device": setting.device, "logger": setting.logger}
    settings = spec.settings | spec.cell.defaults.decided(spec.settings)
    return unflatten(TrainConfig, {**settings, **here, "output": "", "overwrite": False})


def execute(spec: RunSpec, setting: Setting, attempt: Path, left: Path | None, shows_examples: bool) -> RunResult:
    """Do a run in the new folder `attempt` and write its record there.

    Args:
        spec: What to do.
        setting: Where.
        attempt: Made here; a run folder that `mrirecon evaluate` can read where weights are kept.
        left: The folder of an attempt that was stopped and left a checkpoint; the run goes on from a copy of it.
        shows_examples: Keep some reconstructed test slices for the report.

    Raises:
        InputError, WorkFailedError: The run cannot be done; a divergence is not that, but a result.
        Stopped: A signal came; the attempt holds a checkpoint.
    """
    began = time.monotonic()
    diverged_at, scores = None, []
    config = training_config(spec, setting)
    with PeakMemory(choose_device(config.device)) as memory:
        work, run, checkpoint = _begin(config, setting, attempt, left)
        try:
            fit(work, run, checkpoint)
        except DivergedError as error:
            diverged_at = error.step
        if spec.stage == "rerun" and diverged_at is None:
            scores = score_test(run, config, spec, attempt / "examples.npz" if shows_examples else None)
    optimizers = work.module.trainer.optimizers
    result = RunResult(
        run=spec.id,
        **spec.labels,
        n_steps=work.plan.n_steps,
        slices_per_step=work.plan.accumulate * config.batch_size,
        diverged_at=diverged_at,
        points=_points(run),
        traces=_traces(run),
        scores=[Score(row.volume, row.patient, row.acceleration, row.scores, row.zero_filled) for row in scores],
        optimizer_bytes=optimizer_bytes(optimizers[0]) if optimizers else 0,
        n_parameters=sum(p.numel() for p in work.model.parameters()),
        code=code_hash(),
        timing=Timing(
            time.monotonic() - began, _step_seconds(run, config), memory.bytes, socket.gethostname(), work.device
        ),
    )
    write_record(attempt / "result.json", result)
    _remove_bulk(run, keep=setting.keep if spec.stage == "rerun" else "nothing")
    return result


def score_test(run: RunFolder, config: TrainConfig, spec: RunSpec, examples: Path | None) -> list[VolumeResult]:
    """Score the final weights on every test volume, at every acceleration; writes volumes.csv."""
    use = EvaluateConfig(checkpoint="last", precision="fp32")
    device = choose_device(config.device)
    results = score_split(find_reconstructor(str(run.path), use, device), config, spec, "test", examples)
    write_results(run.path / "evaluation" / "test" / "volumes.csv", results)
    return results


def score_split(
    reconstructor: Reconstructor, config: TrainConfig, spec: RunSpec, split: str, examples: Path | None = None
) -> list[VolumeResult]:
    """Score a reconstructor on a split of the study's data; `examples` gets some slices."""
    protocol = find_protocol(config.protocol)
    n_volumes = config.val_volumes if split == "val" else 0
    seed = spec.study.split_seed
    volumes = open_split(config.data, split, seed, n_volumes, halve_val=protocol.halves_val)
    require_targets(volumes, f"the split '{split}'", "remove them")
    masks = mask_spec(config.data, volumes, protocol.mask_rule)
    results: list[VolumeResult] = []
    for i, (one, scored) in enumerate(scored_passes(masks, volumes)):
        dataset = SliceDataset(
            scored,
            mask=one,
            protocol=protocol,
            needs=(*reconstructor.needs, "image"),
            slices=config.data.slices or None,
        )
        watcher = Examples(dataset) if examples and i == 0 else None
        with inference(reconstructor.device):
            results += score_dataset(
                dataset, reconstructor, one.name, protocol=protocol, watchers=[watcher] if watcher else []
            )
        if watcher and examples:
            watcher.save(examples)
    return results


def _begin(
    config: TrainConfig, setting: Setting, attempt: Path, left: Path | None
) -> tuple[TrainingWork, RunFolder, str | None]:
    """A new run, or a copy of one that was stopped: its own folder may still be written by a stalled worker."""
    if left is not None:
        try:
            shutil.copytree(left, attempt, dirs_exist_ok=True)
            run = open_run(attempt)
            given = ("data.path", "device", "logger")
            work, checkpoint = reopen(run, config, given)
            return work, run, str(checkpoint)
        except InputError:  # half a checkpoint is no use: from the start
            shutil.rmtree(attempt)
    work = TrainingWork(config)
    work.compile()
    run = RunFolder(attempt)
    attempt.mkdir(parents=True, exist_ok=True)
    describe(work, run, work.provenance() | {"study": setting.study})
    return work, run, None


def _points(run: RunFolder) -> list[Point]:
    rows = [row for row in Journal(run.curves).rows() if row["val_ssim"]]
    return [
        Point(
            int(row["step"]),
            float(row["val_loss"]),
            {name: float(row[f"val_{name}"]) for name in METRICS if row.get(f"val_{name}")},
        )
        for row in rows
    ]


def _traces(run: RunFolder) -> list[Trace]:
    rows = [row for row in Journal(run.curves).rows() if row["train_loss"] and row.get("grad_norm")]
    return [
        Trace(int(row["step"]), float(row["train_loss"]), float(row["grad_norm"]), float(row["update_ratio"]))
        for row in rows
    ]


def _step_seconds(run: RunFolder, config: TrainConfig) -> float:
    """Median over the windows of the curve, without the first, which warms up; validations are not in them."""
    rates = [float(row["slices_per_s"]) for row in Journal(run.curves).rows() if row["slices_per_s"]]
    rates = rates[1:] or rates
    return float(config.accumulate * config.batch_size / np.median(rates)) if rates else float("nan")


def _remove_bulk(run: RunFolder, keep: str) -> None:
    """A study has hundreds of runs; a checkpoint is three times the network."""
    for name in _BULKY:
        shutil.rmtree(run.path / name, ignore_errors=True)
    if keep == "nothing":
        run.weights.unlink(missing_ok=True)


def usable_attempts(folder: Path) -> Sequence[Path]:
    """Attempts of a run that left a checkpoint, the one that is furthest last."""
    found = [path for path in folder.iterdir() if (path / "checkpoints" / "last.ckpt").is_file()]
    return sorted(found, key=lambda path: (path / "checkpoints" / "last.ckpt").stat().st_mtime)
