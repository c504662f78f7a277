"""Scores per volume, gathered from slices that were scored wherever they were reconstructed."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, score_slice

_COLUMNS = 7  # volume, slice, ssim, squared error, target energy, pixels, data range


class VolumeMetrics(Metric):
    """SSIM, PSNR and NMSE of volumes whose slices come in any order, on any process, possibly twice.

    Slices are scored as they come and kept as rows of 7 numbers; `compute` drops duplicates (a distributed
    sampler pads with them) and sums in slice order in double precision. So the result does not depend on
    the number of processes, and a process without slices takes part like any other.

    Args:
        volumes: Names of all volumes, the same on every process; then `update` takes names and `compute`
            returns them. Without it volumes are whole numbers.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, volumes: Sequence[str] | None = None) -> None:
        super().__init__()
        # torchmetrics fills in for a process without data with this type; another one breaks the gather.
        self.set_dtype(torch.float64)
        self.names = None if volumes is None else list(volumes)
        self._ids = {name: i for i, name in enumerate(self.names or [])}
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
    ) -> None:
        """Score a batch.

        Args:
            target, image: `(batch, height, width)`.
            data_range: Of each slice's volume: the maximum of the target over all stored slices.
            volume: Name or number of each slice's volume.
            slice_idx: Index of each slice in its volume.

        Raises:
            InputError: A volume that was not announced, or images that cannot be scored.
        """
        ranges, indices = torch.as_tensor(data_range).tolist(), torch.as_tensor(slice_idx).tolist()
        rows = [
            (self._id(name), index, *score_slice(x, y, span), span)
            for x, y, span, name, index in zip(target, image, ranges, _listed(volume), indices, strict=True)
        ]
        self.rows.append(torch.tensor(rows, dtype=torch.float64, device=self.device).flatten())

    def compute(self) -> dict[str | int, VolumeScore]:
        """Score of each volume, in the order of `volumes` (of their numbers without it)."""
        scores: dict[str | int, VolumeScore] = {}
        for volume, slices in self._by_volume().items():
            data_range = max(row[6] for row in slices)
            parts = [SliceScore(row[2], row[3], row[4], int(row[5])) for row in slices]
            scores[volume if self.names is None else self.names[volume]] = combine_slices(parts, data_range)
        return scores

    def _by_volume(self) -> dict[int, list[list[float]]]:
        """Rows of each volume in slice order, every slice once."""
        gathered = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0)
        rows = gathered.double().cpu().reshape(-1, _COLUMNS).tolist()
        unique = {(int(row[0]), int(row[1])): row for row in rows}
        volumes: dict[int, list[list[float]]] = {}
        for volume, index in sorted(unique):
            volumes.setdefault(volume, []).append(unique[volume, index])
        return volumes

    def _id(self, volume: str | int) -> int:
        if isinstance(volume, str):
            if volume not in self._ids:
                raise unknown_name("volume", volume, self.names or [], "Give VolumeMetrics the volumes' names.")
            return self._ids[volume]
        if self.names is not None and not 0 <= volume < len(self.names):
            raise InputError(f"volume number {volume}, but {len(self.names)} volumes were announced")
        return int(volume)


def mean_score(scores: Iterable[VolumeScore], per_slice: bool = False) -> VolumeScore:
    """Mean over volumes, or with `per_slice` over slices; `n_slices` is the sum.

    Raises:
        InputError: No volume was scored.
    """
    scores = list(scores)
    if not scores:
        raise InputError("no volume was scored; nothing to average")
    weights = [s.n_slices if per_slice else 1 for s in scores]
    ssim, psnr, nmse = (
        sum(w * getattr(s, key) for w, s in zip(weights, scores, strict=True)) / sum(weights)
        for key in ("ssim", "psnr", "nmse")
    )
    return VolumeScore(ssim, psnr, nmse, sum(s.n_slices for s in scores))


def _listed(values: Sequence[str] | Sequence[int] | Tensor) -> list[str | int]:
    return values.tolist() if isinstance(values, Tensor) else list(values)
