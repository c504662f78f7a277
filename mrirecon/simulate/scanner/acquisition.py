"""One simulated volume: slices through an object, coils, phase and noise, the k-space of it all and its images."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import fft

from mrirecon.config import SimulateConfig
from mrirecon.data.header import Header
from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.painting import Picture
from mrirecon.simulate.plane import Plane
from mrirecon.simulate.scanner.coil_maps import Loop, coil_maps, random_loops, receive_sensitivity
from mrirecon.simulate.scanner.slices import Stack

_FIELD_T = 1.5


class ScanObject(Protocol):
    """An object to scan: positions in mm, x right, y front, z up."""

    @property
    def contrast_name(self) -> str:
        """T1, T2, ...; part of the `acquisition` attribute."""

    @property
    def fat_phase(self) -> float:
        """Phase of fat against water at the echo, rad."""

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of the part that a field of view should hold."""

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of a box outside which there is nothing."""

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """Return the mean over the slice thickness at the points of `plane`."""


@dataclass(frozen=True)
class SimulatedVolume:
    """Everything of one volume; single-coil volumes have one coil here as well."""

    kspace: np.ndarray  # (slices, coils, height, width) complex64, noisy
    reconstruction_rss: np.ndarray  # (slices, h, w) float32, of the noisy k-space
    ground_truth: np.ndarray  # (slices, h, w) float32, without noise
    object_mask: np.ndarray  # (slices, h, w) bool, over which the SNR counts
    header: Header
    noise_sd: float
    pixel_mm: float


@dataclass(frozen=True)
class Receiver:
    """Coils, phase and shading between the object and k-space, the same for all slices of a volume."""

    loops: list[Loop]
    unit: float  # sensitivities are relative to this
    phase: Waves | None
    phase_rad: float
    shading: Waves
    shading_sd: float
    fat_shift_px: float


def scan(thing: ScanObject, stack: Stack, config: SimulateConfig, rng: np.random.Generator) -> SimulatedVolume:
    """Measure `thing` on the slices of `stack`.

    The SNR is the mean noise-free RSS (Roemer et al. 1990) over the object (all slices) divided by the standard
    deviation of the real part of one coil's noise, sigma of Constantinides et al. (1997, Magn Reson Med 38:852).
    """
    receiver = random_receiver(thing, config, rng)
    parts = [scan_slice(thing, plane, stack, receiver) for plane in stack.planes]
    kspace = np.stack([part[0] for part in parts])
    mask = np.stack([part[1] for part in parts])
    gain = np.float32(np.exp(rng.uniform(np.log(2e-6), np.log(2e-4))))  # scanners store arbitrary units
    kspace *= gain
    ground_truth = images(kspace, stack.shape)
    sd = noise_sd(ground_truth, mask, config, rng)
    if sd:
        covariance = noise_covariance(kspace.shape[1], config.noise_correlation) if config.noise_correlation else None
        kspace += complex_noise(rng, kspace.shape, sd, covariance)
    return SimulatedVolume(
        kspace,
        images(kspace, stack.shape),
        ground_truth,
        mask,
        stack.header(kspace.shape[1], _FIELD_T),
        sd,
        stack.pixel_mm,
    )


def random_receiver(thing: ScanObject, config: SimulateConfig, rng: np.random.Generator) -> Receiver:
    """Draw coils, object phase and transmit shading."""
    low, high = thing.box
    loops = random_loops(rng, config.coils, low, high)
    return Receiver(
        loops,
        float(np.linalg.norm(receive_sensitivity((low + high) / 2, loops))) if loops else 1.0,
        Waves.random(rng, (130, 500), 16) if config.phase else None,
        rng.uniform(0.3, 1.3),
        Waves.random(rng, (160, 500), 16),
        rng.uniform(0.02, 0.14),
        rng.uniform(0, 1.6) * float(rng.choice([-1, 1])),
    )


def scan_slice(thing: ScanObject, plane: Plane, stack: Stack, receiver: Receiver) -> tuple[np.ndarray, np.ndarray]:
    """Return noise-free k-space `(coils, height, width)` of one slice, and its object mask `(h, w)`.

    The object is rasterised on the grid of `plane`, finer than that of the images: k-space made from images on their
    own grid gives too good results (Shimron et al. 2022, "Implicit data crimes", PNAS 119).
    """
    rows, columns = plane.window(*thing.reach)
    part = plane.part(rows, columns)
    picture = thing.render(part, stack.thickness_mm)
    image = picture.water + 0j
    shift = round(receiver.fat_shift_px * stack.finer)  # chemical shift, along the readout
    image += np.roll(picture.fat, shift, axis=0) * np.complex64(np.exp(1j * thing.fat_phase))
    image *= np.exp(np.float32(receiver.shading_sd) * receiver.shading.on(part))
    if receiver.phase is not None:
        image *= np.exp(1j * np.float32(receiver.phase_rad) * receiver.phase.on(part))
    coil_images = coil_maps(part, receiver.loops) * image / np.float32(receiver.unit)
    corner = (rows.start, columns.start)
    kspace = central_kspace(coil_images, corner, plane.shape, stack.kspace_shape)
    cover = central_kspace(picture.cover, corner, plane.shape, stack.kspace_shape)
    return kspace, images(cover[None, None], stack.shape)[0] > 0.5


def noise_sd(ground_truth: np.ndarray, mask: np.ndarray, config: SimulateConfig, rng: np.random.Generator) -> float:
    """Return the standard deviation of the real part of one coil's noise that gives the SNR asked for; 0: no noise.

    In the units of `ground_truth`; sigma of Constantinides et al. (1997, Magn Reson Med 38:852).

    Args:
        ground_truth: Noise-free images, `(slices, h, w)`.
        mask: Where the object is, `(slices, h, w)`; the mean signal over it counts.
        config: Has the SNR, or the range it is drawn from.
        rng: Draws it.
    """
    snr = float(rng.uniform(config.snr_range[0], config.snr_range[1])) if config.snr_range else config.snr
    signal = float(ground_truth[mask].mean(dtype=np.float64)) if mask.any() else float(ground_truth.max())
    return signal / snr if snr else 0.0


def central_kspace(
    images: np.ndarray, corner: tuple[int, int], fine_shape: tuple[int, int], kspace_shape: tuple[int, int]
) -> np.ndarray:
    """Return k-space `(..., height, width)`, complex64: the central part of a finer image's transform.

    Equals the centre of numpy's `fftshift(fft2(ifftshift(image), norm="ortho"))`, scaled so that the centred
    orthonormal inverse transform of it has the intensities of `images`. The image is zero outside the given part; each
    axis is transformed where it is smallest.

    Args:
        images: Part of the fine image, `(..., part height, part width)`.
        corner: Row and column of the fine image where that part begins.
        fine_shape: Height and width of the whole fine image, even multiples of the k-space's.
        kspace_shape: Height and width of the k-space.
    """
    columns = _central(images, corner[1], fine_shape[1], kspace_shape[1])
    rows = _central(np.swapaxes(columns, -1, -2), corner[0], fine_shape[0], kspace_shape[0])
    return np.ascontiguousarray(np.swapaxes(rows, -1, -2), dtype=np.complex64)


def images(kspace: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the fully sampled reconstruction `(slices, h, w)`, float32, of k-space `(slices, coils, height, width)`.

    Inverse transform, centre crop, root sum of squares (Roemer et al. 1990, Magn Reson Med 16:192). Equals
    `mrirecon.physics` (tested), whose torch kernels would bring a thread pool into each thread that simulates.
    """
    return np.stack([_image(one, shape) for one in kspace])


def _image(kspace: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    top, left = ((whole - part) // 2 for whole, part in zip(kspace.shape[-2:], shape, strict=True))
    axes = (-2, -1)
    coils = fft.fftshift(fft.ifft2(fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    part = coils[:, top : top + shape[0], left : left + shape[1]]
    largest = np.abs(part).max() or np.float32(1)  # squares of 1e-24 would vanish
    part = part / largest
    return (np.sqrt((part.real**2 + part.imag**2).sum(axis=0)) * largest).astype(np.float32)


def noise_covariance(n_coils: int, correlation: float) -> np.ndarray:
    """Return `(coils, coils)`: `correlation` between neighbours, its powers further away, 1 on the diagonal.

    Positive definite for correlations between -1 and 1 (Kac, Murdock and Szego 1953).
    """
    distance = np.abs(np.subtract.outer(np.arange(n_coils), np.arange(n_coils)))
    return np.float64(correlation) ** distance


def complex_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sd: float, covariance: np.ndarray | None = None
) -> np.ndarray:
    """Return circular Gaussian noise `(slices, coils, height, width)`, complex64, white in k-space.

    Thermal noise is white (Macovski 1996, Magn Reson Med 36:494) and correlated between coils (Roemer et al. 1990).

    Args:
        rng: Draws it.
        shape: Of the noise.
        sd: Standard deviation of real and imaginary part.
        covariance: Of the coils, `(coils, coils)`, in units of `sd` squared: its Cholesky factor mixes white noise.
    """
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    if covariance is not None:
        mixing = np.linalg.cholesky(covariance).astype(np.float32)
        noise = np.einsum("cd,sdhw->schw", mixing, noise)
    return noise * np.float32(sd)


def _central(image: np.ndarray, start: int, fine: int, coarse: int) -> np.ndarray:
    """Return the central `coarse` frequencies along the last axis of `image` `(..., part)`, at `start` of `fine`."""
    padded = np.zeros((*image.shape[:-1], fine), dtype=np.complex64)
    padded[..., start : start + image.shape[-1]] = image
    spectrum = fft.fft(fft.ifftshift(padded, axes=-1), axis=-1)
    frequencies = np.arange(coarse) - coarse // 2  # negative ones count from the end, as the transform has them
    return spectrum[..., frequencies] * np.float32(np.sqrt(coarse) / fine)
