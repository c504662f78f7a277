"""A slice: its reference, its reconstructions and their errors in one picture. Arrays in, a PNG file out.

Absolute errors as colours: one scale for all methods of a picture, in words and as a colour bar.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mrirecon.files import replacing

PERCENTILE = 99.0  # a few pixels at sharp edges shall not darken the rest
COLOURS = np.round(255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)  # black is no error
_MOST_TICKS = 6
BAR_SIZE = (270, 32)  # screen pixels of a colour bar with its numbers
_BAR = (18, 230, 12)  # of the colours alone: left, width, height


@dataclass(frozen=True)
class ErrorScale:
    """The range of errors that the colours show, from black, no error, to the brightest, `top` and above."""

    top: float  # in the units of the target; above 0
    whole: float  # the target's maximum, which is 100 %; 0 where the target has no positive value
    reason: str  # why it ends there

    def __str__(self) -> str:
        of_what = " of the target's maximum" if self.whole else " in the target's units"
        return f"0 to {self._end:.3g}{self._percent}{of_what}, {self.reason}"

    @property
    def _end(self) -> float:
        return 100 * (self.top / self.whole) if self.whole else self.top

    @property
    def _percent(self) -> str:
        return " %" if self.whole else ""

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values from 0 to the top: place on the scale, 0 to 1, and number, in % of the whole if any."""
        rough = self._end / (_MOST_TICKS - 1)
        decade = 10.0 ** np.floor(np.log10(rough))
        step = next(m * decade for m in (1, 2, 5, 10, 20) if m * decade >= rough)
        values = [n * step for n in range(int(self._end / step * (1 + 1e-9)) + 1)]
        return [(value / self._end, f"{value:.6g}{self._percent}") for value in values]

    def levels(self, errors: np.ndarray) -> np.ndarray:
        """Return the place of errors `(height, width)` in the 256 `COLOURS`, bytes; not finite: the brightest.

        The colours are matplotlib's `inferno`, perceptually uniform (https://bids.github.io/colormap/).
        """
        shares = np.nan_to_num(np.asarray(errors, dtype=np.float64) / self.top, nan=1.0)
        return np.round(255 * shares.clip(0, 1)).astype(np.uint8)

    def bar(self) -> Image.Image:
        """Draw the colours with their numbers below them, a picture of `BAR_SIZE`."""
        picture = Image.new("RGB", BAR_SIZE, (255, 255, 255))
        left, width, height = _BAR
        row = COLOURS[np.linspace(0, 255, width).round().astype(int)]
        picture.paste(Image.fromarray(row[None].repeat(height, axis=0)), (left, 0))
        draw = ImageDraw.Draw(picture)
        for place, number in self.ticks():
            x = left + round(place * (width - 1))
            draw.line([(x, height), (x, height + 4)], fill=0)
            draw.text((x, height + 5), number, fill=0, font=font(11), anchor="ma")
        return picture


def error_scale(errors: Sequence[tuple[str, np.ndarray]], target: np.ndarray) -> ErrorScale:
    """Return one scale for the absolute errors of all methods of a picture, so that they can be compared by eye.

    It ends at the 99th percentile of the method where that is largest; where all are zero there, at the largest error.

    Args:
        errors: Name of each method, and its errors `(height, width)`; those that are not finite do not count.
        target: The reference image `(height, width)`.
    """
    whole = max(float(np.max(target)), 0.0)
    finite = [(name, np.asarray(error, np.float64)[np.isfinite(error)]) for name, error in errors]
    for percentile, words in ((PERCENTILE, f"the {PERCENTILE:g}th percentile"), (100.0, "the largest error")):
        top, worst = max(
            (float(np.percentile(error, percentile)) if error.size else 0.0, name) for name, error in finite
        )
        if top > 0:
            return ErrorScale(top, whole, f"{words} of {worst}")
    return ErrorScale(whole or 1.0, whole, "no error anywhere")


_WHITE_PERCENTILE = 99.0  # bright fat under the scalp shall not darken the brain
_NARROWEST, _COLUMN, _TALLEST = 250, 270, 1280  # screen pixels: an image, a column, an enlarged image
_GAP, _TITLE, _NAME, _CAPTION, _LINE = 8, 26, 22, 24, 17  # screen pixels
_TEXT, _SMALL = 13, 11  # sizes of letters
_CHARACTERS = 38  # that fit into the narrowest column


@dataclass(frozen=True)
class Panel:
    """One reconstruction of a slice with the line of numbers under it."""

    name: str
    image: np.ndarray  # (height, width)
    caption: str = ""  # lines


@dataclass(frozen=True)
class SliceFigure:
    """A slice, its reference and its reconstructions, first the zero-filled one."""

    target: np.ndarray  # (height, width)
    panels: Sequence[Panel]
    title: str = ""
    notes: Sequence[str] = field(default_factory=list)


def draw_slice(path: Path, figure: SliceFigure) -> None:
    """Draw target and reconstructions on one grey scale, and below them the absolute errors on one scale of colours.

    Grey runs from 0 to the 99th percentile of the target slice; for the colours see `error_scale`. The figure says both
    and has a colour bar. Images are drawn as stored, row 0 on top, every pixel as a square of whole screen pixels.
    """
    target = np.asarray(figure.target, dtype=np.float64)
    images = [np.asarray(panel.image, dtype=np.float64) for panel in figure.panels]
    errors = [np.abs(image - target) for image in images]
    scale = error_scale([(panel.name, error) for panel, error in zip(figure.panels, errors, strict=True)], target)
    white = next((float(w) for w in (np.percentile(target, _WHITE_PERCENTILE), target.max()) if w > 0), 1.0)
    words = [
        *figure.notes,
        f"grey: 0 to the {_WHITE_PERCENTILE:g}th percentile of the target slice",
        f"|error|, one scale for all methods: {scale}",
    ]
    notes = [line for text in words for line in textwrap.wrap(one_line(text), _CHARACTERS, break_on_hyphens=False)]
    n_lines = max(panel.caption.count("\n") + 1 for panel in figure.panels)
    sheet = _Sheet(target.shape, len(images) + 1, _LINE * len(notes) + BAR_SIZE[1], n_lines)
    sheet.text((sheet.size[0] / 2, 5), figure.title, _TEXT, sheet.size[0] - 2 * _GAP)
    sheet.show(0, 0, _grey(target, white), "target", "")
    for column, (panel, image, error) in enumerate(zip(figure.panels, images, errors, strict=True), 1):
        sheet.show(0, column, _grey(image, white), panel.name, panel.caption)
        sheet.show(1, column, COLOURS[scale.levels(error)], "", "|error|")
    sheet.explain(notes, scale)
    with replacing(path) as temporary:
        sheet.picture.save(temporary, "PNG")


def _grey(image: np.ndarray, white: float) -> np.ndarray:
    """Return an image `(height, width)` as RGB bytes `(height, width, 3)`; what is below 0 is black."""
    grey = np.round(255 * np.clip(image / white, 0, 1)).astype(np.uint8)
    return grey[..., None].repeat(3, axis=-1)


class _Sheet:
    """Two rows of panels, placed by the pixel, with room for words and a colour bar in the lower left."""

    def __init__(self, shape: tuple[int, ...], columns: int, words_h: int, caption_lines: int) -> None:
        height, width = shape
        self.zoom = max(1, min(math.ceil(_NARROWEST / width), _TALLEST // height))
        self.panel_h, self.panel_w = self.zoom * height, self.zoom * width
        self.cell_w = max(self.panel_w, _COLUMN)
        captions = _CAPTION + _LINE * (caption_lines - 1)
        self.tops = (_TITLE + _NAME, _TITLE + _NAME + self.panel_h + captions)
        self.size = (columns * (self.cell_w + _GAP) + _GAP, self.tops[1] + max(self.panel_h, words_h) + _CAPTION)
        self.picture = Image.new("RGB", self.size, (255, 255, 255))
        self._draw = ImageDraw.Draw(self.picture)

    def show(self, row: int, column: int, pixels: np.ndarray, name: str, caption: str) -> None:
        """Place RGB bytes `(height, width, 3)` in the middle of a cell, a name above and lines of words below."""
        zoomed = pixels.repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)
        left, top = _GAP + column * (self.cell_w + _GAP), self.tops[row]
        self.picture.paste(Image.fromarray(zoomed), (left + (self.cell_w - self.panel_w) // 2, top))
        middle = left + self.cell_w / 2
        self.text((middle, top - _NAME + 3), name, _TEXT, self.cell_w)
        for i, line in enumerate(caption.split("\n")):
            self.text((middle, top + self.panel_h + 4 + i * _LINE), line, _SMALL, self.cell_w)

    def explain(self, notes: Sequence[str], scale: ErrorScale) -> None:
        """Write the notes, and draw the colours with their numbers below them."""
        top = self.tops[1]
        for line in notes:
            self._draw.text((_GAP, top), line, fill=0, font=font(_SMALL))
            top += _LINE
        self.picture.paste(scale.bar(), (0, top + 2))

    def text(self, middle_top: tuple[float, float], text: str, size: int, room: float) -> None:
        """Write a line that is centred, and cut in its middle where it has no room."""
        letters, text = font(size), one_line(text)
        width = letters.getlength(text)
        if width > room:
            kept = int(len(text) * room / width) // 2 - 1
            text = f"{text[:kept]}…{text[-kept:]}"
            width = letters.getlength(text)
        self._draw.text((middle_top[0] - width / 2, middle_top[1]), text, fill=0, font=letters)


# ---- all slices of a volume in one grey picture. Arrays in, a PNG file out.


_WHITE_OF_VOLUME = 99.5  # bright fat shall not darken the rest; a volume has more air than its middle slice
_WIDTH, _HEIGHT = 1600, 1200  # screen pixels that a montage fills at best; it may have twice as many of each
_LARGEST_TILE = 640
_TILE_GAP, _LABEL, _HEAD = 6, 16, 44  # screen pixels
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
    white = float(np.percentile(images, _WHITE_OF_VOLUME)) or float(images.max())
    tiles = _Tiles(images.shape)
    grey = np.round(255 * np.clip(tiles.resized(images) / (white if white > 0 else 1.0), 0, 1)).astype(np.uint8)
    scale = f"grey scale: 0 to {white:.3g}, the {_WHITE_OF_VOLUME:g}th percentile of the volume"
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
        return self.columns * (self.w + _TILE_GAP) + _TILE_GAP, rows * (self.h + _LABEL + _TILE_GAP)

    def corner(self, i: int) -> tuple[int, int]:
        """Return left and top of slice `i` below the heading, screen pixels."""
        row, column = divmod(i, self.columns)
        return _TILE_GAP + column * (self.w + _TILE_GAP), _HEAD + _LABEL + row * (self.h + _LABEL + _TILE_GAP)

    def resized(self, images: np.ndarray) -> np.ndarray:
        """Return the slices `(slices, height, width)` in screen pixels, enlarged or averaged."""
        if self.shrink == 1:
            return images.repeat(self.zoom, axis=1).repeat(self.zoom, axis=2)
        missing = (self.h * self.shrink - images.shape[1], self.w * self.shrink - images.shape[2])
        padded = np.pad(images, ((0, 0), (0, missing[0]), (0, missing[1])), "edge")
        return padded.reshape(self.n, self.h, self.shrink, self.w, self.shrink).mean(axis=(2, 4))

    def _scale(self, columns: int, height: int, width: int) -> float:
        rows = -(-self.n // columns)
        free = (_WIDTH - columns * _TILE_GAP, _HEIGHT - rows * (_LABEL + _TILE_GAP))
        return max(min(free[0] / (columns * width), free[1] / (rows * height)), 1 / max(height, width))


def _with_heading(tiles: _Tiles, lines: list[str]) -> Image.Image:
    """Return a white picture with lines of text above the place of the tiles, wide enough for both."""
    letters = font(_FONT_SIZE)
    width = max(tiles.size[0], *(math.ceil(letters.getlength(line)) + 2 * _TILE_GAP for line in lines))
    picture = Image.new("L", (width, _HEAD + tiles.size[1]), 255)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((_TILE_GAP, 4 + number * 19), line, fill=0, font=letters)
    return picture


def one_line(text: str) -> str:
    """Replace what Pillow cannot write by spaces: names may have any character."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of the pictures, letters `size` pixels high."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)  # pillow 10.0 takes no Path
