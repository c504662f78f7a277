"""Absolute errors as colours: one scale for all methods of a picture, in words and as a colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from mrirecon.report.figures.montage import font

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
