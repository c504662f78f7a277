"""Example slices of all cells as small pictures for a page, on one grey scale, with their errors on one of colours."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from mrirecon.report.figures.error_map import COLOURS, ErrorScale, error_scale
from mrirecon.report.pages.html import data_uri

_WHITE_PERCENTILE = 99.5  # bright fat shall not darken the rest
_SMALL = 256  # pixels; narrower images are shown enlarged, so their pixels as squares
_MOST_PIXELS = 384  # a larger side is drawn at half, a third, ... of its size


def example_images(examples: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pictures that the viewer of a page shows, ready for JSON.

    Grey values run from 0 to the 99.5th percentile of a slice's target, the same for all images of the slice. Errors of
    a slice are on one scale of colours for all cells too, that of its zero-filled image (see `error_scale`): a cell
    whose training failed does not darken the others.

    Args:
        examples: `slices` (labels), `target` and `zero_filled` `(n, h, w)`, `cells`: name -> `(n, h, w)`.

    Returns:
        `slices`, `scales` and `bars` (of the errors of each slice: words, a colour bar), `small` (fewer pixels than the
        page shows), `target`: n pictures, `images`: list of `name`, `pictures`, `errors`, `relative` (error of each
        slice, Euclidean, as a share of the target's norm), zero-filled first. Pictures are data URIs.
    """
    target = np.asarray(examples["target"], dtype=np.float32)
    named = {"zero-filled": examples["zero_filled"], **examples["cells"]}
    images = {name: np.asarray(values, dtype=np.float32) for name, values in named.items()}
    white = np.percentile(target, _WHITE_PERCENTILE, axis=(1, 2))
    white = np.where(white > 0, white, np.maximum(target.max(axis=(1, 2)), np.finfo(np.float32).tiny))
    errors = {name: np.abs(values - target) for name, values in images.items()}
    scales = [_scale({name: error[i] for name, error in errors.items()}, target[i]) for i in range(len(target))]
    return {
        "slices": [str(name) for name in examples["slices"]],
        "scales": [str(scale) for scale in scales],
        "bars": [_png(scale.bar()) for scale in scales],
        "small": target.shape[2] < _SMALL,
        "target": _pictures(target, white),
        "images": [
            {
                "name": name,
                "pictures": _pictures(images[name], white),
                "errors": [_picture(scale.levels(e), COLOURS) for scale, e in zip(scales, errors[name], strict=True)],
                "relative": _relative(errors[name], target),
            }
            for name in images
        ],
    }


def _scale(errors: Mapping[str, np.ndarray], target: np.ndarray) -> ErrorScale:
    """Return the error scale of one slice: that of its zero-filled image, or of all cells where this has no error.

    The zero-filled image has no error under a mask that keeps everything.
    """
    zero_filled = next(iter(errors))
    return error_scale([(zero_filled, errors[zero_filled])] if errors[zero_filled].any() else [*errors.items()], target)


def _relative(error: np.ndarray, target: np.ndarray) -> list[float | None]:
    norms = np.linalg.norm(target, axis=(1, 2))
    return [float(np.linalg.norm(e) / n) if n > 0 else None for e, n in zip(error, norms, strict=True)]


def _pictures(images: np.ndarray, white: np.ndarray) -> list[str]:
    grey = np.clip(np.nan_to_num(images) / white[:, None, None], 0, 1)
    return [_picture(np.round(255 * image).astype(np.uint8)) for image in grey]


def _picture(levels: np.ndarray, colours: np.ndarray | None = None) -> str:
    """Return a picture of levels from 0 to 255 `(height, width)`: grey, or places in a table of colours `(256, 3)`."""
    picture = Image.fromarray(levels)
    if (shrink := -(-max(levels.shape) // _MOST_PIXELS)) > 1:
        picture = picture.reduce(shrink)
    if colours is not None:
        picture.putpalette(colours.tobytes())
    return _png(picture)


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())
