"""Coil sensitivity maps by ESPIRiT: the eigenvectors of what calibration lines say about all coils together.

Uecker et al., ESPIRiT, MRM 2014. Equals BART's `ecalib -m1` up to the global phase of each image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.errors import InputError

KERNEL = 6  # k-space samples on a side of the patches
REGION = 24  # calibration samples on a side
_LEAST = 4  # calibration columns
_ROWS_AT_ONCE = 16_000_000  # complex values of pixel-wise coil matrices in memory
_SQUARINGS, _ITERATIONS = 2, 16  # of the power iteration: 2^2 * 16 = 64 steps


def espirit_smaps(
    kspace: Tensor,
    n_center: int,
    *,
    n_rows: int | None = None,
    shape: tuple[int, int] | None = None,
    threshold: float = 1e-3,
    crop: float = 0.8,
) -> Tensor:
    """Estimate coil sensitivity maps `(..., coils, h, w)` of unit norm over coils; 0 where the object is not.

    The calibration matrix has the 6 x 6 patches of a fully sampled region as rows; the right singular vectors of its
    row space, transformed to the image, give each pixel a matrix of coils whose eigenvector of the largest eigenvalue,
    which is about 1 inside the object, is the map (Uecker et al. 2014). The phase is that of the calibration's first
    principal coil.

    Args:
        kspace: Complex `(..., coils, height, width)` with `n_center` or more fully sampled central columns.
        n_center: How many.
        n_rows: Fully sampled central rows of these; None: all.
        shape: Height and width of the images that the maps are for, centred on those of `kspace`; None: the same.
        threshold: Singular vectors count whose eigenvalue of `A^H A` is above this share of the largest.
        crop: Eigenvalue up to which a pixel is outside of the object.

    Raises:
        InputError: One coil, too few calibration lines, or k-space that is zero or not finite.
    """
    height, width = kspace.shape[-2:]
    region = _calibration(kspace.flatten(0, -4) if kspace.ndim > 3 else kspace[None], n_center, n_rows)
    out_h, out_w = shape or (height, width)
    maps = torch.stack([_maps_of(one, (height, width), (out_h, out_w), threshold, crop) for one in region])
    return maps.reshape(*kspace.shape[:-2], out_h, out_w)


def _calibration(kspace: Tensor, n_center: int, n_rows: int | None) -> Tensor:
    """Cut the window `(batch, coils, rows, columns)` of the central columns that holds the most energy."""
    n_coils, height, width = kspace.shape[-3:]
    if n_coils == 1:
        raise InputError("ESPIRiT needs several coils, and this k-space has one, whose map is 1 everywhere: use none")
    n_center, n_rows = min(n_center, width), height if n_rows is None else min(n_rows, height)
    if n_center < _LEAST or n_rows < KERNEL:
        raise InputError(
            f"ESPIRiT needs at least {_LEAST} fully sampled central columns of {KERNEL} samples, and there are "
            f"{n_center} of {n_rows}; use --method.maps low-resolution, or a larger center fraction"
        )
    first_row, first = height // 2 - n_rows // 2, width // 2 - n_center // 2
    lines = kspace[..., first_row : first_row + n_rows, first : first + n_center]
    rows, columns = min(REGION, n_rows), min(REGION, n_center)
    energy = lines.abs().square().sum(-3)
    energy = energy / energy.amax((-2, -1), keepdim=True)  # of any scale; zero becomes NaN
    if not bool(torch.isfinite(energy).all()):
        raise InputError("the calibration lines of the k-space are all zero or not finite: there is nothing to map")
    held = F.avg_pool2d(energy[:, None], (rows, columns), stride=1)[:, 0]  # energy of each window
    best = held.flatten(1).argmax(1)
    top, left = best // held.shape[-1], best % held.shape[-1]
    cut = []
    for one, i, j in zip(lines, top.tolist(), left.tolist(), strict=True):
        cut.append(one[:, i : i + rows, j : j + columns])
    return torch.stack(cut)


def _maps_of(region: Tensor, size: tuple[int, int], shape: tuple[int, int], threshold: float, crop: float) -> Tensor:
    n_coils = region.shape[0]
    region = region / region.abs().amax()
    lags = _kernel_lags(region, threshold)
    start = _low_resolution(region, size, shape)
    maps = torch.empty_like(start)
    n_rows = max(1, _ROWS_AT_ONCE // (n_coils**2 * shape[1]))
    for top in range(0, shape[0], n_rows):
        rows = slice(top, min(top + n_rows, shape[0]))
        # for each pixel of some rows the matrix of coils `(rows, width, coils, coils)`
        down = _waves(size[0], _positions(shape[0], lags.device)[rows], lags.shape[-2]).to(lags.dtype)
        across = _waves(size[1], _positions(shape[1], lags.device), lags.shape[-1]).to(lags.dtype)
        matrices = torch.einsum("hi,cdij,wj->hwcd", down, lags, across)
        vectors, values = _leading(matrices, start[:, rows])
        maps[:, rows] = torch.where(values > crop, vectors, 0)
    samples = region.flatten(1)
    principal = torch.linalg.eigh(samples @ samples.mH)[1][:, -1]
    turn = torch.einsum("c,chw->hw", principal.conj(), maps)
    phase = torch.where(turn.abs() > 0, turn.conj() / turn.abs(), 1)
    return maps * phase


def _kernel_lags(region: Tensor, threshold: float) -> Tensor:
    """Sum of the row space's kernels, each correlated with itself: `(coils, coils, 11, 11)` in lags of k-space.

    Its transform is, for each pixel of the image, the matrix of coils that ESPIRiT takes apart.
    """
    n_coils = region.shape[0]
    # of few columns, patches as wide as half of them: wider ones would be too few to span what all coils have in common
    rows, columns = KERNEL, min(KERNEL, region.shape[-1] // 2)
    patches = region.unfold(1, rows, 1).unfold(2, columns, 1)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, n_coils * rows * columns)
    values, vectors = torch.linalg.eigh(matrix.mH @ matrix)
    kernels = vectors[:, values > threshold * values[-1]].T.reshape(-1, n_coils, rows, columns)
    padded = torch.fft.fft2(F.pad(kernels, (0, columns - 1, 0, rows - 1)))
    spectrum = torch.einsum("kcij,kdij->cdij", padded, padded.conj())
    return torch.fft.fftshift(torch.fft.ifft2(spectrum), dim=(-2, -1)) / (rows * columns)


def _waves(n: int, positions: Tensor, lags: int) -> Tensor:
    """Fourier waves `(positions, lags)` of lags around 0 at image positions counted from the centre."""
    offsets = torch.arange(lags, device=positions.device) - lags // 2
    return torch.exp(-2j * torch.pi * positions[:, None] * offsets / n)


def _positions(n: int, device: torch.device) -> Tensor:
    return torch.arange(n, dtype=torch.float64, device=device) - n // 2


def _low_resolution(region: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Images `(coils, h, w)` of the calibration region: where the power iteration starts."""
    windows = [torch.hann_window(n + 2, periodic=False, device=region.device)[1:-1] for n in region.shape[-2:]]
    region = region * windows[0][:, None] * windows[1]
    down = _waves(size[0], _positions(shape[0], region.device), region.shape[-2]).conj().to(region.dtype)
    across = _waves(size[1], _positions(shape[1], region.device), region.shape[-1]).conj().to(region.dtype)
    return torch.einsum("hi,cij,wj->chw", down, region, across)


def _leading(matrices: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors `(coils, h, w)`, conjugated, and their eigenvalues `(h, w)`, by power iteration."""
    # divided by their traces, so that neither powers nor vectors vanish where there is nothing but noise
    traces = matrices.diagonal(dim1=-2, dim2=-1).real.sum(-1)[..., None, None]
    powers = matrices / traces.clamp(min=1e-30)
    for _ in range(_SQUARINGS):
        powers = powers @ powers
    vectors = start / start.abs().amax(0).clamp(min=1e-30)
    vectors = vectors.permute(1, 2, 0)[..., None].conj().contiguous()
    for i in range(_ITERATIONS):
        if i % 2 == 0:  # each product is at least the 4th power of 1 / coils as long
            vectors = vectors / _lengths(vectors)
        vectors = powers @ vectors
    vectors = vectors / _lengths(vectors)
    values = (matrices @ vectors).norm(dim=-2).squeeze(-1)
    return vectors.squeeze(-1).permute(2, 0, 1).conj(), values


def _lengths(vectors: Tensor) -> Tensor:
    """Return the lengths `(..., 1, 1)` of vectors `(..., coils, 1)`; of zero a number that leaves it zero."""
    squares = torch.view_as_real(vectors).square().sum((-3, -1), keepdim=True).squeeze(-1)
    return squares.sqrt().clamp(min=1e-18)
