"""Score the regions that readers drew while whole images are scored."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.check import check_slices
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import scored_target
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, Protocol
from mrirecon.evaluation.metrics import SlicePair, Target, too_small
from mrirecon.evaluation.regions.annotations import (
    ATTRIBUTE,
    NAMES,
    OF_FILES,
    OF_MASKS,
    Box,
    Shape,
    mask_regions,
    parse_annotations,
    place,
    read_annotations,
)
from mrirecon.evaluation.regions.scores import METRICS_INSIDE, RegionResult, score_box


def find_boxes(source: str, volumes: Sequence[Volume], slices: Sequence[int] | None = None) -> tuple[list[Box], str]:
    """The boxes, or those that bound masks, in scored slices and arrays as stored; and what became of the others.

    Args:
        source: A table as fastMRI+ has them; `attribute`: the attribute `annotations` of each file; or `masks`: its
            data set `regions`.
        volumes: All that are scored.
        slices: First and last slice that is scored of each; None: all.

    Raises:
        InputError: Annotations that cannot be read, none at all, or images that are too small.
    """
    spans = check_slices(volumes, slices)
    shapes = {v.name: Shape(*v.image_shape, span) for v, span in zip(volumes, spans, strict=True)}
    for volume in volumes:
        if reason := too_small(volume.image_shape, METRICS_INSIDE):
            raise InputError(f"{volume.name}: {reason}; leave out --regions")
    if source == OF_MASKS:
        return _masks(volumes, spans)
    if source != OF_FILES:
        return place([read_annotations(source)], shapes)
    annotated = [volume for volume in volumes if ATTRIBUTE in volume.attrs]
    if not annotated:
        raise InputError(
            f"--regions {OF_FILES}, but none of the {len(volumes)} files has an attribute '{ATTRIBUTE}'; "
            "write it (a JSON list of boxes), or give a table of annotations"
        )
    boxes, said = place([parse_annotations(v.attrs[ATTRIBUTE], v.name) for v in annotated], shapes)
    n_others = len(volumes) - len(annotated)
    return boxes, said + (f"; {n_others} of {len(volumes)} files have no such attribute" if n_others else "")


def _masks(volumes: Sequence[Volume], spans: Sequence[range]) -> tuple[list[Box], str]:
    found, n_files = list[Box](), 0
    for volume, span in zip(volumes, spans, strict=True):
        masks = volume.region_masks()
        if masks is not None:
            found += mask_regions(masks, volume.name, span, volume.attrs.get(NAMES))
            n_files += 1
    if not found:
        raise InputError(
            f"--regions {OF_MASKS}, but none of the {len(volumes)} files has a data set 'regions' with a region in the "
            "slices that are scored; write it (whole numbers (slices, h, w), 0 for none), or give a table"
        )
    n = len({box.file for box in found})
    said = f"{len(found)} region{'s' * (len(found) != 1)} of slices in {n} file{'s' * (n != 1)}"
    n_others = len(volumes) - n_files
    return found, said + (f"; {n_others} of {len(volumes)} files have no data set 'regions'" if n_others else "")


class RegionScores:
    """Scores boxes in the images of one mask draw as they come by; a watcher of `score_dataset`.

    Args:
        boxes: Of any volumes; those that `dataset` has not are left out.
        dataset: What is scored.
        protocol: How scores are taken.
    """

    def __init__(self, boxes: Sequence[Box], dataset: SliceDataset, protocol: Protocol = FASTMRI_V1) -> None:
        self.protocol, self.draw = protocol, dataset.draw
        self._volumes = {volume.name: volume for volume in dataset.volumes}
        self._masks: tuple[str, np.ndarray | None] = ("", None)  # of the volume that was last seen
        self._boxes = [box for box in boxes if box.file in self._volumes]
        self._of_slice: dict[tuple[str, int], list[int]] = {}
        for number, box in enumerate(self._boxes):
            self._of_slice.setdefault((box.file, box.slice_idx), []).append(number)
        self._rows: list[list[float]] = []

    def __call__(self, sample: Sample, images: Tensor) -> None:
        """Score the boxes in a batch of images `(batch, h, w)`."""
        targets, ranges = scored_target(sample, self.protocol.clamps_target), torch.as_tensor(sample.data_range)
        for k, key in enumerate(zip(sample.volume, torch.as_tensor(sample.slice_idx).tolist(), strict=True)):
            numbers = self._of_slice.get(key, [])
            if not numbers:
                continue
            target = Target(_array(targets[k]), float(ranges[k]))
            own, zero_filled = (SlicePair(target, _array(image[k])) for image in (images, sample.image))
            for number in numbers:
                box = self._boxes[number]
                inside = self._inside(box)
                (scores, n_windows), (reference, _) = (score_box(p, box, inside) for p in (own, zero_filled))
                self._rows.append([number, n_windows, *scores.values(), *reference.values()])

    def _inside(self, box: Box) -> np.ndarray | None:
        """The pixels of a box that count, bool `(h, w)`; None: all."""
        if not box.of_mask:
            return None
        if self._masks[0] != box.file:
            self._masks = (box.file, self._volumes[box.file].region_masks())
        masks = self._masks[1]
        if masks is None:
            raise InputError(f"{box.file}: its data set 'regions' is gone; put it back")
        inside: np.ndarray = masks[box.slice_idx] == box.annotation
        return inside

    def results(self) -> list[RegionResult]:
        """The results of all processes, in the order of the boxes; every process must call it."""
        n = len(METRICS_INSIDE)
        rows = torch.tensor(self._rows, dtype=torch.float64).reshape(-1, 2 + 2 * n)
        found = []
        for number, n_windows, *scores in sorted(ranks.gather_rows(rows).tolist()):
            box = self._boxes[int(number)]
            own, reference = (dict(zip(METRICS_INSIDE, part, strict=True)) for part in (scores[:n], scores[n:]))
            found.append(RegionResult(box, self._volumes[box.file].patient, self.draw, int(n_windows), own, reference))
        return found


def _array(image: Tensor) -> np.ndarray:
    values: np.ndarray = image.cpu().numpy().astype(np.float64)
    return values
