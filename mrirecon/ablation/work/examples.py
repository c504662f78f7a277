"""Some slices of the test set, as each cell reconstructs them: for the eye of the reader."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.files import replacing

_N_SLICES = 3


class Examples:
    """Keeps the middle slices of the first volumes while a data set is scored.

    Args:
        dataset: A `SliceDataset`.
    """

    def __init__(self, dataset: Any) -> None:
        self._wanted = {}
        for number, volume in enumerate(dataset.volumes[:_N_SLICES]):
            slices = [i for n, i in dataset.items if n == number]
            self._wanted[volume.name, slices[len(slices) // 2]] = f"{volume.name}, slice {slices[len(slices) // 2]}"
        self._found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __call__(self, sample: Any, images: Any) -> None:
        """See a batch and its reconstructions."""
        for k, key in enumerate(zip(sample.volume, sample.slice_idx.tolist(), strict=True)):
            if key in self._wanted:
                kept = (sample.target[k], sample.image[k], images[k])
                self._found[self._wanted[key]] = tuple(x.float().cpu().numpy() for x in kept)

    def save(self, path: Path) -> None:
        """Write the slices of the largest common shape: names, target, zero-filled and image `(n, height, width)`."""
        shapes = [found[0].shape for found in self._found.values()]
        same = {name: found for name, found in self._found.items() if found[0].shape == shapes[0]}
        names = list(same)
        target, zero_filled, image = (np.stack([same[name][i] for name in names]) for i in range(3))
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, names=np.array(names), target=target, zero_filled=zero_filled, image=image)


def join_examples(files: Mapping[str, Path]) -> dict[str, Any] | None:
    """The slices that all cells have, as the page wants them; None where there are none.

    Args:
        files: The file of each cell, where it exists.
    """
    loaded = {cell: _load(path) for cell, path in files.items() if path.is_file()}
    loaded = {cell: content for cell, content in loaded.items() if content}
    if not loaded:
        return None
    first = next(iter(loaded.values()))
    return {
        "slices": [str(name) for name in first["names"]],
        "target": first["target"],
        "zero_filled": first["zero_filled"],
        "cells": {cell: content["image"] for cell, content in loaded.items()},
    }


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in ("names", "target", "zero_filled", "image")}
    except (OSError, ValueError, KeyError):
        return {}
