"""What looks at reconstructions while they are scored: the slices of the figures, the prediction files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrirecon.data.transforms import ImageSample, scored_target
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, Protocol, nmse, psnr, ssim
from mrirecon.report.slice_figure import Panel, SliceFigure, draw_slice
from mrirecon.workflows.prediction_file import write_prediction
from mrirecon.workflows.whole_volumes import WholeVolumes

N_FIGURE_VOLUMES = 3
_LONGEST_NAME = 60  # in a figure's file name, of at most 255 bytes; its number makes it unique


class FigureSlices:
    """Keeps the chosen slices of three volumes: first, middle and last of the list.

    Args:
        volumes: All that are scored.
        items: (volume, slice) of every scored slice.
        slices: Wanted slices, counted from 0; empty: the middle one of those scored.
        protocol: How the numbers under the pictures are taken.

    Raises:
        InputError: A wanted slice is not scored.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        items: Sequence[tuple[int, int]],
        slices: Sequence[int],
        protocol: Protocol = FASTMRI_V1,
    ) -> None:
        self.protocol = protocol
        self.kept: dict[tuple[str, int], tuple[ImageSample, np.ndarray]] = {}
        self.wanted: list[tuple[str, int]] = []
        for v in sorted({0, (len(volumes) - 1) // 2, len(volumes) - 1}):
            scored = [i for volume, i in items if volume == v]
            for i in slices or [scored[len(scored) // 2]]:
                if i not in scored:
                    raise InputError(
                        f"no slice {i} to draw in {volumes[v].name}; scored are {scored[0]} to {scored[-1]}"
                    )
                self.wanted.append((volumes[v].name, i))

    def __call__(self, sample: ImageSample, images: Tensor) -> None:
        """Keep what is wanted of a batch."""
        indices = torch.as_tensor(sample.slice_idx).tolist()
        for k, key in enumerate(zip(sample.volume, indices, strict=True)):
            if key in self.wanted:
                self.kept[key] = (_uncollated(sample, k), _array(images[k]))

    def draw(self, folder: Path, name: str, mask: str) -> None:
        """Write a PNG for each slice that came by here; `name` is the reconstructor's."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (volume, index) in enumerate(self.wanted):
            if (volume, index) not in self.kept:  # another process draws it
                continue
            sample, image = self.kept[volume, index]
            target = _array(scored_target(sample, self.protocol.clamps_target))
            panels = [_panel("zero-filled", _array(sample.image), target, sample.data_range)]
            if name != "zero-filled":
                panels.append(_panel(name, image, target, sample.data_range))
            notes = [*_notes(sample, mask), f"protocol {self.protocol.name}"]
            figure = SliceFigure(target, panels, f"{volume}, slice {index}", notes)
            stem = Path(volume).with_suffix("").as_posix().replace("/", "_")[:_LONGEST_NAME]
            draw_slice(folder / f"{number:02d}-{stem}-slice{index:03d}.png", figure)


class PredictionFiles(WholeVolumes):
    """Writes reconstructions in fastMRI's submission layout: one `.h5` per volume.

    Args:
        folder: Gets the files under the volumes' names.
        volumes: All that are reconstructed.
        items: (volume, slice) of every reconstructed slice, in order; others have no row in the file.
    """

    def __init__(self, folder: Path, volumes: Sequence[Volume], items: Sequence[tuple[int, int]]) -> None:
        super().__init__(volumes, items, lambda volume, images: write_prediction(folder / volume.name, images))


def _panel(name: str, image: np.ndarray, target: np.ndarray, data_range: float) -> Panel:
    scores = (metric(target, image, data_range) for metric in (ssim, psnr, nmse))
    return Panel(name, image, "SSIM {:.3f}   PSNR {:.1f} dB   NMSE {:.4f}".format(*scores))


def _notes(sample: ImageSample, mask: str) -> list[str]:
    return [
        f"{mask} mask {sample.mask_id}",
        f"{sample.acceleration:g}x (true {sample.acceleration_true:.2f}x)",
        "numbers: of this slice alone,",
        "data range of its volume",
    ]


def _uncollated(batch: ImageSample, k: int) -> ImageSample:
    """Sample `k` of a batch, on the CPU."""
    values = (field[k] for field in batch)  # type: ignore[index]
    return ImageSample._make(_plain(v) for v in values)


def _plain(value: Any) -> Any:
    """Numbers as numbers, images as tensors of their own."""
    if not isinstance(value, Tensor):
        return value
    return value.cpu().clone() if value.ndim else value.item()


def _array(image: Tensor) -> np.ndarray:
    return image.float().cpu().numpy().copy()
