"""A slice: its reference, its reconstructions and their errors in one picture. Arrays in, a PNG file out."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mrirecon.files import replacing
from mrirecon.report.figures.error_map import BAR_SIZE, COLOURS, ErrorScale, error_scale
from mrirecon.report.figures.montage import font, one_line

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
    notes = _notes(figure, scale)
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


def _notes(figure: SliceFigure, scale: ErrorScale) -> list[str]:
    words = [
        *figure.notes,
        f"grey: 0 to the {_WHITE_PERCENTILE:g}th percentile of the target slice",
        f"|error|, one scale for all methods: {scale}",
    ]
    return [line for text in words for line in textwrap.wrap(one_line(text), _CHARACTERS, break_on_hyphens=False)]


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
