"""One simulated volume: an object, slices through it, coils, phase, noise, and the images of it all."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mrirecon.config import SimulateConfig
from mrirecon.data.header import Header
from mrirecon.simulate.head.fields import Waves
from mrirecon.simulate.scanner.acquisition import central_kspace, complex_noise, images, noise_covariance
from mrirecon.simulate.scanner.coil_maps import Loop, coil_maps, random_loops, receive_sensitivity
from mrirecon.simulate.scanner.picture import Picture
from mrirecon.simulate.scanner.plane import Plane
from mrirecon.simulate.scanner.slices import Stack

_FIELD_T = 1.5


class ScanObject(Protocol):
    """What can be scanned: positions in mm, x right, y front, z up."""

    @property
    def contrast_name(self) -> str:
        """T1, T2, ...; part of the `acquisition` attribute."""

    @property
    def fat_phase(self) -> float:
        """Phase of fat against water at the echo, rad."""

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners `(3,)` of what a field of view should hold."""

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners `(3,)` of a box outside which there is nothing."""

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """The mean over the slice thickness at the points of `plane`."""


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
    """What stands between the object and k-space, the same for all slices of a volume."""

    loops: list[Loop]
    unit: float  # sensitivities are relative to this
    phase: Waves | None
    phase_rad: float
    shading: Waves
    shading_sd: float
    fat_shift_px: float


def scan(thing: ScanObject, stack: Stack, config: SimulateConfig, rng: np.random.Generator) -> SimulatedVolume:
    """Measure `thing` on the slices of `stack`.

    The SNR is the mean noise-free RSS over the object (all slices) divided by the standard deviation
    of the real part of one coil's noise.
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
        _reference_sensitivity(loops, (low + high) / 2),
        Waves.random(rng, (130, 500), 16) if config.phase else None,
        rng.uniform(0.3, 1.3),
        Waves.random(rng, (160, 500), 16),
        rng.uniform(0.02, 0.14),
        rng.uniform(0, 1.6) * float(rng.choice([-1, 1])),
    )


def scan_slice(thing: ScanObject, plane: Plane, stack: Stack, receiver: Receiver) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free k-space `(coils, height, width)` of one slice, and its object mask `(h, w)`."""
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
    """Standard deviation of the real part of one coil's noise that gives the SNR asked for; 0: no noise."""
    snr = float(rng.uniform(config.snr_range[0], config.snr_range[1])) if config.snr_range else config.snr
    signal = float(ground_truth[mask].mean(dtype=np.float64)) if mask.any() else float(ground_truth.max())
    return signal / snr if snr else 0.0


def _reference_sensitivity(loops: list[Loop], center: np.ndarray) -> float:
    return float(np.linalg.norm(receive_sensitivity(center, loops))) if loops else 1.0
