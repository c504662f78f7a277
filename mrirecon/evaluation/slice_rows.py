"""Scores per volume, from slices that were scored wherever they were reconstructed."""

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import InputError, unknown_name
from mrirecon.evaluation.metrics import VolumeScore, columns_of, score_images, similarity_maps, volume_score
from mrirecon.tables.metrics import chosen_metrics

_ABOUT = 3  # volume, slice, data range: they stand before the columns of the metrics


class SliceRows:
    """Slices of volumes as rows of numbers, which travel between processes, and volumes from such rows.

    Args:
        volumes: Names of all volumes, the same on every process; then `of_batch` takes names and `volume_scores`
            returns them. Without it volumes are whole numbers.
        metrics: Names of `METRICS`; None: the default ones.
    """

    def __init__(self, volumes: Sequence[str] | None = None, metrics: Sequence[str] | None = None) -> None:
        self.names = None if volumes is None else list(volumes)
        self._ids = {name: i for i, name in enumerate(self.names or [])}
        self.metrics = chosen_metrics(metrics)
        self.columns = columns_of(self.metrics)

    @property
    def width(self) -> int:
        """Numbers of a row: volume, slice, data range, and the columns of the metrics."""
        return _ABOUT + len(self.columns)

    def of_batch(
        self,
        target: Tensor,
        images: Sequence[Tensor],
        data_range: Tensor | Sequence[float],
        volume: Sequence[str] | Sequence[int] | Tensor,
        slice_idx: Tensor | Sequence[int],
        object_mask: Tensor | None = None,
    ) -> Tensor:
        """Score reconstructions of a batch of slices; arguments and errors as for `VolumeMetrics.update`.

        Where the images are on an accelerator the maps of SSIM are computed there, of all slices together.

        Args:
            target: `(batch, height, width)`.
            images: One or more reconstructions of the batch, each of the target's shape.
            data_range, volume, slice_idx, object_mask: One for each slice.

        Returns:
            A row for each slice, float64 `(batch, n * width)`: those of the n images side by side, on the CPU.
        """
        ranges, indices = torch.as_tensor(data_range).tolist(), torch.as_tensor(slice_idx).tolist()
        names: list[str | int] = volume.tolist() if isinstance(volume, Tensor) else list(volume)
        masks = [None] * len(names) if object_mask is None else object_mask
        rows: list[list[float]] = []
        maps: list[_DeviceMaps | None] = [None] * len(images)
        if _are_on_accelerator([target, *images]):
            maps = [_DeviceMaps(target, image, ranges) for image in images]
            target, *images = (batch.cpu() for batch in (target, *images))
        for k, (x, span, name, index, mask, *ys) in enumerate(
            zip(target, ranges, names, indices, masks, *images, strict=True)
        ):
            row: list[float] = []
            find_maps = [None if of_image is None else partial(of_image.of_slice, k) for of_image in maps]
            for score in score_images(x, ys, span, self.metrics, mask, find_maps):
                row += [self._id(name), index, span, *(score.columns[column] for column in self.columns)]
            rows.append(row)
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, len(images) * self.width)

    def volume_scores(self, rows: Tensor) -> dict[str | int, VolumeScore]:
        """Score each volume from rows `(..., width)` of all processes, in any order, possibly twice.

        Every slice counts once, and is summed in the order of the slices; volumes come in the order of their names
        (of their numbers without them), those without a row not at all.
        """
        unique = {(int(row[0]), int(row[1])): row for row in rows.double().cpu().reshape(-1, self.width).tolist()}
        by_volume: dict[int, list[list[float]]] = {}
        for volume, index in sorted(unique):
            by_volume.setdefault(volume, []).append(unique[volume, index])
        scores: dict[str | int, VolumeScore] = {}
        for volume, slices in by_volume.items():
            sums = {name: sum(row[k] for row in slices) for k, name in enumerate(self.columns, _ABOUT)}
            data_range = max(row[2] for row in slices)
            name = volume if self.names is None else self.names[volume]
            scores[name] = volume_score(self.metrics, sums, len(slices), data_range)
        return scores

    def _id(self, volume: str | int) -> int:
        if isinstance(volume, str):
            if volume not in self._ids:
                raise unknown_name("volume", volume, self.names or [], "Give VolumeMetrics the volumes' names.")
            return self._ids[volume]
        if self.names is not None and not 0 <= volume < len(self.names):
            raise InputError(f"volume number {volume}, but {len(self.names)} volumes were announced")
        return int(volume)


class _DeviceMaps:
    """SSIM maps of a batch, computed on its device when the first is asked for; see `similarity_maps`."""

    def __init__(self, target: Tensor, image: Tensor, data_range: Sequence[float]) -> None:
        self.target, self.image, self.data_range = target, image, data_range

    @cached_property
    def maps(self) -> Any:
        data_range = torch.tensor(self.data_range, dtype=torch.float64)
        return similarity_maps(self.target.detach(), self.image.detach(), data_range).cpu().numpy()

    def of_slice(self, k: int) -> Any:
        """The map of slice `k` as an array `(height - 6, width - 6)`."""
        return self.maps[k]


def _are_on_accelerator(batches: Sequence[Any]) -> bool:
    """All of them are on one CUDA device; Apple's have no double precision."""
    return all(isinstance(batch, Tensor) and batch.is_cuda and batch.device == batches[0].device for batch in batches)


def mean_score(scores: Iterable[VolumeScore], per_slice: bool = False) -> VolumeScore:
    """Mean over volumes, or with `per_slice` over slices; NaN where a volume has none; `n_slices` is the sum.

    fastMRI's evaluation averages over volumes, AlgoPerf (Dahl et al. 2023) over slices.

    Raises:
        InputError: No volume was scored.
    """
    scores = list(scores)
    if not scores:
        raise InputError("no volume was scored; nothing to average")
    weights = [s.n_slices if per_slice else 1 for s in scores]
    means = {
        name: sum(w * s.scores[name] for w, s in zip(weights, scores, strict=True)) / sum(weights)
        for name in scores[0].scores
    }
    return VolumeScore(means, sum(s.n_slices for s in scores))
