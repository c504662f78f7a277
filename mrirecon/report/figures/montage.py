"""All slices of a volume in one grey picture. Arrays in, a PNG file out."""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mrirecon.files import replacing

_WHITE_PERCENTILE = 99.5  # bright fat shall not darken the rest; a volume has more air than its middle slice
_WIDTH, _HEIGHT = 1600, 1200  # screen pixels that a montage fills at best; it may have twice as many of each
_LARGEST_TILE = 640
_GAP, _LABEL, _HEAD = 6, 16, 44  # screen pixels
_FONT_SIZE, _LABEL_SIZE = 14, 12


def draw_montage(path: Path, images: np.ndarray, title: str = "", facts: Mapping[str, object] | None = None) -> None:
    """Draw slices `(slices, height, width)` in rows, each under its number, on one grey scale.

    The scale runs from 0 to the 99.5th percentile of the volume, which the picture says. Images are drawn as stored,
    row 0 on top: a pixel is a square of whole screen pixels, or, where the volume would be too large, a screen pixel
    is the mean over a square of pixels.

    Args:
        path: The PNG file.
        images: Real, finite.
        title: First line of the picture.
        facts: Text chunks of the file.
    """
    white = float(np.percentile(images, _WHITE_PERCENTILE)) or float(images.max())
    tiles = _Tiles(images.shape)
    grey = np.round(255 * np.clip(tiles.resized(images) / (white if white > 0 else 1.0), 0, 1)).astype(np.uint8)
    scale = f"grey scale: 0 to {white:.3g}, the {_WHITE_PERCENTILE:g}th percentile of the volume"
    picture = _with_heading(tiles, [one_line(title), scale])
    draw = ImageDraw.Draw(picture)
    for i, tile in enumerate(grey):
        left, top = tiles.corner(i)
        picture.paste(Image.fromarray(tile), (left, top))
        draw.text((left, top - _LABEL), str(i), fill=0, font=font(_LABEL_SIZE))
    text = PngInfo()
    for key, value in (facts or {}).items():
        text.add_text(key, str(value))
    with replacing(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=text, optimize=True)


class _Tiles:
    """Places of the slices, by the pixel: as many columns as let the slices be largest."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n, height, width = shape
        scales = {columns: self._scale(columns, height, width) for columns in range(1, self.n + 1)}
        self.columns = max(scales, key=lambda columns: scales[columns])
        scale = scales[self.columns]
        self.zoom = max(1, min(math.floor(scale), _LARGEST_TILE // max(height, width)))
        self.shrink = max(1, math.ceil(0.5 / scale))
        self.h, self.w = (-(-size * self.zoom // self.shrink) for size in (height, width))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of all slices with the gaps, screen pixels."""
        rows = -(-self.n // self.columns)
        return self.columns * (self.w + _GAP) + _GAP, rows * (self.h + _LABEL + _GAP)

    def corner(self, i: int) -> tuple[int, int]:
        """Return left and top of slice `i` below the heading, screen pixels."""
        row, column = divmod(i, self.columns)
        return _GAP + column * (self.w + _GAP), _HEAD + _LABEL + row * (self.h + _LABEL + _GAP)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """Return the slices `(slices, height, width)` in screen pixels, enlarged or averaged."""
        if self.shrink == 1:
            return images.repeat(self.zoom, axis=1).repeat(self.zoom, axis=2)
        missing = (self.h * self.shrink - images.shape[1], self.w * self.shrink - images.shape[2])
        padded = np.pad(images, ((0, 0), (0, missing[0]), (0, missing[1])), "edge")
        return padded.reshape(self.n, self.h, self.shrink, self.w, self.shrink).mean(axis=(2, 4))

    def _scale(self, columns: int, height: int, width: int) -> float:
        rows = -(-self.n // columns)
        free = (_WIDTH - columns * _GAP, _HEIGHT - rows * (_LABEL + _GAP))
        return max(min(free[0] / (columns * width), free[1] / (rows * height)), 1 / max(height, width))


def _with_heading(tiles: _Tiles, lines: list[str]) -> Image.Image:
    """Return a white picture with lines of text above the place of the tiles, wide enough for both."""
    letters = font(_FONT_SIZE)
    width = max(tiles.size[0], *(math.ceil(letters.getlength(line)) + 2 * _GAP for line in lines))
    picture = Image.new("L", (width, _HEAD + tiles.size[1]), 255)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((_GAP, 4 + number * 19), line, fill=0, font=letters)
    return picture


def one_line(text: str) -> str:
    """Replace what Pillow cannot write by spaces: names may have any character."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of the pictures, letters `size` pixels high."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)  # pillow 10.0 takes no Path
