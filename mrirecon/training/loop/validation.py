"""Scoring the network inside training: the run's protocol on the validation volumes, at every acceleration."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.data.loading.loaders import UnitLoader
from mrirecon.data.samples import Sample, to_device
from mrirecon.evaluation import FASTMRI_V1, Protocol, VolumeMetrics, mean_score
from mrirecon.evaluation.metrics import VolumeScore
from mrirecon.evaluation.stats.verdict import LOSS
from mrirecon.evaluation.summary import notes_on_objects
from mrirecon.progress import say
from mrirecon.tables.metrics import in_files, validation_metrics
from mrirecon.termination import StopRequest
from mrirecon.training.loop.curves import Curves
from mrirecon.training.module import ReconModule
from mrirecon.training.recipe.batchnorm import take_buffers_of_the_first

Row = tuple[int, int, float, float]  # volume, slice, loss of its batch, nominal acceleration


class Validation:
    """Scores a network on fixed masks and reports to the curves.

    Processes share the units; each slice's numbers are gathered under its (volume, slice) and summed in that order, so
    that the scores are the same on all processes, and for any number of them.

    Args:
        loaders: One loader of `Sample` units per acceleration.
        curves: Gets the scores.
        protocol: How they are taken.
        require_data: Raises an error, on all processes, where the data changed; asked before scores are reported.
        monitor: What is watched: scored besides the default metrics.
    """

    def __init__(
        self,
        loaders: Sequence[UnitLoader],
        curves: Curves,
        protocol: Protocol = FASTMRI_V1,
        require_data: Callable[[], None] = lambda: None,
        monitor: str = LOSS,
    ) -> None:
        self.loaders, self.curves, self.protocol, self.require_data = loaders, curves, protocol, require_data
        self.metrics = validation_metrics(monitor)
        self._has_noted = False  # which volumes have no object, the same at every validation
        self.names = [volume.name for volume in loaders[0].dataset.volumes]  # type: ignore[attr-defined]

    def __call__(self, trainer: pl.Trainer, module: Any, stop: StopRequest) -> dict[str, float] | None:
        """Return mean scores over volumes and accelerations; None when a stop was agreed meanwhile."""
        began = time.monotonic()
        module.eval()
        take_buffers_of_the_first(module)
        with module.evaluated_weights(), torch.inference_mode(), trainer.precision_plugin.forward_context():
            scored = self._score(module, stop)
        module.train()
        self.curves.leave_out(time.monotonic() - began)
        if stop.agree():  # a signal may have come with the last batch, or to another process
            return None
        self.require_data()
        computed = [score.metrics.compute() for score in scored]
        mean = mean_score((score for volumes in computed for score in volumes.values()), self.protocol.per_slice)
        rows = [_in_order(score.rows) for score in scored]
        losses = [row[2] for of_loader in rows for row in of_loader]
        scores = {"val_loss": sum(losses) / len(losses)}
        scores |= {f"val_{name}": mean.scores[name] for name in in_files(mean.scores)}
        if math.isfinite(scores["val_loss"]) and not self._has_noted:
            self._has_noted = True
            by_volume = {str(name): score.scores for volumes in computed for name, score in volumes.items()}
            for note in notes_on_objects(by_volume):
                say(f"note        validation: {note}")
        module.observe(scores)
        panel = _of_any_process(self._panel) if ranks.any_of(bool(self.curves.loggers)) else None
        self.curves.validated(trainer, scores, panel, self._table(computed, rows))
        return scores

    def _score(self, module: ReconModule, stop: StopRequest) -> list["_Scored"]:
        self._panel: Tensor | None = None
        shown = _shown(self.loaders[0])
        scored = [_Scored(VolumeMetrics(self.names, self.metrics)) for _ in self.loaders]
        for score, loader in zip(scored, self.loaders, strict=True):
            with closing(iter(loader)) as batches:
                for _ in range(loader.n_rounds):
                    if stop.agree():
                        return scored
                    batch = next(batches, None)
                    if batch is not None:
                        self._score_batch(score, module, batch, shown)
        return scored

    def _score_batch(self, score: "_Scored", module: ReconModule, batch: Sample, shown: tuple[str, int]) -> None:
        sample = to_device(batch, module.device)
        prediction, loss = module.add_scores(score.metrics, sample, sample.volume, self.protocol.clamps_target)
        of_batch = list(zip(sample.volume, torch.as_tensor(sample.slice_idx).tolist(), strict=True))
        if self._panel is None and shown in of_batch:
            self._panel = _side_by_side(sample, prediction.image, of_batch.index(shown))
        accelerations = torch.as_tensor(sample.acceleration).tolist()
        score.rows += [
            (self.names.index(name), index, loss.item(), acceleration)
            for (name, index), acceleration in zip(of_batch, accelerations, strict=True)
        ]

    def _table(
        self, computed: Sequence[dict[str | int, VolumeScore]], rows: Sequence[Sequence[Row]]
    ) -> list[list[Any]]:
        """Volume, nominal acceleration, slices and scores; of a volume only its name, which is no patient's."""
        nominal = [{self.names[volume]: value for volume, _, _, value in of_loader} for of_loader in rows]
        return [
            [name, of_loader[str(name)], score.n_slices, *(score.scores[m] for m in in_files(score.scores))]
            for of_loader, scores in zip(nominal, computed, strict=True)
            for name, score in scores.items()
        ]


@dataclass
class _Scored:
    """The slices of one loader that this process has scored."""

    metrics: VolumeMetrics
    rows: list[Row] = field(default_factory=list)


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """Gather the rows of all processes by volume and slice, each slice once."""
    gathered = ranks.gather_rows(torch.tensor(rows, dtype=torch.float64)).tolist()
    of_slice = {(int(volume), int(index)): (loss, acceleration) for volume, index, loss, acceleration in gathered}
    return [(*key, *of_slice[key]) for key in sorted(of_slice)]


def _of_any_process(panel: Tensor | None) -> Tensor | None:
    """Return the picture `(height, 3 x width)` of the process that has it."""
    own = torch.empty(0) if panel is None else torch.cat([torch.tensor(panel.shape), panel.flatten()])
    gathered = ranks.gather_rows(own.double()[:, None]).flatten()
    if not len(gathered):
        return None
    height, width = (int(n) for n in gathered[:2])
    return gathered[2 : 2 + height * width].reshape(height, width).to(torch.float32)


def _shown(loader: UnitLoader) -> tuple[str, int]:
    """Choose the slice that panels show: the middle one of the first volume; the outer ones are mostly air."""
    dataset: Any = loader.dataset
    of_first = [i for volume, i in dataset.items if volume == 0]
    return dataset.volumes[0].name, of_first[len(of_first) // 2]


def _side_by_side(sample: Sample, images: Tensor, k: int) -> Tensor:
    """Join target, zero-filled image and reconstruction of slice `k`, (height, 3 width), the target's maximum as 1."""
    target = sample.target[k]
    shown = torch.cat([target, sample.image[k], images[k].to(target.dtype)], dim=1)
    return torch.nan_to_num(shown / target.amax()).clamp(0, 1).cpu()
