"""One fit of a Lightning trainer, from its start or from a checkpoint, into a run folder."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from mrirecon import ranks
from mrirecon.errors import InputError, Stopped, WorkFailedError
from mrirecon.files import is_disk_full
from mrirecon.models.device import keep_freed_memory
from mrirecon.progress import say
from mrirecon.runs import RunFolder, RunLock
from mrirecon.tables.metrics import validation_metrics
from mrirecon.training.build import load_reconstructor
from mrirecon.training.checkpoints.read import load_checkpoint
from mrirecon.training.checkpoints.weights_files import save_portable
from mrirecon.training.checkpoints.write import CheckpointFiles
from mrirecon.training.loop.curves import Curves, Journal
from mrirecon.training.loop.loggers import Loggers
from mrirecon.training.loop.validate_and_keep import StepControl
from mrirecon.training.loop.validation import Validation
from mrirecon.training.recipe.batchnorm import synchronised
from mrirecon.workflows.setup.training_work import TrainingWork

_LIGHTNING_NAMES = {"fp32": "32-true", "bf16-mixed": "bf16-mixed"}


def fit(work: TrainingWork, run: RunFolder, checkpoint: str | None, lock: RunLock | None = None) -> RunFolder:
    """Train to the end of the plan; from `checkpoint` if given. A `lock` is looked at before each step is recorded.

    Raises:
        DataChangedError: A file changed; no step that may have seen it is saved.
        DivergedError: Training diverged.
        Stopped: A signal came; the state is saved.
        WorkFailedError: The disk is full; the last checkpoint is kept. Or the run folder is gone, or another's.
    """
    config, plan = work.config, work.plan
    with Loggers(config.logger if ranks.is_first() else "none", run, dataclasses.asdict(config)) as loggers:
        journal = Journal(run.curves, validation_metrics(config.monitor))
        curves = Curves(journal, loggers, work.data.stream.batches_per_epoch, plan.accumulate, plan.n_steps)
        validation = Validation(
            work.data.val_dataloader(), curves, work.protocol, work.data.require_unchanged, config.monitor
        )
        control = StepControl(
            run,
            validation,
            plan.val_every,
            config.checkpoint_every,
            plan.accumulate,
            plan.n_steps,
            config.early_stop,
            work.settings,
            config.checkpoints,
            config.monitor,
            work.data.require_unchanged,
        )
        _fit(work, run, checkpoint, (curves, control), lock)
    return run


def _fit(
    work: TrainingWork,
    run: RunFolder,
    checkpoint: str | None,
    callbacks: tuple[Curves, StepControl],
    lock: RunLock | None,
) -> None:
    control = callbacks[1]
    if work.config.sync_batchnorm and ranks.world_size() > 1:
        synchronised(work.module, work.device)
    with warnings.catch_warnings():
        _hush()
        first = FirstBatch()
        trainer = _trainer(work, run, [StillOurs(run, lock), *callbacks, first])
    if work.device == "cpu":
        keep_freed_memory()
    loader = work.data.train_dataloader()
    loader.for_gpu = work.device == "cuda"
    control.stop.listen()
    try:
        with warnings.catch_warnings(), needing_room(run, trainer), resuming(checkpoint, first):
            _hush()
            trainer.fit(work.module, loader, ckpt_path=checkpoint, weights_only=True)
        if checkpoint and not first.is_done and not control.stop.agreed:
            say(f"the run had ended before, at step {trainer.global_step}; no step was left to do")
        _finish(work, run, trainer, control, first.step)
    except SystemExit:  # what Lightning makes of a second Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        loader.close()
        control.stop.restore()


def _finish(work: TrainingWork, run: RunFolder, trainer: pl.Trainer, control: StepControl, began: int) -> None:
    """Say how the training ended and write its weights; a signal that comes now changes nothing any more."""
    step, n_steps = trainer.global_step, work.plan.n_steps
    if control.has_stalled:
        since = f"{control.n_worse} validations without a better {control.monitored} than at step {control.best_step}"
        say(f"ended at step {step} of {n_steps}: {since}")
    elif control.stop.agreed and step < n_steps:
        raise Stopped(
            f"stopped by {control.stop.agreed.name} at step {step} of {n_steps}; "
            f"saved. Go on with: mrirecon train --resume {run.path}",
            went_on=step > began + 1,  # asked to stop before it began, it does one step
        )
    if ranks.is_first():
        with needing_room(run, trainer):
            _export_weights(work, run, _exported(work, run, control))
        CheckpointFiles(run).drop_previous()
    ranks.barrier()  # of several processes none goes deaf before the weights are there


def _trainer(work: TrainingWork, run: RunFolder, callbacks: list[pl.Callback]) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    in_group = ranks.world_size() > 1
    n_local = work.config.devices if in_group else 1
    trainer = pl.Trainer(
        accelerator="gpu" if work.device == "cuda" else "cpu",
        devices=n_local,
        num_nodes=work.config.num_nodes if in_group else 1,
        strategy=strategy(n_local),
        precision=_LIGHTNING_NAMES[work.precision],  # type: ignore[arg-type]
        max_epochs=1,  # one stream of all batches; see data/loading/batch_order.py
        accumulate_grad_batches=work.plan.accumulate,
        gradient_clip_val=work.config.clip or None,
        limit_val_batches=0,
        logger=False,  # the curves have their own; one that fails in Lightning's hands would end the run
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(run.path),
        plugins=[CheckpointFiles(run)] if in_group else [LightningEnvironment(), CheckpointFiles(run)],
    )
    # Lightning's handler speaks to the other processes inside the signal; the control's, which sets a flag, is the one.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _exported(work: TrainingWork, run: RunFolder, control: StepControl) -> str:
    """Return the name of the checkpoint whose weights are the network of the run."""
    if work.config.checkpoints == "end":
        return "last"
    if not run.checkpoint("best").is_file():
        say(
            f"no validation had a finite {control.monitored}: there is no `best`, "
            "the weights are those of the last step"
        )
        return "last"
    return "best"


def _export_weights(work: TrainingWork, run: RunFolder, checkpoint: str) -> None:
    """Write the network alone, with what it is, in a format that runs no code when read."""
    save_portable(load_reconstructor(run, checkpoint).model, work.config.model, run.weights)


def _hush() -> None:
    """Lightning's advice that does not apply: validation is the control's, the workers and processes are chosen."""
    texts = (
        "no `val_dataloader`",
        "does not have many workers",
        "module\\(s\\) in eval mode at the start",  # frozen BatchNorm
        "`isinstance.treespec",
        "the logging interval",
        "`srun`",
        "callbacks used to create the checkpoint",  # the control names them
        "Grad strides do not match",  # 1 x 3 x 3 kernels of channels-last networks; costs nothing
    )
    for text in texts:
        warnings.filterwarnings("ignore", f".*{text}.*")


# ---- the group of processes as Lightning knows it


class JoinedGroup(ClusterEnvironment):
    """Tells Lightning the numbers of the group; it starts no process and joins nothing.

    Args:
        n_local: Processes on this node.
    """

    def __init__(self, n_local: int) -> None:
        super().__init__()
        self.n_local = n_local

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return ranks.world_size()

    def set_world_size(self, size: int) -> None:
        return  # the group has its size

    def global_rank(self) -> int:
        return ranks.rank()

    def set_global_rank(self, rank: int) -> None:
        rank_zero_only.rank = ranks.rank()  # type: ignore[attr-defined]  # Lightning prints on the first one

    def local_rank(self) -> int:
        return int(os.environ.get("LOCAL_RANK", ranks.rank() % self.n_local))

    def node_rank(self) -> int:
        return ranks.rank() // self.n_local


class JoinedDDP(DDPStrategy):
    """Lightning's DDP without its launcher, which would start processes, end them on Ctrl-C and set threads."""

    def _configure_launcher(self) -> None:
        self._launcher: Any = None


def strategy(n_local: int) -> JoinedDDP | str:
    """Return a strategy for `Trainer(strategy=...)`: data-parallel in a group, else Lightning's for one process."""
    return JoinedDDP(cluster_environment=JoinedGroup(n_local)) if ranks.world_size() > 1 else "auto"


# ---- errors around a fit, told in one line: a full disk, a folder that is gone or taken, a state of no training


@contextmanager
def needing_room(run: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Tell a full disk, or a run folder that is gone, in one line; around what writes into it.

    Raises:
        WorkFailedError: The disk is full; it says what is kept. Or the folder is gone.
    """
    try:
        yield
    except OSError as error:
        if not run.config.is_file():
            raise WorkFailedError(
                f"{run.path} was deleted or moved away while it was trained, at step {trainer.global_step}: nothing "
                "more can be saved; if it was moved, go on with mrirecon train --resume and its new place, else train "
                "again"
            ) from error
        file = error.filename  # where it is known
        is_elsewhere = isinstance(file, str) and not Path(file).absolute().is_relative_to(run.path.absolute())
        if is_elsewhere or not is_disk_full(error):
            raise
        raise _full_disk(run, trainer.global_step) from error


class StillOurs(pl.Callback):
    """Stops a training before it writes into a run that another command has taken over meanwhile."""

    def __init__(self, run: RunFolder, lock: RunLock | None) -> None:
        self.run, self.lock = run, lock

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Raise a WorkFailedError where the lock is another's."""
        if self.lock and self.lock.is_lost:
            raise WorkFailedError(
                f"{self.run.path} was taken over by another command at step {trainer.global_step}, as this one had "
                "given no sign of life for long; this one ends here"
            )


def _full_disk(run: RunFolder, step: int) -> WorkFailedError:
    begin = f"no room in {run.path} at step {step}"
    try:
        kept = load_checkpoint(run.checkpoint("last"))["global_step"]
    except (InputError, KeyError):
        return WorkFailedError(
            f"{begin}; there is no checkpoint yet; make room and start again: mrirecon train -c {run.config}"
        )
    return WorkFailedError(
        f"{begin}; the checkpoint of step {kept} is kept; make room and go on with: mrirecon train --resume {run.path}"
    )


_OTHER = (InputError, WorkFailedError, Stopped, OSError, MemoryError, torch.OutOfMemoryError)  # not the checkpoint's


class FirstBatch(pl.Callback):
    """Notes at which step a training began, and that a batch was trained on: the resumed state was sound."""

    def __init__(self) -> None:
        self.is_done, self.step = False, 0

    def on_train_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.is_done = True


@contextmanager
def resuming(checkpoint: str | None, first: FirstBatch) -> Iterator[None]:
    """Report what goes wrong up to the first batch as the fault of the checkpoint that a training goes on from.

    Raises:
        InputError: In place of any error that says nothing to the user.
    """
    try:
        yield
    except _OTHER:
        raise
    except Exception as error:
        if checkpoint is None or first.is_done:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"{checkpoint} holds no state that this run can go on from ({reason}); restore it, or train anew"
        ) from error
