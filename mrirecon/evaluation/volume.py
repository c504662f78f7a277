"""Scores per volume, from slices that were scored wherever they were reconstructed. No torchmetrics."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, score_slice

COLUMNS = 7  # volume, slice, ssim, squared error, target energy, pixels, data range


class SliceRows:
    """Slices of volumes as rows of 7 numbers, which travel between processes, and volumes from such rows.

    Args:
        volumes: Names of all volumes, the same on every process; then `of_batch` takes names and `volume_scores`
            returns them. Without it volumes are whole numbers.
    """

    def __init__(self, volumes: Sequence[str] | None = None) -> None:
        self.names = None if volumes is None else list(volumes)
        self._ids = {name: i for i, name in enumerate(self.names or [])}

    def of_batch(
        self,
        target: Tensor,
        image: Tensor,
        data_range: Tensor | Sequence[float],
        volume: Sequence[str] | Sequence[int] | Tensor,
        slice_idx: Tensor | Sequence[int],
    ) -> Tensor:
        """Score a batch; arguments and errors as for `VolumeMetrics.update`.

        Returns:
            A row for each slice, float64 `(batch, 7)`, on the CPU.
        """
        ranges, indices = torch.as_tensor(data_range).tolist(), torch.as_tensor(slice_idx).tolist()
        names: list[str | int] = volume.tolist() if isinstance(volume, Tensor) else list(volume)
        rows = [
            (self._id(name), index, *score_slice(x, y, span), span)
            for x, y, span, name, index in zip(target, image, ranges, names, indices, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, COLUMNS)

    def volume_scores(self, rows: Tensor) -> dict[str | int, VolumeScore]:
        """Score of each volume from the rows of all processes, in any order and shape, possibly twice.

        Every slice counts once, and is summed in the order of the slices; volumes come in the order of their names
        (of their numbers without them), those without a row not at all.
        """
        unique = {(int(row[0]), int(row[1])): row for row in rows.double().cpu().reshape(-1, COLUMNS).tolist()}
        by_volume: dict[int, list[list[float]]] = {}
        for volume, index in sorted(unique):
            by_volume.setdefault(volume, []).append(unique[volume, index])
        scores: dict[str | int, VolumeScore] = {}
        for volume, slices in by_volume.items():
            data_range = max(row[6] for row in slices)
            parts = [SliceScore(row[2], row[3], row[4], int(row[5])) for row in slices]
            scores[volume if self.names is None else self.names[volume]] = combine_slices(parts, data_range)
        return scores

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
