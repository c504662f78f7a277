"""Augmentation of training slices: what is drawn is done to the fully sampled complex coil images, before the mask.

The idea of MRAugment (Fabian et al. 2021): the k-space that is then undersampled is that of another object in another
array of coils, and the reference is made of the same images. All coils are changed alike.

Every change leaves the grid as it is, so masks and batches know nothing of it. What comes from outside the field of
view is 0, but a shift wraps around, as an object that leaves the field of view does. Pixels are taken for square.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mrirecon.data.transforms import magnitude_image
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.physics import fft2c, ifft2c, rss
from mrirecon.tables.augmentations import AUGMENTATIONS
from mrirecon.tables.entry import builder

Change = Callable[[Tensor], Tensor]

_SAME = 1e-3  # relative difference up to which a reference is the RSS image of its k-space; fastMRI's have 1e-6


def flip(share: float, rng: np.random.Generator) -> Change | None:
    """Mirror each axis with a probability of `share`."""
    axes = [axis for axis, u in zip((-2, -1), rng.random(2), strict=True) if u < share]
    return (lambda images: images.flip(axes)) if axes else None


def rotate90(share: float, rng: np.random.Generator) -> Change | None:
    """Turn by 90, 180 or 270 degrees with a probability of `share`."""
    u, turns = rng.random(), int(rng.integers(1, 4))
    return (lambda images: quarter_turns(images, turns)) if u < share else None


def quarter_turns(images: Tensor, n: int) -> Tensor:
    """Turn images `(..., height, width)` by `n` times 90 degrees about their centre, on their grid: numpy's `rot90`.

    Where they are not square, an odd `n` turns the central square and leaves 0 beside it. Height and width do not
    change places, as they do in MRAugment: the samples of a batch have one shape, and masks are drawn for the width.
    Where such a square does not lie on whole pixels (one of height and width is even, one odd), an odd `n` is 2.
    """
    height, width = images.shape[-2:]
    if n % 2 == 0 or (height - width) % 2:
        return images.rot90(2, (-2, -1)) if n % 4 else images
    side = min(height, width)
    rows, columns = ((height - side) // 2, (height + side) // 2), ((width - side) // 2, (width + side) // 2)
    square = images[..., rows[0] : rows[1], columns[0] : columns[1]].rot90(n, (-2, -1))
    if height == width:
        return square
    turned = torch.zeros_like(images)
    turned[..., rows[0] : rows[1], columns[0] : columns[1]] = square
    return turned


def shift(pixels: float, rng: np.random.Generator) -> Change | None:
    """Displace along each axis by a whole number of pixels, up to `pixels` either way, all as likely, with `roll`."""
    by = [int(n) for n in rng.integers(-int(pixels), int(pixels) + 1, 2)]
    return (lambda images: images.roll(by, (-2, -1))) if any(by) else None


def scale(share: float, rng: np.random.Generator) -> np.ndarray:
    """Scale by `(1 + share)^u`, u uniform from -1 to 1; values stay, an object that grows is not made darker."""
    return np.eye(2) / (1 + share) ** rng.uniform(-1, 1)


def rotate(degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Turn by an angle that is uniform up to `degrees` either way; 90 turns as numpy's `rot90` does."""
    angle = math.radians(rng.uniform(-degrees, degrees))
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def contrast(share: float, rng: np.random.Generator) -> Change:
    """Raise the magnitude to the power `g = (1 + share)^u`, u uniform from -1 to 1; phases stay.

    With the root sum of squares `r` over coils and its maximum `R` in the slice, each coil image is multiplied by
    `(r / R)^(g - 1)`: then the root sum of squares is `R (r / R)^g`, and sensitivities stay as they are.
    """
    exponent = (1 + share) ** rng.uniform(-1, 1) - 1

    def change(images: Tensor) -> Tensor:
        magnitude = rss(images).unsqueeze(-3)
        largest = magnitude.amax(dim=(-2, -1), keepdim=True)
        return images * torch.where(magnitude > 0, (magnitude / largest) ** exponent, 0)

    return change


class Drawn(NamedTuple):
    """A change of one slice, as it was drawn: of its grid, of its values, and moves of whole pixels."""

    matrix: np.ndarray | None  # displacement from the centre -> displacement of the point that is fetched
    changes: tuple[Change, ...]
    moves: tuple[Change, ...]

    @property
    def is_nothing(self) -> bool:
        """The slice stays as it is."""
        return self.matrix is None and not self.changes and not self.moves

    @property
    def only_moves(self) -> bool:
        """Pixels go elsewhere with their values."""
        return self.matrix is None and not self.changes

    def coil_images(self, kspace: Tensor) -> Tensor:
        """The changed images of k-space, both complex `(coils, height, width)`."""
        images = ifft2c(kspace) if self.matrix is None else resampled(kspace, self.matrix)
        for change in self.changes:
            images = change(images)
        return self.moved(images)

    def moved(self, images: Tensor) -> Tensor:
        """Images `(..., height, width)` with their pixels moved, and nothing else done to them."""
        for move in self.moves:
            images = move(images)
        return images


def draw(amounts: Mapping[str, float], seed: int) -> Drawn:
    """Draw what is done to a slice.

    Each augmentation has its own generator, so that one more or less leaves the others as they are.

    Args:
        amounts: Of the augmentations that are on, by name.
        seed: Of the slice in this epoch.
    """
    found: dict[str, list[Any]] = {"resamples": [], "changes": [], "moves": []}
    for name, entry in AUGMENTATIONS.items():
        if name in amounts:
            done = builder(entry.build)(amounts[name], np.random.default_rng([seed, crc32(name.encode())]))
            if done is not None:
                found[entry.kind].append(done)
    matrix = reduce(np.matmul, found["resamples"]) if found["resamples"] else None
    return Drawn(matrix, tuple(found["changes"]), tuple(found["moves"]))


def resampled(kspace: Tensor, matrix: np.ndarray) -> Tensor:
    """The images of k-space, both complex `(coils, height, width)`, fetched at `matrix` times each displacement.

    Images are made on a grid of twice as many points first (MRAugment does, too; here k-space is padded with zeros,
    which is exact), and real and imaginary part are interpolated there by cubics. Of two measured brains the root sum
    of squares is within 0.6 % of the exact one, the Fourier sum at each point; cubics on the images' own grid are 4 to
    5 % off, lines on the finer grid 2 to 3 %.
    """
    height, width = kspace.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    points = []
    for (to_row, to_column), n in zip(matrix.tolist(), (height, width), strict=True):
        at = to_row * rows + to_column * columns + (n - 1) / 2  # in pixels of the image
        points.append((2 * (at - n // 2) + n + 0.5) / n - 1)  # point 2 (i - n // 2) + n is pixel i; edges are -1 and 1
    grid = torch.stack((points[1], points[0]), -1)[None]
    left, top = width - width // 2, height - height // 2
    images = torch.empty_like(kspace)
    for coil, samples in enumerate(kspace):  # one at a time stays in the cache: 3 times as fast
        fine = ifft2c(F.pad(samples, (left, width - left, top, height - top)))
        parts = torch.view_as_real(fine).movedim(-1, 0)[None].contiguous()
        found = F.grid_sample(parts, grid, mode="bicubic", padding_mode="zeros", align_corners=False)[0]
        images[coil] = torch.complex(found[0], found[1])
    return 2 * images  # the padded transform is orthonormal, too


def augmented(
    kspace: Tensor, target: Tensor, drawn: Drawn, acquired: slice, shape: tuple[int, int], moves_target: bool
) -> tuple[Tensor, Tensor]:
    """K-space of the changed object, fully sampled, and its reference, as MRAugment makes both (Fabian et al. 2021).

    Columns that were not measured (zero padding) are 0 again after all but moves: no scan has samples there.

    Args:
        kspace: Complex `(coils, height, width)`.
        target: Its reference `(h, w)`; empty stays empty.
        drawn: What is done.
        acquired: The measured columns.
        shape: Of the reference.
        moves_target: The stored reference is moved; else it is made of the images, as their root sum of squares.
    """
    images = drawn.coil_images(kspace)
    changed = fft2c(images)
    if not drawn.only_moves and (acquired.start, acquired.stop) != (0, kspace.shape[-1]):
        changed[..., : acquired.start] = 0
        changed[..., acquired.stop :] = 0
        images = ifft2c(changed)
    if not target.numel():
        return changed, target
    return changed, drawn.moved(target) if moves_target else magnitude_image(images, shape)


def moves_reference(volume: Volume, names: Mapping[str, float]) -> bool:
    """Say whether the stored references of a volume can be moved as its images are; else they are made anew.

    Raises:
        InputError: K-space is undersampled, or references would be made anew and are not what is made.
    """
    if not volume.is_full:
        raise InputError(
            f"{volume.name}: its k-space is undersampled, and augmentation ({_listed(names)}) needs all of "
            "it: an object that moves has other samples; leave augmentation out, or give fully sampled files"
        )
    grid, shape = volume.shape[-2:], volume.image_shape
    is_centred = all((n - m) % 2 == 0 for n, m in zip(grid, shape, strict=True))
    is_whole = tuple(grid) == tuple(shape)
    fits = {"whole": is_whole, "centred": is_centred, "square": is_whole or (is_centred and shape[0] == shape[1])}
    remade = [name for name in names if not fits.get(AUGMENTATIONS[name].reference, False)]
    if remade and volume.has_target and not _has_rss_reference(volume):
        raise InputError(
            f"{volume.name}: its reference is not the RSS image of its k-space, so none can be made for "
            f"{_listed(remade)}; leave that out, or write references of this k-space"
        )
    return not remade


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"augment.{name}" for name in names)


def _has_rss_reference(volume: Volume) -> bool:
    """Tell whether the reference of the middle slice is the RSS image of its k-space, but for rounding."""
    middle = volume.n_slices // 2
    target = torch.from_numpy(volume.target(middle))
    image = magnitude_image(ifft2c(torch.from_numpy(volume.kspace(middle))), volume.image_shape)
    scale = target.abs().amax().clamp_min(torch.finfo(target.dtype).tiny)  # squares of 1e-24 are 0
    return bool(((image - target) / scale).norm() <= _SAME * (target / scale).norm())
