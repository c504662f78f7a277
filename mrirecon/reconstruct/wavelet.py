"""Compressed sensing with wavelets: `min 1/2 ||A x - y||^2 + lambda ||W x||_1` (Lustig, Donoho and Pauly, MRM 2007)."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import unknown_name
from mrirecon.reconstruct.problem import Penalised, Problem

# Daubechies' filter of two vanishing moments (Daubechies 1988), in the order of pywt's dec_lo
_ROOT = math.sqrt(3)
_LOW = [c / (4 * math.sqrt(2)) for c in (1 - _ROOT, 3 - _ROOT, 3 + _ROOT, 1 + _ROOT)]
_HIGH = [-_LOW[3], _LOW[2], -_LOW[1], _LOW[0]]
_SMALLEST = 16  # pixels; smaller approximations are not taken apart further
BASES = ("db2", "db2-symmetric", "identity")


class Wavelet(Penalised):
    """The minimiser of the misfit plus the moduli of wavelet coefficients, by FISTA (Beck and Teboulle 2009).

    Args:
        basis: `db2`: orthogonal and periodic, of images padded to a multiple of the coarsest step and shifted at random
            in each iteration against block artefacts; its objective is that of the shift. `db2-symmetric`: extended by
            reflection, not orthogonal, as BART's `pics -R W:3:0:lambda -n`, which equals pywt's `symmetric`.
            `identity`: the image itself is sparse, as an angiogram is.
        further: Those of `Penalised`.

    Raises:
        InputError: Unknown basis, or from `Penalised`.
    """

    def __init__(self, basis: str, **further: Any) -> None:
        super().__init__(**further)
        if basis not in BASES:
            raise unknown_name("basis", basis, BASES)
        self.basis = basis

    def steps(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        transform = Transform(problem.adjoint.shape[-2:], self.basis == "db2")
        generator = torch.Generator().manual_seed(0)
        image = ahead = problem.adjoint
        normal = ahead_normal = problem.normal(image)
        momentum = 1.0
        while True:
            shift = [0, 0]
            if self.basis == "db2":
                shift = [int(n) for n in torch.randint(0, transform.step, (2,), generator=generator)]
            moved = (ahead - ahead_normal + problem.adjoint).roll(shift, (-2, -1))
            if self.basis == "identity":
                shrunk, size = soft_threshold(moved, self.weight)
            else:
                shrunk, size = transform.shrunk(moved, self.weight)
            before, image = image, shrunk.roll([-n for n in shift], (-2, -1))
            normal_before, normal = normal, problem.normal(image)
            last, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            further = (last - 1) / momentum
            ahead = image + further * (image - before)
            ahead_normal = normal + further * (normal - normal_before)
            yield image, problem.misfit(image, normal) + self.weight * size


def soft_threshold(values: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return complex values `(..., h, w)` with moduli reduced by `threshold`, at least to 0, and the sum of these.

    This is soft thresholding (Donoho 1995), pywt's `threshold`.
    """
    moduli = torch.view_as_real(values).square().sum(-1).sqrt()
    kept = (moduli - threshold).clamp(min=0)
    return values * (kept / moduli.clamp(min=1e-30)), kept.double().sum((-2, -1))


class Transform:
    """A 2-D wavelet transform of several levels of images `(..., h, w)`, halving while a side has 16 pixels or more.

    Args:
        shape: Height and width.
        is_periodic: Orthogonal, on images padded with zeros to a multiple of `step`; or else by reflection.
    """

    def __init__(self, shape: tuple[int, ...], is_periodic: bool) -> None:
        self.shape, self.is_periodic = (shape[-2], shape[-1]), is_periodic
        self.n_levels = max(1, math.floor(math.log2(min(self.shape) / _SMALLEST)) + 1)
        self.step = 2**self.n_levels
        self.padded = tuple(-(-n // self.step) * self.step for n in self.shape) if is_periodic else self.shape
        self.sizes = [self.padded]  # of the approximation at each level
        for _ in range(self.n_levels):
            self.sizes.append(tuple(n // 2 if is_periodic else (n + 3) // 2 for n in self.sizes[-1]))

    def coefficients(self, image: Tensor) -> list[Tensor]:
        """Return the coefficients of all levels: the details' blocks of each, its approximation within, the last whole.

        In levels as Mallat (1989), with the filters of Daubechies (1988) that have two vanishing moments.

        Each is `(..., 2 m, 2 n)`: approximation, details across, down and both; of all but the last level the
        approximation is 0 here, as it is taken apart further.
        """
        missing = [p - n for p, n in zip(self.padded, self.shape, strict=True)]
        image = torch.nn.functional.pad(image, (0, missing[1], 0, missing[0]))
        levels: list[Tensor] = []
        for size, (m, n) in zip(self.sizes, self.sizes[1:], strict=False):
            down, across = (_matrices(k, self.is_periodic)[0].to(image) for k in size)
            level = down @ image @ across.T
            image = level[..., :m, :n].clone()
            if len(levels) + 1 < self.n_levels:
                level[..., :m, :n] = 0
            levels.append(level)
        return levels

    def image(self, levels: list[Tensor]) -> Tensor:
        """Return the image `(..., h, w)` of the coefficients of all levels (Mallat 1989); undoes `coefficients`."""
        image = levels[-1]
        for i in range(self.n_levels - 1, -1, -1):
            m, n = self.sizes[i + 1]
            level = levels[i]
            if i + 1 < self.n_levels:
                level = level.clone()
                level[..., :m, :n] = image
            down, across = (_matrices(k, self.is_periodic)[1].to(level) for k in self.sizes[i])
            image = down @ level @ across.T
        return image[..., : self.shape[0], : self.shape[1]]

    def shrunk(self, image: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Return the image with its coefficients' moduli reduced by `threshold`, and their sum, double `(batch,)`.

        For an orthogonal basis it is the minimiser of `1/2 ||x - image||^2 + threshold ||W x||_1` (Donoho 1995).
        """
        levels: list[Tensor] = []
        total = torch.zeros(image.shape[:-2], dtype=torch.float64, device=image.device)
        for before in self.coefficients(image):
            level, size = soft_threshold(before, threshold)
            levels.append(level)
            total += size
        return self.image(levels), total


@cache
def _matrices(n: int, is_periodic: bool) -> tuple[Tensor, Tensor]:
    """One level of one axis as matrices: `(2 m, n)` from values to approximation and details, `(n, 2 m)` back.

    Their definition is pywt's: `y[k] = sum_j f[j] x[2 k + 1 - j]`, with x extended by reflection or periodically.
    """
    m = n // 2 if is_periodic else (n + 3) // 2
    analysis = torch.zeros(2 * m, n, dtype=torch.float64)
    synthesis = torch.zeros(n, 2 * m, dtype=torch.float64)
    for half, taps in enumerate((_LOW, _HIGH)):
        for k in range(m):
            row = half * m + k
            for j, tap in enumerate(taps):
                i = 2 * k + 1 - j
                if is_periodic:
                    analysis[row, i % n] += tap
                else:
                    i = -1 - i if i < 0 else i
                    analysis[row, 2 * n - 1 - i if i >= n else i] += tap
                    back = 2 * k - 2 + 3 - j  # the reconstruction filter is this one reversed
                    if 0 <= back < n:
                        synthesis[back, row] += tap
    return analysis, analysis.T.contiguous() if is_periodic else synthesis
