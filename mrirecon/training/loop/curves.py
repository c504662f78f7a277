"""The curves of a training: the table curves.csv, what goes to the loggers, and what is shown meanwhile."""

import csv
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mrirecon import progress, ranks
from mrirecon.errors import InputError
from mrirecon.files import naming, read_table, replacing
from mrirecon.tables.metrics import METRICS, chosen_metrics, in_files, sentence
from mrirecon.training.loop.loggers import Loggers
from mrirecon.training.module import READ_EVERY, BatchNote

_FIRST, _LAST = (
    ("step", "epoch", "lr", "train_loss", "val_loss"),
    ("grad_norm", "update_ratio", "slices_per_s", "seconds"),
)


def columns(metrics: Iterable[str] | None = None) -> list[str]:
    """Return the columns of a training that scores `metrics` (None: the default ones), later ones behind all others."""
    names = in_files(chosen_metrics(metrics))
    first = [f"val_{name}" for name in names if not METRICS[name].appended]
    return [*_FIRST, *first, *_LAST, *(f"val_{name}" for name in names if METRICS[name].appended)]


class Journal:
    """Appends rows to a CSV file; columns that a row lacks stay empty.

    Args:
        path: Of the file.
        metrics: What validations score; None: the default ones.
    """

    def __init__(self, path: Path, metrics: Iterable[str] | None = None) -> None:
        self.path, self.columns = path, columns(metrics)
        self._began = -1  # step

    def begin(self, step: int) -> None:
        """Start at `step`: rows after it belong to work that will be done again and go."""
        self._began = step
        self._write([row for row in self.rows() if int(row["step"]) <= step] if step else [])

    def add(self, **values: Any) -> None:
        """Append one row."""
        if values["step"] == self._began and "val_ssim" in values:
            # A stop left this validation; it may have been done before in a part of the run that was lost.
            self._write([row for row in self.rows() if int(row["step"]) < self._began or not row["val_ssim"]])
        given = {key: value for key, value in values.items() if value is not None}
        shown = {key: f"{value:.9g}" if isinstance(value, float) else str(value) for key, value in given.items()}
        with naming(self.path), self.path.open("a", newline="") as handle:
            csv.DictWriter(handle, self.columns).writerow(shown)

    def _write(self, rows: list[dict[str, str]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def rows(self) -> list[dict[str, str]]:
        """Read all rows; a row cut short by a crash is left out.

        Raises:
            InputError: The file is no table of a training.
        """
        try:
            rows = [row for row in read_table(self.path)[1] if row["step"] and row["seconds"]]
            for row in rows:
                int(row["step"])
        except FileNotFoundError:
            return []
        except (KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path} is not a table of a training ({error}); restore it, or delete it") from None
        return rows


class StepTrace:
    """Looks at the parameters of an optimizer before and after one of its steps; keeps a copy of them in between."""

    def __init__(self) -> None:
        self._before: list[Tensor] | None = None
        self._parameters: list[Tensor] = []
        self._grad_norm = 0.0

    def begin(self, optimizer: Optimizer) -> None:
        """Note gradient and weights before a step; the gradient is complete (accumulated, unscaled), not clipped."""
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._grad_norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None]).item()
        self._before = [p.detach().clone() for p in self._parameters]

    def end(self) -> dict[str, float]:
        """Compute Euclidean norms over all parameters, as one vector, after a step; empty where none was begun.

        Returns:
            `grad_norm`: of the gradient; equals what torch's `clip_grad_norm_` returns. `update_ratio`: of the change
            of the weights over that of the weights before.
        """
        if self._before is None:
            return {}
        change = [p.detach() - before for p, before in zip(self._parameters, self._before, strict=True)]
        ratio = get_total_norm(change) / get_total_norm(self._before)
        self._before, self._parameters = None, []
        return {"grad_norm": self._grad_norm, "update_ratio": ratio.item()}


LOG_EVERY = READ_EVERY  # optimizer steps
_TABLE = ("step", "volume", "acceleration", "n_slices")  # first columns of val_volumes; then the metrics
_PLAIN_EVERY_S = 15.0


class Curves(pl.Callback):
    """Mean training loss of every `LOG_EVERY` steps and the validation scores, to CSV and the loggers.

    Beside the loss stand two norms of the last step of the window alone (see `StepTrace`). Loss and slices/s are those
    of all processes together; the first one writes.

    Args:
        journal: The CSV file.
        loggers: Of the first process; none of the others.
        batches_per_epoch, accumulate, n_steps: The plan of the run.
    """

    def __init__(
        self, journal: Journal, loggers: Loggers, batches_per_epoch: int, accumulate: int, n_steps: int
    ) -> None:
        self.journal, self.loggers = journal, loggers
        self.batches_per_epoch, self.accumulate, self.n_steps = batches_per_epoch, accumulate, n_steps
        self.loss_sum, self.n_batches, self.seconds, self.n_slices = 0.0, 0, 0.0, 0
        self.latest: dict[str, float] = {}
        self.lr, self.trace = 0.0, StepTrace()

    @property
    def state_key(self) -> str:
        """The name of the state in checkpoints of all versions; Lightning's own would change with that of the class."""
        return "Curves"

    def state_dict(self) -> dict[str, Any]:
        """Return the running sums, so that a resumed run writes the same rows."""
        return {"loss_sum": self.loss_sum, "n_batches": self.n_batches, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.loss_sum, self.n_batches = state_dict["loss_sum"], state_dict["n_batches"]
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin at the step the run is at."""
        self._started = self._window = self._said = time.monotonic()
        self._left_out, self._waited_before = 0.0, _waited(trainer)
        pl_module.on_loss_read = self._count
        self._first_step = trainer.global_step
        if ranks.is_first():
            self.journal.begin(trainer.global_step)
        self.loggers.call("begin", trainer.global_step)
        self._bar = None
        if not progress.quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.n_steps, initial=trainer.global_step, unit="step", dynamic_ncols=True)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the rate this step uses: the schedule has moved on when the batch ends. Look at steps to be written."""
        self.lr = float(optimizer.param_groups[0]["lr"])
        if self._is_written(trainer.global_step + 1):
            self.trace.begin(optimizer)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Show where the training is; at the end of a window write a row."""
        step = trainer.global_step
        if (batch_idx + 1) % self.accumulate == 0:
            if self._is_written(step):
                pl_module.read_losses()
            self._show(step)
            if self._is_written(step):
                self._write_training(trainer, step)

    def _count(self, batch: BatchNote) -> None:
        self.loss_sum += batch.loss
        self.n_batches += 1
        self.n_slices += batch.n_slices
        self.latest["loss"] = self.loss_sum / self.n_batches

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar; say how much of the time the training waited for data."""
        self._close()
        trained = time.monotonic() - self._started - self._left_out
        waited = _waited(trainer) - self._waited_before
        if trainer.global_step > self._first_step:
            share = waited / max(trained, 1e-9)
            self._say(f"waited for data {100 * share:.0f} % of the training time ({waited:.1f} s of {trained:.1f} s)")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        self._close()

    def validated(
        self,
        trainer: pl.Trainer,
        scores: dict[str, float],
        panel: torch.Tensor | None = None,
        volumes: Sequence[Sequence[Any]] = (),
    ) -> None:
        """Record the scores of the current step.

        Args:
            trainer: Its step counts.
            scores: Means by name.
            panel: `(height, width)`, 0 to 1, for loggers that show images.
            volumes: A row for each volume and acceleration, for loggers that show tables: name, nominal acceleration,
                number of slices, and the scores in the order of the columns in files.
        """
        step = trainer.global_step
        of_metrics = {name: scores[f"val_{name}"] for name in METRICS if f"val_{name}" in scores}
        self.latest.update(scores)
        self._add(step, **scores)
        self.loggers.call("log_metrics", scores, step=step)
        if panel is not None:
            caption = "target, zero-filled, reconstruction"
            self.loggers.call("log_image", "panel", [panel.mul(255).byte().numpy()], step=step, caption=[caption])
        if volumes:
            columns = [*_TABLE, *in_files(of_metrics)]
            self.loggers.call("log_table", "val_volumes", columns, [[step, *row] for row in volumes], step=step)
        self._say(f"step {step}/{self.n_steps}: validation {sentence(of_metrics)}")

    def leave_out(self, seconds: float) -> None:
        """Leave time that was no training, such as a validation, out of slices/s."""
        self._window += seconds
        self._left_out += seconds

    def _is_written(self, step: int) -> bool:
        return step % LOG_EVERY == 0 or step == self.n_steps

    def _write_training(self, trainer: pl.Trainer, step: int) -> None:
        now = time.monotonic()
        rate = self.n_slices / max(now - self._window, 1e-9)
        row = {"lr": self.lr, "train_loss": self.loss_sum / self.n_batches, **self.trace.end()}
        self.latest["train_loss"], self.latest["slices_per_s"] = row["train_loss"], rate
        self._add(step, slices_per_s=rate, **row)
        self.loggers.call("log_metrics", {**row, "epoch": self._epoch(step), "slices_per_s": rate}, step=step)
        self.loss_sum, self.n_batches, self.n_slices, self._window = 0.0, 0, 0, now

    def _add(self, step: int, **values: float) -> None:
        if ranks.is_first():
            self.journal.add(step=step, epoch=self._epoch(step), seconds=self._elapsed(), **values)

    def _epoch(self, step: int) -> float:
        return step * self.accumulate / self.batches_per_epoch

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def _show(self, step: int) -> None:
        if self._bar is not None:
            shown = {"lr": self.lr, **self.latest}
            keys = ("loss", "lr", "slices_per_s", "val_ssim")
            self._bar.set_postfix({k: f"{shown[k]:.3g}" for k in keys if k in shown}, refresh=False)
            self._bar.update(step - self._bar.n)
        elif not progress.quiet and time.monotonic() - self._said > _PLAIN_EVERY_S:
            self._said = time.monotonic()
            pace = (self._said - self._started) / max(step - self._first_step, 1)
            rate = self.latest.get("slices_per_s", 0.0)
            loss = f"loss {self.latest['loss']:.4f}, " if "loss" in self.latest else ""  # none was read yet
            self._say(
                f"step {step}/{self.n_steps}: {loss}lr {self.lr:.2e}, "
                f"{rate:.1f} slices/s, {pace * (self.n_steps - step):.0f} s left"
            )

    def _say(self, line: str) -> None:
        if progress.quiet:
            return
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if getattr(self, "_bar", None) is not None:
            self._bar.close()  # type: ignore[union-attr]
            self._bar = None


def _waited(trainer: pl.Trainer) -> float:
    """Seconds that the training has waited for batches; see `StreamLoader`."""
    return float(getattr(trainer.train_dataloader, "waited_s", 0.0))
