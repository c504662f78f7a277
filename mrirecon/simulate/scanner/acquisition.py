"""One simulated volume: slices through an object, coils, phase and noise, the k-space of it all and its images.

Coils are loops around the object, which receive by their quasi-static magnetic fields.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import fft

from mrirecon.config import SimulateConfig
from mrirecon.data.header import Header
from mrirecon.simulate.fields import Waves, product
from mrirecon.simulate.head.painting import Picture
from mrirecon.simulate.plane import Plane
from mrirecon.simulate.scanner.geometry import Stack

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
class Loop:
    """A circular receive loop."""

    center: np.ndarray  # (3,) mm
    normal: np.ndarray  # (3,) unit vector
    radius_mm: float
    gain: complex = 1.0


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
        covariance = (
            neighbour_correlation(kspace.shape[1], config.noise_correlation) if config.noise_correlation else None
        )
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
    fine: np.ndarray, corner: tuple[int, int], fine_shape: tuple[int, int], kspace_shape: tuple[int, int]
) -> np.ndarray:
    """Return k-space `(..., height, width)`, complex64: the central part of a finer image's transform.

    Equals the centre of numpy's `fftshift(fft2(ifftshift(image), norm="ortho"))`, scaled so that the centred
    orthonormal inverse transform of it has the intensities of `fine`. The image is zero outside the given part; each
    axis is transformed where it is smallest.

    Args:
        fine: Part of the fine image, `(..., part height, part width)`.
        corner: Row and column of the fine image where that part begins.
        fine_shape: Height and width of the whole fine image, even multiples of the k-space's.
        kspace_shape: Height and width of the k-space.
    """
    columns = _central(fine, corner[1], fine_shape[1], kspace_shape[1])
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


def neighbour_correlation(n_coils: int, correlation: float) -> np.ndarray:
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


_MU0 = 4e-7 * np.pi  # T m / A
_SEGMENTS = 48
_GRID_MM = 6.0  # interpolating changes the field by less than 0.1 % inside the head (tested)
_CONDUCTOR_MM = 6.0
_TAPS = 6


def loop_field(points_mm: np.ndarray, loop: Loop, conductor_mm: float = 0.0) -> np.ndarray:
    """Return the magnetic field of 1 A in `loop`, in tesla, `(..., 3)` at `points_mm` `(..., 3)`.

    The law of Biot and Savart (Jackson 1999, Classical Electrodynamics, section 5.2) summed over the loop; the
    integrand is periodic, so away from the wire the sum converges faster than any power of the number of pieces
    (Trefethen and Weideman 2014, SIAM Rev 56:385). `conductor_mm` above 0 keeps the field finite at the
    wire.
    """
    points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3) - loop.center
    wire, piece = _wire(loop)
    square = (points**2).sum(1)[:, None] + (wire**2).sum(1) - 2 * product(points, wire.T) + conductor_mm**2
    weight = square**-1.5
    # piece x (point - wire) / distance^3, summed over the pieces
    summed = product(weight, np.hstack([piece, np.cross(piece, wire)]))
    field = np.cross(summed[:, :3], points) - summed[:, 3:]
    per_mm = _MU0 / (4 * np.pi) * 1e3
    return (per_mm * field).reshape(np.shape(points_mm))


def receive_sensitivity(points_mm: np.ndarray, loops: list[Loop]) -> np.ndarray:
    """Return the complex sensitivity `(loops, ...)` at `points_mm` `(..., 3)`: (Bx - i By) / 2, B0 being along z.

    The negatively rotating part of the field that a unit current would make there, by the principle of
    reciprocity (Hoult 2000, Concepts Magn Reson 12:173).
    """
    fields = (loop.gain * loop_field(points_mm, loop, _CONDUCTOR_MM).astype(complex) for loop in loops)
    return np.stack([(field[..., 0] - 1j * field[..., 1]) / 2 for field in fields])


def coil_maps(plane: Plane, loops: list[Loop]) -> np.ndarray:
    """Return sensitivity maps `(coils, height, width)`, complex64, on a slice; one uniform map without loops.

    `receive_sensitivity` (Hoult 2000) on a coarse grid, interpolated by Lagrange polynomials.
    """
    if not loops:
        return np.ones((1, *plane.shape), dtype=np.complex64)
    rows, columns = _coarse(plane.row_mm), _coarse(plane.column_mm)
    points = plane.center + rows[:, None, None] * plane.row + columns[None, :, None] * plane.column
    coarse = receive_sensitivity(points, loops).astype(np.complex64)
    tall = _refine(coarse, rows, plane.row_mm)  # (coils, coarse columns, height)
    return _refine(tall, columns, plane.column_mm)


def random_loops(rng: np.random.Generator, n_coils: int, low: np.ndarray, high: np.ndarray) -> list[Loop]:
    """Draw loops on an elliptic helmet around the box from `low` to `high`, `(3,)` mm; none for one coil.

    Up to 8 loops make one ring, up to 16 two, more three. Their size makes neighbours overlap a little, as
    in a phased array (Roemer et al. 1990); position, tilt, size and gain scatter, and the helmet is not quite centred
    on the head.
    """
    if n_coils == 1:
        return []
    n_rings = 1 if n_coils <= 8 else 2 if n_coils <= 16 else 3
    half = (high - low) / 2 + rng.uniform(22, 45)
    top_half = np.array([half[0], half[1], max(half[0], half[1])])
    center = (high + low) / 2
    center[2] = high[2] - (high[0] - low[0]) / 2 + rng.uniform(-12, 12)
    center[:2] += rng.uniform(-8, 8, 2)
    heights = [0.0] if n_rings == 1 else np.linspace(-0.42, 0.5, n_rings)
    loops = []
    for ring, members in enumerate(np.array_split(np.arange(n_coils), n_rings)):
        turn = rng.uniform(0, 2 * np.pi)
        for place in range(len(members)):
            angle = turn + 2 * np.pi * place / len(members) + rng.normal(0, 0.06)
            loops.append(_loop(rng, angle, float(heights[ring]), len(members), center, top_half))
    return loops


def _loop(
    rng: np.random.Generator, angle: float, height: float, in_ring: int, center: np.ndarray, half: np.ndarray
) -> Loop:
    flat = np.sqrt(1 - height**2)
    direction = np.array([flat * np.cos(angle), flat * np.sin(angle), height])
    normal = -direction / half + rng.normal(0, 0.08, 3) / half
    spacing = 2 * np.pi * flat * half[:2].mean() / in_ring
    radius = float(np.clip(0.6 * spacing, 28, 75) * rng.uniform(0.9, 1.1))
    away = 1 + (rng.uniform(0.15, 0.5) if rng.random() < 0.15 else rng.uniform(0, 0.06))
    gain = np.exp(rng.normal(0, 0.15) + 1j * rng.uniform(0, 2 * np.pi))
    return Loop(center + direction * half * away, normal / np.linalg.norm(normal), radius, complex(gain))


def _wire(loop: Loop) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and pieces (direction times length) of the wire, `(segments, 3)` mm, about the loop's centre."""
    helper = np.eye(3)[np.argmin(np.abs(loop.normal))]
    first = np.cross(loop.normal, helper)
    first /= np.linalg.norm(first)
    second = np.cross(loop.normal, first)
    angle = 2 * np.pi * np.arange(_SEGMENTS)[:, None] / _SEGMENTS
    out = np.cos(angle) * first + np.sin(angle) * second
    along = np.cos(angle) * second - np.sin(angle) * first
    return loop.radius_mm * out, loop.radius_mm * along * (2 * np.pi / _SEGMENTS)


def _coarse(positions_mm: np.ndarray) -> np.ndarray:
    n = max(_TAPS, int(np.ceil((positions_mm[-1] - positions_mm[0]) / _GRID_MM)) + 1)
    return np.linspace(positions_mm[0], positions_mm[-1], n)


def _refine(values: np.ndarray, coarse_mm: np.ndarray, fine_mm: np.ndarray) -> np.ndarray:
    """Interpolate `(coils, coarse, others)` along its second axis: `(coils, others, fine)`, complex64.

    Lagrange polynomials through the 6 nearest points; a product with them, since it is the same for all coils.
    """
    place = (fine_mm - coarse_mm[0]) / (coarse_mm[1] - coarse_mm[0])
    first = np.clip(np.floor(place).astype(int) - _TAPS // 2 + 1, 0, len(coarse_mm) - _TAPS)
    weights = np.zeros((len(fine_mm), len(coarse_mm)), dtype=np.float32)
    for tap in range(_TAPS):
        others = [other for other in range(_TAPS) if other != tap]
        factors = [(place - first - other) / (tap - other) for other in others]
        weights[np.arange(len(fine_mm)), first + tap] = np.prod(factors, axis=0)
    flat = np.ascontiguousarray(np.moveaxis(values, 1, 0)).reshape(len(coarse_mm), -1)
    fine = product(weights, flat.view(np.float32)).view(np.complex64)
    return np.ascontiguousarray(fine.T).reshape(values.shape[0], values.shape[2], len(fine_mm))
