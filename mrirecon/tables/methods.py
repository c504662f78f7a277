"""Reconstructions without training: what each is called, what it can be set to, and what it has to be given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """One method.

    A field of `options` whose name is a word of Python goes by it with a line at the end: `lambda_` is the option
    `lambda`. What `build` gives maps a collated `Sample` to images `(batch, height, width)` in the units of the target.
    """

    help: str  # one line
    build: str | Callable[..., Any]  # path of what makes one, of its options by name
    options: type | None = None  # a dataclass: each field with its default and, below it, a text that says what it is
    needs: tuple[str, ...] = ("image",)  # what it is given of a slice; see mrirecon/data/samples.py
    smallest: int = 1  # height and width in pixels from which on it takes images


METHODS = {
    "zero-filled": Method(
        help="inverse FFT and root sum of squares of what was measured; the image that others start from",
        build="mrirecon.reconstruct.zero_filled:ZeroFilled",
    ),
}
