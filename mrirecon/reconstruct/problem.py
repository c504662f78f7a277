"""The least-squares problem that SENSE, total variation and wavelets share, and how it is solved.

Every solver minimises `1/2 ||M F S x - y||^2` plus a penalty of its own, over complex images `x`. K-space is scaled
first so that the zero-filled image `A^H y` has the maximum 1: a weight then means the same for every scanner.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mrirecon.data.samples import Sample
from mrirecon.data.transforms import measured_mask
from mrirecon.errors import InputError, unknown_name
from mrirecon.physics import center_crop, center_fit
from mrirecon.physics.coils import mix_coils, noise_covariance, whitening_matrix
from mrirecon.reconstruct.maps import Maps

_ROWS, _COLUMNS = -2, -1
_STANDSTILL = 10  # iterations
WHITENED = ("none", "stored", "readout")  # by the file's covariance, or by the noise beside the image


@dataclass(frozen=True)
class Problem:
    """`1/2 ||A x - y||^2` of a batch of slices, known by `A^H A`, `A^H y` and `||y||^2` (Pruessmann et al. 2001).

    Where whole columns were sampled, each row of the image is a problem of its own once the readout is transformed:
    the transforms of an iteration run along the columns only, and rows that the image does not show are left out.

    Args:
        smaps: Coil sensitivity maps `(batch, coils, h, width)`, the origin of transformed axes at index 0.
        mask: What was sampled, `(batch, 1, 1 or height, width)`, likewise.
        axes: Which axes an iteration transforms: (-1,) or (-2, -1).
        adjoint: `A^H y`, `(batch, h, width)`, its largest magnitude 1.
        energy: `||y||^2` in the same units, double `(batch,)`.
        scale: What a slice was divided by, `(batch, 1, 1)`.
        shape: Height and width of the images that are wanted.
        intensity: What images are multiplied with at the end, `(batch, h, width)`; None: with 1.
    """

    smaps: Tensor
    mask: Tensor
    axes: tuple[int, ...]
    adjoint: Tensor
    energy: Tensor
    scale: Tensor
    shape: tuple[int, int]
    intensity: Tensor | None = None

    @classmethod
    def of_kspace(
        cls, kspace: Tensor, mask: Tensor, smaps: Tensor, shape: tuple[int, int], intensity: Tensor | None = None
    ) -> Self:
        """Make the problem of undersampled k-space `(batch, coils, height, width)`.

        Args:
            kspace: 0 where `mask` is false.
            mask: bool, columns `(batch, width)` or positions `(batch, height, width)`.
            smaps: `(batch, coils, h, width)`, where h is that of `shape` or of k-space.
            shape: Height and width of the images that are wanted.
            intensity: See `Problem`; as high and wide as `smaps`.
        """
        axes: tuple[int, ...] = (_COLUMNS,)
        if mask.ndim == 2:
            rows = min(shape[0], kspace.shape[_ROWS])
            kspace = _transformed(torch.fft.ifft, kspace, _ROWS)
            kspace = center_crop(kspace, (rows, kspace.shape[_COLUMNS]))
            smaps = center_crop(smaps, (rows, smaps.shape[_COLUMNS]))
            if intensity is not None:
                intensity = center_crop(intensity, (rows, intensity.shape[_COLUMNS]))
            where = mask[:, None, None]
        else:
            axes = (_ROWS, _COLUMNS)
            where = mask[:, None]
        smaps, where = (torch.fft.ifftshift(values, dim=axes) for values in (smaps, where))
        measured = torch.fft.ifftshift(kspace, dim=axes)
        images = torch.fft.ifftn(torch.where(where, measured, 0), dim=axes, norm="ortho")
        adjoint = torch.fft.fftshift((images * smaps.conj()).sum(1), dim=axes)
        scale = adjoint.abs().amax((-2, -1), keepdim=True)
        scale = torch.where(scale > 0, scale, 1)
        energy = (measured / scale[:, None]).abs().square().double().sum((1, 2, 3))
        return cls(smaps, where, axes, adjoint / scale, energy, scale, shape, intensity)

    @classmethod
    def of_sample(cls, sample: Sample, maps: Maps, whiten: str = "none") -> Self:
        """Make the problem of a collated sample, as `needs=("kspace", "mask", "noise")` gives it.

        Where coils are whitened (Pruessmann et al. 2001), so are their maps, of unit norm over the whitened coils;
        images are multiplied with the norm of what the maps were before, so that they stay in the units of the target
        (RSS of the coils).

        Args:
            sample: Collated.
            maps: Makes the maps.
            whiten: One of `WHITENED`.

        Raises:
            InputError: From `Maps`, or noise that is not known.
        """
        height, width = (int(torch.as_tensor(size).flatten()[0]) for size in sample.crop_shape)
        mask = measured_mask(sample.masked_kspace, sample.mask)
        if whiten == "none":
            return cls.of_kspace(sample.masked_kspace, mask, maps(sample), (height, width))
        mixing = torch.stack([_whitening(sample, k, height, whiten) for k in range(len(sample.masked_kspace))])
        # of the scale of the coils, or maps and threshold would depend on the units of the noise
        mixing = mixing / torch.linalg.matrix_norm(mixing, 2)[:, None, None]
        sample = sample._replace(masked_kspace=mix_coils(mixing, sample.masked_kspace))
        smaps = maps(sample)
        intensity = mix_coils(torch.linalg.inv(mixing), smaps).abs().square().sum(1).sqrt()
        return cls.of_kspace(sample.masked_kspace, mask, smaps, (height, width), intensity)

    def normal(self, image: Tensor) -> Tensor:
        """`A^H A x`, `(batch, h, width)` to the same, by FFTs in place of matrices (Pruessmann et al. 2001)."""
        coils = torch.fft.ifftshift(image, dim=self.axes).unsqueeze(1) * self.smaps
        kspace = torch.fft.fftn(coils, dim=self.axes, norm="ortho") * self.mask
        coils = torch.fft.ifftn(kspace, dim=self.axes, norm="ortho")
        return torch.fft.fftshift((coils * self.smaps.conj()).sum(1), dim=self.axes)

    def misfit(self, image: Tensor, normal: Tensor) -> Tensor:
        """`1/2 ||A x - y||^2` of each slice, double `(batch,)`, of an image and `A^H A` of it."""
        return (inner(image, normal) - 2 * inner(image, self.adjoint) + self.energy) / 2

    def finished(self, image: Tensor) -> Tensor:
        """Return the magnitude `(batch, height, width)` of an image in the units of the target."""
        magnitude = (image * self.scale).abs()
        return center_fit(magnitude if self.intensity is None else magnitude * self.intensity, self.shape)


def _whitening(sample: Sample, k: int, height: int, whiten: str) -> Tensor:
    """Whitening matrix of slice `k` of a batch, `(coils, coils)`."""
    try:
        return whitening_matrix(_noise(sample, k, height, whiten))
    except InputError as error:
        raise InputError(f"{sample.volume[k]}: {error}") from None


def _noise(sample: Sample, k: int, height: int, whiten: str) -> Tensor:
    """Covariance of the noise of slice `k` of a batch, `(coils, coils)`."""
    stored, kspace = sample.noise_covariance[k], sample.masked_kspace[k]
    if whiten == "stored":
        if not bool(stored.any()):
            raise InputError(
                "there is no data set 'noise_covariance' (coils, coils), or it is 0: write it, or use --method.whiten "
                "readout or none"
            )
        return stored.to(torch.complex128)
    if not bool(kspace.any()):  # a slice without signal has no noise either
        return torch.eye(len(kspace), dtype=torch.complex128, device=kspace.device)
    # Beyond the rows of the image an oversampled readout has no object. The half of them that is farther away is taken,
    # and the centre left out, whose leakage of the object is the strongest.
    beside = (kspace.shape[_ROWS] - height) // 4
    columns = (kspace != 0).any(0).any(0)
    # at most half of the columns are left out
    center = min(int(torch.as_tensor(sample.n_center)[k]), kspace.shape[_COLUMNS] // 4)
    first = kspace.shape[_COLUMNS] // 2 - center
    columns[first : first + 2 * center] = False
    rows = kspace[..., columns]
    if rows.numel():
        rows = _transformed(torch.fft.ifft, rows, _ROWS)
    noise = torch.cat([rows[:, :beside], rows[:, rows.shape[1] - beside :]], 1) if beside else rows[:, :0]
    try:
        return noise_covariance(noise.flatten(1))
    except InputError as error:
        raise InputError(
            f"the readout of {kspace.shape[_ROWS]} samples has too little beside the image "
            f"of {height} rows to tell the noise ({error}); use --method.whiten none, or stored where a file holds it"
        ) from None


def inner(first: Tensor, second: Tensor) -> Tensor:
    """Real part of the inner product of images `(batch, h, w)`, summed in double precision, `(batch,)`.

    For each image it equals `numpy.vdot(first, second).real`.
    """
    return (torch.view_as_real(first) * torch.view_as_real(second)).double().sum((1, 2, 3))


def ratio(numerator: Tensor, denominator: Tensor, image: Tensor) -> Tensor:
    """Return step lengths `(batch, 1, 1)`: numbers `(batch,)` divided; 0 where the denominator is not above 0."""
    positive = denominator > 0
    values = torch.where(positive, numerator / torch.where(positive, denominator, 1), 0)
    return values.to(image.real.dtype)[:, None, None]


@dataclass(frozen=True)
class Solution:
    """The result of a solver: images `(batch, h, w)`, objectives `(iterations, batch)`, and when each slice stopped."""

    image: Tensor
    objective: Tensor
    n_iterations: Tensor  # (batch,)


def minimised(steps: Iterable[tuple[Tensor, Tensor]], iterations: int, tolerance: float) -> Solution:
    """Run a solver, which gives image and objective of each iteration, until its objective stands still.

    A slice stops, whatever the others of its batch do, when its objective has changed by at most `tolerance` (as a
    share of it) over 10 iterations, or after `iterations`.
    """
    history: list[Tensor] = []
    for i, (image, objective) in enumerate(steps):
        if not history:
            kept, active = image, torch.ones_like(objective, dtype=torch.bool)
            count = torch.zeros_like(objective, dtype=torch.long)
        kept = torch.where(active[:, None, None], image, kept)
        count += active
        history.append(objective)
        if i >= _STANDSTILL:
            change = (history[i - _STANDSTILL] - objective).abs()
            active = active & (change > tolerance * objective.abs())
        if i + 1 >= iterations or not bool(active.any()):
            break
    return Solution(kept, torch.stack(history), count)


def require_whitened(whiten: str) -> str:
    """Return `whiten`; raise an InputError where it is not one of `WHITENED`."""
    if whiten not in WHITENED:
        raise unknown_name("whitening", whiten, WHITENED)
    return whiten


def _transformed(transform: Callable[..., Tensor], values: Tensor, axis: int) -> Tensor:
    return torch.fft.fftshift(transform(torch.fft.ifftshift(values, dim=axis), dim=axis, norm="ortho"), dim=axis)


class Penalised(ABC):
    """A method that minimises the misfit plus a penalty of weight `lambda`.

    Args:
        lambda_: Weight of the penalty, above 0 and finite.
        iterations: At most.
        tolerance: See `minimised`.
        maps, crop: See `Maps`.
        whiten: See `Problem.of_sample`.

    Raises:
        InputError: A number out of its range, or a weight that was not chosen yet.
    """

    def __init__(
        self, lambda_: float | None, iterations: int, tolerance: float, maps: str, crop: float, whiten: str = "none"
    ) -> None:
        if lambda_ is None:
            raise InputError(
                "lambda is not set: give --method.lambda VALUE, such as one that `mrirecon evaluate` chose"
            )
        for name, value, holds, allowed in (
            ("lambda", lambda_, 0 < lambda_ < math.inf, "above 0 and finite"),
            ("iterations", iterations, iterations >= 1, "at least 1"),
            ("tolerance", tolerance, 0 <= tolerance < math.inf, "at least 0 and finite"),
        ):
            if not holds:
                raise InputError(f"{name} is {value:g}; it must be {allowed}")
        self.weight, self.iterations, self.tolerance = lambda_, iterations, tolerance
        self.maps, self.whiten = Maps(maps, crop), require_whitened(whiten)

    def __call__(self, sample: Sample) -> Tensor:
        """Return the images `(batch, height, width)` in the units of the target."""
        problem = Problem.of_sample(sample, self.maps, self.whiten)
        return problem.finished(self.solve(problem).image)

    def solve(self, problem: Problem) -> Solution:
        """Return the minimiser and its way there."""
        return minimised(self.steps(problem), self.iterations, self.tolerance)

    @abstractmethod
    def steps(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """Give image `(batch, h, w)` and objective `(batch,)` of one iteration after the other."""
