"""Reconstructions without training: what each is called, what it can be set to, and what it has to be given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    chosen: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # options that None leaves to be chosen, and
    # the values tried: `evaluate` takes the best on another split than it reports, `reconstruct` asks for a value


@dataclass(frozen=True)
class CombinedOptions:
    """Options of `combined`."""

    maps: str = "espirit"
    """Coil sensitivity maps: espirit (Uecker et al. 2014) or low-resolution; one coil has none."""
    crop: float = 0.0
    """ESPIRiT's eigenvalue up to which a pixel is outside of the object and becomes 0 (BART: 0.8); 0: none is."""
    whiten: str = "none"
    """Make the noise of the coils white first: stored (by the file's data set noise_covariance), readout (by the noise
    beside the image in an oversampled readout) or none."""


@dataclass(frozen=True)
class SenseOptions(CombinedOptions):
    """Options of `sense`."""

    lambda_: float | None = None
    """Tikhonov weight; none given: evaluate chooses it on another split, reconstruct asks for it."""
    iterations: int = 50
    """At most."""
    tolerance: float = 1e-4
    """A slice stops when its objective changed by at most this share over 10 iterations."""


@dataclass(frozen=True)
class TotalVariationOptions(CombinedOptions):
    """Options of `tv`."""

    lambda_: float | None = None
    """Weight, where the zero-filled image has the maximum 1; none given: as for sense."""
    solver: str = "admm"
    """admm or pdhg (primal-dual); both have the same minimum."""
    isotropic: bool = True
    """Penalise the length of the gradient; off: both differences apart."""
    iterations: int = 500
    """At most."""
    tolerance: float = 1e-3
    """A slice stops when its objective changed by at most this share over 10 iterations."""


@dataclass(frozen=True)
class WaveletOptions(CombinedOptions):
    """Options of `wavelet`."""

    lambda_: float | None = None
    """Weight, where the zero-filled image has the maximum 1; none given: as for sense."""
    basis: str = "db2"
    """db2 (orthogonal, periodic, shifted at random in each iteration), db2-symmetric (as BART's -R W:3:0 -n), or
    identity (the image itself is sparse, as an angiogram)."""
    iterations: int = 200
    """At most."""
    tolerance: float = 1e-3
    """A slice stops when its objective changed by at most this share over 10 iterations."""


_KSPACE = ("kspace", "mask", "noise")
_WEIGHTS = (3e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
METHODS = {
    "zero-filled": Method(
        help="inverse FFT and root sum of squares of what was measured; the image that others start from",
        build="mrirecon.reconstruct.zero_filled:ZeroFilled",
    ),
    "combined": Method(
        help="the zero-filled coil images combined with sensitivity maps",
        build="mrirecon.reconstruct.sense:Combined",
        options=CombinedOptions,
        needs=_KSPACE,
    ),
    "sense": Method(
        help="SENSE by conjugate gradients, with a Tikhonov weight (Pruessmann et al. 2001)",
        build="mrirecon.reconstruct.sense:ConjugateGradientSense",
        options=SenseOptions,
        needs=_KSPACE,
        chosen={"lambda": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)},
    ),
    "tv": Method(
        help="compressed sensing with total variation (Lustig et al. 2007)",
        build="mrirecon.reconstruct.tv:TotalVariation",
        options=TotalVariationOptions,
        needs=_KSPACE,
        chosen={"lambda": _WEIGHTS},
    ),
    "wavelet": Method(
        help="compressed sensing with l1 of wavelet coefficients (Lustig et al. 2007)",
        build="mrirecon.reconstruct.wavelet:Wavelet",
        options=WaveletOptions,
        needs=_KSPACE,
        smallest=16,
        chosen={"lambda": _WEIGHTS},
    ),
}
