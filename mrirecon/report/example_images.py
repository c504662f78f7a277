"""Example slices of all cells as small grey pictures for a page, on one scale, with their errors."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

_WHITE_PERCENTILE = 99.5  # bright fat shall not darken the rest
_GAINS = (1, 2, 5, 10, 20, 50)
_SMALL = 256  # pixels; narrower images are shown enlarged, so their pixels as squares
_MOST_PIXELS = 384  # a larger side is drawn at half, a third, ... of its size


def example_images(examples: Mapping[str, Any]) -> dict[str, Any]:
    """What the viewer of a page shows, ready for JSON.

    Grey values run from 0 to the 99.5th percentile of a slice's target, the same for all images of the slice; errors
    are drawn on that scale too, times one gain for all, so that the errors of most cells can be seen.

    Args:
        examples: `slices` (labels), `target` and `zero_filled` (n, h, w), `cells`: name -> (n, h, w).

    Returns:
        `slices`, `gain`, `small` (fewer pixels than the page shows), `target`: n pictures, `images`: list of `name`,
        `pictures`, `errors`, `relative` (error of each slice, Euclidean, as a share of the target's norm), zero-filled
        first. Pictures are data URIs.
    """
    target = np.asarray(examples["target"], dtype=np.float32)
    named = {"zero-filled": examples["zero_filled"], **examples["cells"]}
    images = {name: np.asarray(values, dtype=np.float32) for name, values in named.items()}
    white = np.percentile(target, _WHITE_PERCENTILE, axis=(1, 2))
    white = np.where(white > 0, white, np.maximum(target.max(axis=(1, 2)), np.finfo(np.float32).tiny))
    errors = {name: np.abs(values - target) for name, values in images.items()}
    gain = _gain(list(errors.values()), white)
    return {
        "slices": [str(name) for name in examples["slices"]],
        "gain": gain,
        "small": target.shape[2] < _SMALL,
        "target": _pictures(target, white),
        "images": [
            {
                "name": name,
                "pictures": _pictures(images[name], white),
                "errors": _pictures(gain * errors[name], white),
                "relative": _relative(errors[name], target),
            }
            for name in images
        ],
    }


def _gain(errors: list[np.ndarray], white: np.ndarray) -> int:
    """The largest that keeps the errors of half of the images on the scale."""
    largest = [np.median(np.percentile(error, 99, axis=(1, 2)) / white) for error in errors]
    typical = float(np.median(largest))
    return max((gain for gain in _GAINS if gain * typical <= 1), default=1)


def _relative(error: np.ndarray, target: np.ndarray) -> list[float | None]:
    norms = np.linalg.norm(target, axis=(1, 2))
    return [float(np.linalg.norm(e) / n) if n > 0 else None for e, n in zip(error, norms, strict=True)]


def _pictures(images: np.ndarray, white: np.ndarray) -> list[str]:
    grey = np.clip(np.nan_to_num(images) / white[:, None, None], 0, 1)
    return [_picture(np.round(255 * image).astype(np.uint8)) for image in grey]


def _picture(grey: np.ndarray) -> str:
    picture = Image.fromarray(grey)
    if (shrink := -(-max(grey.shape) // _MOST_PIXELS)) > 1:
        picture = picture.reduce(shrink)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """A file inside a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
