"""The scores of volumes as a metric of torchmetrics, for any Trainer and any loop."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mrirecon.evaluation.metrics import VolumeScore
from mrirecon.evaluation.slice_rows import SliceRows


class VolumeMetrics(Metric):
    """Scores of volumes whose slices come in any order, on any process, possibly twice.

    Slices are scored as they come and kept as rows of numbers; `compute` drops duplicates (a distributed
    sampler pads with them) and sums in slice order in double precision. So the result does not depend on
    the number of processes, and a process without slices takes part like any other.

    Args:
        volumes: Names of all volumes, the same on every process; then `update` takes names and `compute`
            returns them. Without it volumes are whole numbers.
        metrics: Names of `mrirecon.tables.metrics.METRICS`; None: the default ones.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, volumes: Sequence[str] | None = None, metrics: Sequence[str] | None = None) -> None:
        super().__init__()
        # torchmetrics fills in for a process without data with this type; another one breaks the gather.
        self.set_dtype(torch.float64)
        self._slices = SliceRows(volumes, metrics)
        # One flat state: placeholders are one-dimensional, and one gather is enough.
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.rows: list[Tensor]

    def update(
        self,
        target: Tensor,
        image: Tensor,
        data_range: Tensor | Sequence[float],
        volume: Sequence[str] | Sequence[int] | Tensor,
        slice_idx: Tensor | Sequence[int],
        object_mask: Tensor | None = None,
    ) -> None:
        """Score a batch.

        Args:
            target, image: `(batch, height, width)`.
            data_range: Of each slice's volume: the maximum of the target over all stored slices, as in fastMRI.
            volume: Name or number of each slice's volume.
            slice_idx: Index of each slice in its volume.
            object_mask: Where the object is, bool `(batch, height, width)`, if a metric asks; None: found by a rule.

        Raises:
            InputError: A volume that was not announced, or images that cannot be scored.
        """
        rows = self._slices.of_batch(target, [image], data_range, volume, slice_idx, object_mask)
        self.rows.append(rows.to(self.device).flatten())

    def compute(self) -> dict[str | int, VolumeScore]:
        """Score of each volume, in the order of `volumes` (of their numbers without it)."""
        return self._slices.volume_scores(dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0))
