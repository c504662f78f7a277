"""The end of an optimizer step: validate when due, save, stop when asked; in this order, on all processes.

Lightning's own validation and checkpoint hooks run at different points of a step, and a run that is stopped
between them does not resume to the same numbers. Here there is one point, where all state is consistent.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from mrirecon import ranks
from mrirecon.errors import DivergedError, InputError
from mrirecon.evaluation.stats import goodness
from mrirecon.progress import say, warn
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import label_of
from mrirecon.termination import StopRequest
from mrirecon.training.checkpoints.read import load_checkpoint
from mrirecon.training.module import READ_EVERY

Scores = dict[str, float]
STATE_KEY = "Keeper"


class StepControl(Checkpoint):
    """Validates every `val_every` steps, keeps `last` and `best` (by one score), stops when it is time.

    With `checkpoints` = end there is no `best`, and `last` is written when training ends or is asked to stop. Several
    GPUs hear of a signal every `READ_EVERY` steps, for asking waits until all of them are done; elsewhere each step
    asks.

    Args:
        run: Where the checkpoints go.
        validate: Scores the network, the same on all processes; `None` from it means that a stop was agreed meanwhile.
        val_every: Optimizer steps between validations; the last step validates too.
        checkpoint_every: Further steps to save at; 0: none.
        accumulate: Batches per optimizer step.
        n_steps: Optimizer steps of the whole run.
        early_stop: Validations in a row without a better score that end the run; 0: none do. They count from the
            begin of an average on, where there is to be one.
        settings: What decides the result; stored in each checkpoint (see `read_settings`).
        checkpoints: all or end.
        monitor: The score, one of `monitors`. A value that is not finite is never the best.
        require_data: Raises an error, on all processes, where the data changed; asked before anything is saved.
    """

    def __init__(
        self,
        run: RunFolder,
        validate: Callable[[pl.Trainer, pl.LightningModule, StopRequest], Scores | None],
        val_every: int,
        checkpoint_every: int,
        accumulate: int,
        n_steps: int,
        early_stop: int = 0,
        settings: dict[str, Any] | None = None,
        checkpoints: str = "all",
        monitor: str = "ssim",
        require_data: Callable[[], None] = lambda: None,
    ) -> None:
        self.run, self.validate = run, validate
        self.val_every, self.checkpoint_every = val_every, checkpoint_every
        self.accumulate, self.n_steps, self.early_stop = accumulate, n_steps, early_stop
        self.settings, self.checkpoints, self.monitor = settings or {}, checkpoints, monitor
        self.require_data = require_data
        self.stop = StopRequest()
        self.best, self.best_step, self.n_worse, self.owes_validation = -math.inf, 0, 0, False  # best: see `goodness`
        self.average_pending = False
        self._saved_at = -1  # step

    @property
    def state_key(self) -> str:
        """The name of the state in checkpoints of all versions; Lightning's own would change with that of the class."""
        return STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """Return settings, best score, validations since, and whether the saved step was still to be validated."""
        return {
            "settings": self.settings,
            "best": self.best,
            "best_step": self.best_step,
            "n_worse": self.n_worse,
            "average_pending": self.average_pending,
            "owes_validation": self.owes_validation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.best = state_dict["best"] if "best" in state_dict else state_dict["best_ssim"]  # when there was SSIM alone
        self.best_step = state_dict["best_step"]
        self.n_worse = state_dict.get("n_worse", 0)
        self.average_pending = state_dict.get("average_pending", False)
        self.owes_validation = state_dict["owes_validation"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Warn of states in a checkpoint that nobody here takes up, and of those that it lacks."""
        held = {str(key) for key in checkpoint["callbacks"]}
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        wanted = {one.state_key for one in callbacks if type(one).state_dict is not pl.Callback.state_dict}
        if unknown := sorted(held - {one.state_key for one in callbacks}):
            warn(f"warning: the checkpoint holds a state of {', '.join(unknown)}, which is unknown here and not used")
        if missing := sorted(wanted - held):
            warn(f"warning: the checkpoint holds no state of {', '.join(missing)}; what that counts begins anew")

    @property
    def monitored(self) -> str:
        """The score in words."""
        return label_of(self.monitor)

    @property
    def has_stalled(self) -> bool:
        """The last validations were no better than one before: the run ends early (early stopping, Prechelt 1998)."""
        return 0 < self.early_stop <= self.n_worse

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the validation that an earlier stop left."""
        if self.owes_validation:
            self._validate_and_save(trainer, pl_module)
        # A run that ended early has ended; one that is asked to stop again owes its validation still.
        trainer.should_stop = self.has_stalled or self.stop.agreed is not None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when due, save, stop when asked, where the batch ends an optimizer step."""
        trainer.train_dataloader.batches_done = batch_idx + 1  # type: ignore[union-attr]
        if (batch_idx + 1) % self.accumulate:
            return
        step = trainer.global_step
        is_validated = step % self.val_every == 0 or step == self.n_steps
        if is_validated or not ranks.talk_waits_for_gpu() or step % READ_EVERY == 0:
            self.stop.agree()  # from here on all processes decide alike
        if is_validated:
            self._validate_and_save(trainer, pl_module)
        elif self._is_due(step):
            self._save(trainer, pl_module)
        stops = self.stop.agreed is not None and self._saved_at == step
        trainer.should_stop = trainer.should_stop or stops or self.has_stalled

    def _is_due(self, step: int) -> bool:
        return self.stop.agreed is not None or (self.checkpoint_every > 0 and step % self.checkpoint_every == 0)

    def _validate_and_save(self, trainer: pl.Trainer, module: Any) -> None:
        module.read_losses()  # none of them may be a diverged one
        step, owed = trainer.global_step, self.owes_validation
        improved = self._validate(trainer, module)
        if self.checkpoints == "end":
            # What an earlier stop left is saved as done: going on again from there would write its row again.
            if owed or step == self.n_steps or self.has_stalled or self._is_due(step):
                self._save(trainer, module)
        elif improved:
            self._save_best(trainer, module)
        else:
            self._save(trainer, module)

    def _validate(self, trainer: pl.Trainer, module: pl.LightningModule) -> bool:
        """Score the network; return whether that is the best so far."""
        # The last step has nothing to resume: it is validated whatever was asked.
        stop = StopRequest() if trainer.global_step >= self.n_steps else self.stop
        scores = None if stop.agreed else self.validate(trainer, module, stop)
        if scores is not None and not math.isfinite(scores["val_ssim"]):
            raise DivergedError(
                f"validation at step {trainer.global_step} gives SSIM {scores['val_ssim']}: the reconstructions are "
                "not finite; lower --lr or add --clip 1. The last good checkpoint, if there was one, is kept.",
                trainer.global_step,
            )
        self.owes_validation = scores is None
        if scores is None:
            return False
        value = scores[f"val_{self.monitor}"]
        found = goodness(self.monitor, value)
        if not math.isfinite(found):
            say(f"note        {self.monitored} is {value} at step {trainer.global_step}, which is never the best")
        improved = self._is_better(found, module)
        if improved:
            self.best, self.best_step = found, trainer.global_step
        self.n_worse = 0 if improved or self.average_pending else self.n_worse + 1
        return improved

    def _save_best(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # `best` first: a process killed in between goes on from the old `last` and makes the new `best` again.
        self._save(trainer, module, "best")
        if ranks.is_first():
            trainer.strategy.checkpoint_io.copy_best()  # type: ignore[attr-defined]
        ranks.barrier()

    def _is_better(self, found: float, module: Any) -> bool:
        """Compare with the best so far; the first average of weights is better than all that came before it."""
        was_pending, self.average_pending = self.average_pending, module.evaluated.is_pending
        if was_pending and not self.average_pending:
            self.best = -math.inf
        return found > self.best

    def _save(self, trainer: pl.Trainer, module: Any, which: str = "last") -> None:
        module.read_losses()
        self.require_data()
        if not all(torch.isfinite(value).all() for value in module.state_dict().values()):
            raise DivergedError(
                f"training diverged at step {trainer.global_step}: the weights are not finite; "
                "lower --lr or add --clip 1. The last good checkpoint, if there was one, is kept.",
                trainer.global_step,
            )
        trainer.save_checkpoint(self.run.checkpoint(which))  # on all processes; see checkpoints/write.py
        self._saved_at = trainer.global_step


def read_settings(checkpoint: Path) -> dict[str, Any]:
    """Read the settings that a checkpoint was trained with.

    Raises:
        InputError: The file is damaged or is no checkpoint of a training.
    """
    state = load_checkpoint(checkpoint)
    try:
        settings = dict(state["callbacks"][STATE_KEY].get("settings", {}))
        json.dumps(settings)  # plain values, as a training writes them
        return settings
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{checkpoint} is damaged or no checkpoint of a training ({reason})") from None
