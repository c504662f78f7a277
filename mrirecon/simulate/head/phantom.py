"""A random head: bodies painted one over the other, evaluated at the points of any slice."""

from dataclasses import dataclass

import numpy as np

from mrirecon.simulate.fields import Waves
from mrirecon.simulate.head.anatomy import Anatomy, random_anatomy
from mrirecon.simulate.head.contrast import Contrast, random_contrast
from mrirecon.simulate.head.painting import Cut, Picture, ellipsoid, inside, smooth_min, tube
from mrirecon.simulate.plane import Plane

_SUB_PLANES = 3  # over the slice thickness


@dataclass(frozen=True)
class Phantom:
    """One head with one contrast. Positions are in mm, x right, y front, z up."""

    anatomy: Anatomy
    contrast: Contrast
    size: np.ndarray  # (3,) scale of the head along x, y, z
    textures: tuple[tuple[Waves, float], ...]

    @classmethod
    def random(cls, rng: np.random.Generator, texture: bool = True, contrast: str = "") -> "Phantom":
        """Draw anatomy, size, contrast and texture."""
        anatomy = random_anatomy(rng)
        size = rng.uniform(0.92, 1.06) * rng.uniform(0.97, 1.03, 3)
        bands = (((2.5, 6.0), 0.022), ((6.0, 16.0), 0.015), ((16.0, 60.0), 0.03))
        waves = tuple((Waves.random(rng, band, 64), sd * rng.uniform(0.3, 1.3)) for band, sd in bands)
        return cls(anatomy, random_contrast(rng, contrast), size, waves if texture else ())

    @property
    def contrast_name(self) -> str:
        """T1, T2, PD, FLAIR or GRE."""
        return self.contrast.name

    @property
    def fat_phase(self) -> float:
        """Phase of fat against water at the echo, rad."""
        return self.contrast.fat_phase

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of the part that a field of view should hold; a neck may stick out below."""
        a = self.anatomy
        outer = a.skull_mm + a.scalp_mm + 2
        high = a.cerebrum_center + a.cerebrum_radii + outer
        low = a.cerebrum_center - a.cerebrum_radii - outer
        front = 12 if a.face else 0
        return np.array([low[0], low[1], -88.0]) * self.size, (high + np.array([0, front, 0])) * self.size

    @property
    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """Two corners `(3,)` in mm of a box outside which there is nothing."""
        low, high = self.box
        return low - np.array([14, 25, 95]), high + np.array([14, 14, 6])

    def slice_range_mm(self, orientation: str) -> tuple[float, float]:
        """Return the lowest and the highest position in mm of the centre of a slice that shows mostly brain."""
        ranges = {"axial": (2, -36.0, 64.0), "coronal": (1, -88.0, 52.0), "sagittal": (0, -50.0, 50.0)}
        axis, low, high = ranges[orientation]
        return low * self.size[axis], high * self.size[axis]

    def render(self, plane: Plane, thickness_mm: float) -> Picture:
        """Return the mean over the slice thickness, at the points of `plane`."""
        steps = (np.arange(_SUB_PLANES) + 0.5) / _SUB_PLANES - 0.5
        edge = max(1.2 * plane.spacing_mm, 0.5 * thickness_mm / _SUB_PLANES)
        picture = Picture.mean([self._cut(plane.shifted(step * thickness_mm), edge) for step in steps])
        return picture._replace(water=picture.water * self._texture(plane))

    def _cut(self, plane: Plane, edge_mm: float) -> Picture:
        cut = Cut.of(plane, self.size, edge_mm)
        distance = skull_cavity(self.anatomy, cut)
        head = head_hull(self.anatomy, cut, distance)
        picture = Picture.blank(plane.shape)
        around = (distance > -2 * edge_mm) & (head < 2 * edge_mm)
        brain = distance < edge_mm
        picture.put(
            around, paint_outside(self.anatomy, self.contrast, cut.where(around), head[around], distance[around])
        )
        inner = picture.take(brain)
        inner.cover[...] = 1
        paint_brain(inner, self.anatomy, self.contrast, cut.where(brain), distance[brain])
        picture.put(brain, inner)
        in_range = np.clip((cut.points[2] + 172) / 45, 0, 1).reshape(plane.shape)  # the magnet's homogeneous part
        return Picture(picture.water * in_range, picture.fat * in_range, picture.cover)

    def _texture(self, plane: Plane) -> np.ndarray:
        texture = np.ones(plane.shape, dtype=np.float32)
        for waves, sd in self.textures:
            texture += np.float32(sd) * waves.on(plane)
        return np.maximum(texture, 0)


def skull_cavity(anatomy: Anatomy, cut: Cut) -> np.ndarray:
    """Return the distance `(n,)` in mm to the inner face of the skull, negative inside."""
    offset = cut.points - anatomy.cerebrum_center.astype(np.float32)[:, None]
    offset[0] *= 1 + np.float32(anatomy.narrow_front) * offset[1] / np.float32(anatomy.cerebrum_radii[1])
    below = np.float32(anatomy.cerebrum_radii[2] / anatomy.below_radius)
    offset[2] = np.where(offset[2] < 0, offset[2] * below, offset[2])
    cerebrum = ellipsoid(offset, (0, 0, 0), anatomy.cerebrum_radii)
    fossa = ellipsoid(cut.points, anatomy.fossa_center, anatomy.fossa_radii)
    return smooth_min(cerebrum, fossa, 20.0) + np.float32(anatomy.hull_mm) * cut.field(anatomy.hull_wave)


# ---- everything outside the brain: skin, fat, muscle, skull, air, eyes, face and neck

_SKIN_MM = 1.6
_AIR = (  # centre and radii on the right side, unevenness of the wall, mm
    ((7, 45, -40), (6, 22, 14), 2.0),  # ethmoid cells
    ((28, 46, -58), (13, 14, 14), 0.0),  # maxillary sinus
    ((10, 66, -14), (9, 5, 8), 1.0),  # frontal sinus
    ((7, 16, -36), (8, 9, 8), 1.0),  # sphenoid sinus
    ((55, -30, -42), (8, 12, 14), 4.0),  # mastoid cells
)
_ORBIT = ((31, 50, -33), (17, 26, 16))
_EYE: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = (
    ("skin", (32, 63, -33), (12.5, 12.5, 12.5)),
    ("eye", (32, 63, -33), (11.5, 11.5, 11.5)),
    ("lens", (32, 71.5, -33), (4.5, 2.2, 4.5)),
)


def head_hull(anatomy: Anatomy, cut: Cut, cavity: np.ndarray) -> np.ndarray:
    """Return the distance `(n,)` in mm to the skin, negative inside; `cavity` is that to the skull's inner face."""
    thickness = np.float32(anatomy.skull_mm + anatomy.scalp_mm)
    hull = cavity - thickness - np.float32(0.8) * cut.field(anatomy.layer_wave)
    if cut.lowest > 10:  # neither face nor neck reach up here
        return hull
    mirrored = cut.mirrored
    neck = tube(mirrored, [(0, -38, -42), (0, -42, -110), (0, -48, -180)], [62, 57, 60])
    hull = smooth_min(hull, neck, 24.0)
    if anatomy.face:
        face = ellipsoid(mirrored, (0, 32, -58), (60, 52, 62))
        nose = tube(mirrored, [(0, 74, -28), (0, 98, -58)], [7, 11])
        hull = smooth_min(smooth_min(hull, face, 18.0), nose, 10.0)
    return hull


def paint_outside(
    anatomy: Anatomy,
    contrast: Contrast,
    cut: Cut,
    head: np.ndarray,
    cavity: np.ndarray,
) -> Picture:
    """Return a picture `(n,)` of all that lies between the skin and the brain.

    Args:
        anatomy: Sizes and places.
        contrast: How bright tissues are.
        cut: The points, n of them.
        head: Distance `(n,)` in mm to the skin, negative inside.
        cavity: Distance `(n,)` in mm to the inner face of the skull, negative inside.
    """
    cover = inside(head, cut.edge_mm)
    picture = Picture.blank(cover.shape)
    picture.cover[...] = cover
    wave = cut.field(anatomy.layer_wave)
    scalp = np.float32(anatomy.scalp_mm) * (1 + np.float32(0.18) * wave)
    picture.paint(cover, contrast, "skin")
    picture.paint(inside(head + _SKIN_MM, cut.edge_mm), contrast, "fat")
    deep = inside(head + scalp, cut.edge_mm)
    patches = cut.field(anatomy.patches)
    picture.paint(deep, contrast, "muscle")
    picture.paint(deep * inside(2 * (0.75 - patches), cut.edge_mm), contrast, "fat")
    temporal = ellipsoid(cut.mirrored, (72, 16, -14), (11, 30, 34))
    picture.paint(inside(np.maximum(temporal, head + 2.5 * _SKIN_MM), cut.edge_mm), contrast, "muscle")
    _paint_skull(picture, anatomy, contrast, cut, cavity, wave, patches)
    low = cut.points[2] < 10
    if low.any():
        below = picture.take(low)
        _paint_neck(below, contrast, cut.where(low), patches[low])
        if anatomy.face:
            _paint_air(below, contrast, cut.where(low), patches[low])
        if anatomy.eyes:
            _paint_eyes(below, contrast, cut.where(low))
        picture.put(low, below)
    return picture


def _paint_skull(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    cut: Cut,
    cavity: np.ndarray,
    wave: np.ndarray,
    patches: np.ndarray,
) -> None:
    thickness = np.float32(anatomy.skull_mm) * (1 - np.float32(0.15) * wave)
    picture.paint(inside(cavity - thickness, cut.edge_mm), contrast, "bone")
    marrow = np.float32(anatomy.marrow) * thickness * np.clip(1 + 0.35 * patches, 0.1, 1.5)
    picture.paint(0.9 * inside(np.abs(cavity - thickness / 2) - marrow / 2, cut.edge_mm), contrast, "marrow")
    picture.paint(inside(cavity - 0.6, cut.edge_mm), contrast, "dura")


def _paint_neck(picture: Picture, contrast: Contrast, cut: Cut, patches: np.ndarray) -> None:
    if cut.lowest > -50:
        return
    for tissue, top, bottom, radii, rough in (
        ("marrow", (0, -32, -72), (0, -44, -180), (13, 12), 1.0),  # vertebral bodies
        ("csf", (0, -48, -60), (0, -62, -180), (10, 8), 0.0),
        ("white", (0, -46, -60), (0, -61, -180), (6, 5), 0.0),  # spinal cord
    ):
        distance = tube(cut.mirrored, [top, bottom], radii) + np.float32(rough) * patches
        picture.paint(inside(distance, cut.edge_mm), contrast, tissue)


def _paint_air(picture: Picture, contrast: Contrast, cut: Cut, patches: np.ndarray) -> None:
    distances = [
        ellipsoid(cut.mirrored, center, radii) + patches * np.float32(rough)
        for center, radii, rough in _AIR
        if cut.meets(center, radii)
    ]
    if cut.meets((11, 38, -58), (14, 20, 20)):
        turbinates = np.float32(3) * np.sin(cut.mirrored[2] / 2) + patches
        distances.append(np.maximum(ellipsoid(cut.mirrored, (6, 50, -58), (8, 26, 16)), turbinates))
    if cut.lowest < -40:
        distances.append(tube(cut.mirrored, [(3, 22, -50), (2, -2, -72), (2, -16, -140)], [5, 7, 8]))
    for distance in distances:
        picture.paint(inside(distance - 1.2, cut.edge_mm), contrast, "mucosa")
        picture.clear(inside(distance, cut.edge_mm))


def _paint_eyes(picture: Picture, contrast: Contrast, cut: Cut) -> None:
    if not cut.meets(*_ORBIT):
        return
    picture.paint(inside(ellipsoid(cut.mirrored, *_ORBIT), cut.edge_mm), contrast, "fat")
    nerve = tube(cut.mirrored, [(31, 60, -33), (14, 28, -30)], [3.2, 3.0])
    picture.paint(inside(nerve, cut.edge_mm), contrast, "muscle")
    for tissue, center, radii in _EYE:
        picture.paint(inside(ellipsoid(cut.mirrored, center, radii), cut.edge_mm), contrast, tissue)


# ---- the brain: cortex, white matter, deep nuclei, ventricles, cerebellum, brain stem, lesions

_NUCLEI = (  # centre and radii on the right side
    ("nucleus", (13, 14, 8), (5, 9, 10)),  # head of the caudate
    ("nucleus", (16, -4, 20), (3.2, 16, 4)),  # its body
    ("nucleus", (26, 2, 2), (5.5, 15, 10)),  # putamen
    ("thalamus", (11, -17, 8), (8.5, 14, 9)),
    ("nucleus", (24, -6, -20), (7, 7, 7)),  # amygdala
    ("nucleus", (27, -24, -14), (6, 14, 5)),  # hippocampus
)


def paint_brain(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    cut: Cut,
    cavity: np.ndarray,
) -> None:
    """Paint the content of the skull over `picture`, in place.

    Args:
        picture: Signals `(n,)` at the points of `cut`.
        anatomy: Sizes and places.
        contrast: How bright tissues are.
        cut: The points, n of them.
        cavity: Distance `(n,)` in mm to the inner face of the skull, negative inside.
    """
    picture.paint(inside(cavity, cut.edge_mm), contrast, "csf")
    wave = cut.field(anatomy.asymmetry)
    bent = np.concatenate([np.abs(cut.points[:1] + 1.2 * wave), cut.points[1:]])  # both sides, not quite alike
    bent[1] += 2 * wave
    low = cut.lowest < 10
    stem, cerebellum = (_stem(bent), _cerebellum(anatomy, bent)) if low else (np.float32(99), np.float32(99))
    depth = -cavity - np.float32(anatomy.csf_mm) * (1 + np.float32(0.4) * wave)
    fluid = anatomy.cortex.fluid_distance(cut, depth, anatomy.cerebrum_center)
    fluid = np.minimum(fluid, np.minimum(stem, cerebellum) - 2.0)
    picture.paint(inside(-fluid, cut.edge_mm), contrast, "grey")
    picture.paint(inside(np.float32(anatomy.cortex.grey_mm) - fluid, 1.3 * cut.edge_mm), contrast, "white")
    _paint_deep(picture, anatomy, contrast, cut, bent, fluid)
    if low:
        _paint_cerebellum(picture, anatomy, contrast, cut, bent, np.maximum(cerebellum, cavity + 2))
        _paint_stem(picture, anatomy, contrast, cut, bent, np.maximum(stem, cavity - 20), cavity)
    _paint_lesions(picture, anatomy, contrast, cut, fluid, wave)


def _paint_deep(
    picture: Picture, anatomy: Anatomy, contrast: Contrast, cut: Cut, bent: np.ndarray, fluid: np.ndarray
) -> None:
    within = inside(-fluid, cut.edge_mm)
    for tissue, center, radii in _NUCLEI:
        if not cut.meets(center, radii):
            continue
        picture.paint(within * inside(ellipsoid(bent, center, radii), 1.6 * cut.edge_mm), contrast, tissue)
    pallidum = inside(ellipsoid(bent, (19, -3, 0), (4.5, 9, 7)), 1.6 * cut.edge_mm)
    picture.paint(within * pallidum, contrast, "nucleus", anatomy.iron)
    picture.paint(inside(_ventricles(anatomy, bent), cut.edge_mm), contrast, "csf")


def _ventricles(anatomy: Anatomy, bent: np.ndarray) -> np.ndarray:
    wide = anatomy.ventricle
    horns = [(14, 34, 6), (7, 20, 14), (8, -8, 22), (17, -34, 16), (22, -54, 8)]
    body = tube(bent, horns, [2.2 * wide, 4.2 * wide, 4.4 * wide, 6.5 * wide, 2.0 * wide])
    temporal = tube(bent, [(20, -36, 8), (33, -22, -14), (30, -2, -19)], [4.5 * wide, 2.0 * wide, 1.2 * wide])
    third = ellipsoid(bent, (0, -10, 0), (1.0 + 2.0 * wide, 14, 11))
    return np.minimum(smooth_min(body, temporal, 3.0), third)


def _cerebellum(anatomy: Anatomy, bent: np.ndarray) -> np.ndarray:
    return ellipsoid(bent, anatomy.fossa_center, anatomy.fossa_radii - 4)


def _stem(bent: np.ndarray) -> np.ndarray:
    path = [(6, -22, -6), (3, -26, -18), (0, -24, -30), (0, -32, -50), (0, -44, -66)]
    return tube(bent, path, [9, 11, 14, 9, 6])


def _paint_cerebellum(
    picture: Picture, anatomy: Anatomy, contrast: Contrast, cut: Cut, bent: np.ndarray, cerebellum: np.ndarray
) -> None:
    sheet = np.abs(cut.field(anatomy.folia)) * np.float32(1.4)  # mm from the fluid between two leaves
    picture.paint(inside(cerebellum - 1.5, cut.edge_mm), contrast, "csf")
    leaf = np.maximum(cerebellum, np.minimum(0.45 - sheet, 8 + cerebellum))
    picture.paint(inside(leaf, cut.edge_mm), contrast, "grey")
    core = np.maximum(cerebellum + 3.5, 1.25 + 6 / (1 - np.minimum(cerebellum, 0)) - sheet)
    core = np.minimum(core, ellipsoid(bent, (16, -50, -36), (14, 13, 8)))
    picture.paint(inside(core, cut.edge_mm), contrast, "white")


def _paint_stem(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    cut: Cut,
    bent: np.ndarray,
    stem: np.ndarray,
    cavity: np.ndarray,
) -> None:
    free = np.clip(-(bent[2] + 8) / 8, 0, 1)  # its top is part of the brain, fluid surrounds the rest
    picture.paint(free * inside(stem - 1.6, cut.edge_mm) * inside(cavity, cut.edge_mm), contrast, "csf")
    picture.paint(inside(stem, cut.edge_mm), contrast, "white", 0.96)
    fourth = ellipsoid(bent, (0, -40, -34), (5 * anatomy.ventricle, 4.5, 11))
    picture.paint(inside(fourth, cut.edge_mm), contrast, "csf")


def _paint_lesions(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    cut: Cut,
    fluid: np.ndarray,
    wave: np.ndarray,
) -> None:
    within = inside(1.5 - fluid, cut.edge_mm)
    for lesion in anatomy.lesions:
        distance = ellipsoid(cut.points, lesion.center, lesion.radii)
        if distance.min(initial=9) > 3:
            continue
        distance = distance + np.float32(0.15 * lesion.radii.mean()) * wave
        picture.paint(within * inside(distance, 1.5 * cut.edge_mm), contrast, "lesion")
        if lesion.core:
            distance = ellipsoid(cut.points, lesion.center, lesion.radii * lesion.core)
            picture.paint(within * inside(distance, cut.edge_mm), contrast, "core")
