"""Watch reconstructions while they are scored: draw figures, write prediction files, score regions, time a process."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.check import check_slices
from mrirecon.data.samples import Sample, uncollated
from mrirecon.data.transforms import scored_target
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, did_you_mean
from mrirecon.evaluation import FASTMRI_V1, Protocol, combine_slices, score_slice
from mrirecon.evaluation.metrics import SlicePair, Target, too_small
from mrirecon.evaluation.regions import (
    ATTRIBUTE,
    METRICS_INSIDE,
    NAMES,
    OF_FILES,
    OF_MASKS,
    Box,
    RegionResult,
    Shape,
    mask_regions,
    parse_annotations,
    place,
    read_annotations,
    score_box,
)
from mrirecon.report.figures.slices import Panel, SliceFigure, draw_slice
from mrirecon.tables.metrics import sentence
from mrirecon.workflows.outputs.reconstructions import Facts, write_prediction
from mrirecon.workflows.scoring.loop import WholeVolumes

ALL = "all"
_PER_LINE = 2  # scores under a picture
_LONGEST_NAME = 60  # in a figure's file name, of at most 255 bytes; its number makes it unique


def named_volumes(words: Sequence[str], volumes: Sequence[Volume]) -> list[Volume]:
    """The volumes that a user's words name: paths in the data folder, bare file names, patterns (`*_AXT2_*`), or all.

    Raises:
        InputError: A word that names none.
    """
    chosen: set[str] = set()
    for word in words:
        found = {volume.name for volume in volumes if _is_named(volume.name, word)}
        if not found:
            known = {name for volume in volumes for name in (volume.name, Path(volume.name).name)}
            raise InputError(
                f"--figure-volumes {word}: no volume of that name is scored{did_you_mean(word, known) or '.'} "
                f"There are {len(volumes)}, the first is {volumes[0].name}; give names, patterns such as '*T2*', or all"
            )
        chosen |= found
    return [volume for volume in volumes if volume.name in chosen]


def figure_slices(
    volumes: Sequence[Volume], spans: Sequence[range], slices: Sequence[int], drawn: Sequence[Volume]
) -> list[tuple[str, int]]:
    """Choose the slices that are drawn: name of the volume, number.

    Args:
        volumes: All that are scored.
        spans: The slices of each that are scored.
        slices: Wanted slices, counted from 0; empty: the middle one of those scored.
        drawn: Wanted volumes, those that are not scored left out; empty: first, middle and last of the list.

    Raises:
        InputError: A wanted slice is not scored.
    """
    n = len(volumes)
    names = {volume.name for volume in drawn}
    chosen = [v for v in range(n) if volumes[v].name in names] if names else sorted({0, (n - 1) // 2, n - 1})
    wanted = []
    for v in chosen:
        scored = spans[v]
        for i in slices or [scored[len(scored) // 2]]:
            if i not in scored:
                raise InputError(f"no slice {i} to draw in {volumes[v].name}; scored are {scored[0]} to {scored[-1]}")
            wanted.append((volumes[v].name, i))
    return wanted


class Figures:
    """Draws slices as they come by, a PNG each, so that no more than a batch of them is in memory.

    Args:
        folder: Gets the files.
        wanted: See `figure_slices`; each process draws those that it reconstructs.
        name: The reconstructor's.
        mask: The mask's.
        protocol: How the numbers under the pictures are taken.
        metrics: Those numbers.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[tuple[str, int]],
        name: str,
        mask: str,
        protocol: Protocol,
        metrics: Sequence[str],
    ) -> None:
        self.folder, self.name, self.mask, self.protocol, self.metrics = folder, name, mask, protocol, metrics
        self._numbers = {key: f"{number:0{max(2, len(str(len(wanted) - 1)))}d}" for number, key in enumerate(wanted)}
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, sample: Sample, images: Tensor) -> None:
        """Draw the wanted slices of a batch of images `(batch, h, w)`."""
        indices = torch.as_tensor(sample.slice_idx).tolist()
        for k, key in enumerate(zip(sample.volume, indices, strict=True)):
            if key in self._numbers:
                self._draw(uncollated(sample, k), _array(images[k]))

    def _draw(self, sample: Sample, image: np.ndarray) -> None:
        volume, index = sample.volume, sample.slice_idx
        target = _array(scored_target(sample, self.protocol.clamps_target))
        images = {"zero-filled": _array(sample.image)} | ({} if self.name == "zero-filled" else {self.name: image})
        panels = [Panel(name, shown, self._numbers_under(shown, target, sample)) for name, shown in images.items()]
        notes = [
            f"{self.mask} mask {sample.mask_id}",
            f"{sample.acceleration:g}x (true {sample.acceleration_true:.2f}x)",
            "numbers: of this slice alone,",
            "data range of its volume",
            f"protocol {self.protocol.name}",
        ]
        stem = Path(volume).with_suffix("").as_posix().replace("/", "_")[:_LONGEST_NAME]
        path = self.folder / f"{self._numbers[volume, index]}-{stem}-slice{index:03d}.png"
        self._finish(path, SliceFigure(target, panels, f"{volume}, slice {index}", notes))

    def _finish(self, path: Path, figure: SliceFigure) -> None:
        draw_slice(path, figure)

    def _numbers_under(self, image: np.ndarray, target: np.ndarray, sample: Sample) -> str:
        """Word the scores of this slice alone, `(h, w)`, a few to a line."""
        score = score_slice(target, image, sample.data_range, self.metrics, sample.object_mask)
        words = [sentence({name: value}) for name, value in combine_slices([score], sample.data_range).scores.items()]
        return "\n".join("   ".join(words[i : i + _PER_LINE]) for i in range(0, len(words), _PER_LINE))


class FiguresOfSeveral(Figures):
    """Draws slices with what each of several reconstructors made of them, beside each other.

    It watches one evaluation after the other, all of the same slices on the same processes, and keeps their images of
    the wanted slices until `draw`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: dict[Path, SliceFigure] = {}

    def of(self, name: str) -> Self:
        """Return itself, to watch the reconstructor of that name."""
        self.name = name
        return self

    def draw(self) -> None:
        """Draw all that came by."""
        for path, figure in self._kept.items():
            draw_slice(path, figure)
        self._kept.clear()

    def _finish(self, path: Path, figure: SliceFigure) -> None:
        before = self._kept.get(path, figure)
        panels = {panel.name: panel for panel in (*before.panels, *figure.panels)}
        self._kept[path] = replace(before, panels=list(panels.values()))


class PredictionFiles(WholeVolumes):
    """Writes reconstructions in fastMRI's submission layout: one `.h5` per volume.

    Args:
        folder: Gets the files under the volumes' names.
        volumes: All that are reconstructed.
        items: (volume, slice) of every reconstructed slice, in order; others have no row in the file.
        facts: The attributes of a volume's file.
    """

    def __init__(
        self,
        folder: Path,
        volumes: Sequence[Volume],
        items: Sequence[tuple[int, int]],
        facts: Callable[[Volume], Facts],
    ) -> None:
        def write(volume: Volume, images: np.ndarray) -> None:
            """Write the images (slices, height, width) of a volume under its name."""
            write_prediction(folder / volume.name, images, facts(volume))

        super().__init__(volumes, items, write)


def _is_named(volume: str, word: str) -> bool:
    names = {volume, Path(volume).name, Path(volume).stem}
    return word == ALL or word in names or any(fnmatchcase(name, word) for name in names)


def _array(image: Tensor) -> np.ndarray:
    """Copy an image `(h, w)` to a float32 array."""
    return image.float().cpu().numpy().copy()


class ProcessLoad:
    """Counts the slices of this process and times it, from its making on; a watcher of `score_dataset`."""

    def __init__(self) -> None:
        self.n_slices, self._began = 0, time.perf_counter()
        self.seconds = 0.0

    def __call__(self, _sample: Sample, images: Tensor) -> None:
        """Count a batch of images `(batch, h, w)` that was reconstructed and scored."""
        self.n_slices += len(images)
        self.seconds = time.perf_counter() - self._began

    def of_all(self) -> list[dict[str, float]]:
        """Slices, seconds until the last of them, and largest resident memory in MiB, of each process."""
        own = torch.tensor([[self.n_slices, self.seconds, peak_mib()]], dtype=torch.float64)
        rows = ranks.gather_rows(own).tolist()
        return [{"slices": int(n), "seconds": seconds, "peak_mib": peak} for n, seconds, peak in rows]


def peak_mib() -> float:
    """Largest resident memory of this process so far.

    Linux counts it in KiB (https://man7.org/linux/man-pages/man2/getrusage.2.html), macOS in bytes.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def slice_times(seconds: Sequence[float], batch_size: int) -> dict[str, float] | None:
    """Median and 90th percentile of the seconds of slices, and of how many, over all processes.

    The first slice of each process warms it up and does not count. None where slices were not reconstructed one at a
    time, or there is no second one.

    Args:
        seconds: Of each unit of this process, in order.
        batch_size: Slices per unit.
    """
    own = torch.tensor(seconds[1:], dtype=torch.float64)[:, None]
    counted = ranks.gather_rows(own)[:, 0].numpy()
    if batch_size != 1 or not len(counted):
        return None
    return {"median": float(np.median(counted)), "p90": float(np.percentile(counted, 90)), "n_slices": len(counted)}


# ---- score the regions that readers drew while whole images are scored


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
            target = Target(_double(targets[k]), float(ranges[k]))
            own, zero_filled = (SlicePair(target, _double(image[k])) for image in (images, sample.image))
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


def _double(image: Tensor) -> np.ndarray:
    values: np.ndarray = image.cpu().numpy().astype(np.float64)
    return values
