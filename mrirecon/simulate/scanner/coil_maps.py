"""Receive sensitivities of loops around the object, from their quasi-static magnetic field."""

from dataclasses import dataclass

import numpy as np

from mrirecon.simulate.fields import product
from mrirecon.simulate.plane import Plane

_MU0 = 4e-7 * np.pi  # T m / A
_SEGMENTS = 48
_GRID_MM = 6.0  # interpolating changes the field by less than 0.1 % inside the head (tested)
_CONDUCTOR_MM = 6.0
_TAPS = 6


@dataclass(frozen=True)
class Loop:
    """A circular receive loop."""

    center: np.ndarray  # (3,) mm
    normal: np.ndarray  # (3,) unit vector
    radius_mm: float
    gain: complex = 1.0


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
