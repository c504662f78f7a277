"""Everything outside the brain: skin, fat, muscle, skull, air, eyes, face and neck."""

import numpy as np

from mrirecon.simulate.head.anatomy import Anatomy
from mrirecon.simulate.head.contrast import Contrast
from mrirecon.simulate.head.painting import Cut, Picture, ellipsoid, inside, smooth_min, tube

_SKIN_MM = 1.6
_AIR = (  # centre and radii on the right side, unevenness of the wall, mm
    ((7, 45, -40), (6, 22, 14), 2.0),  # ethmoid cells
    ((28, 46, -58), (13, 14, 14), 0.0),  # maxillary sinus
    ((10, 66, -14), (9, 5, 8), 1.0),  # frontal sinus
    ((7, 16, -36), (8, 9, 8), 1.0),  # sphenoid sinus
    ((55, -30, -42), (8, 12, 14), 4.0),  # mastoid cells
)
_EYE: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = (
    ("fat", (31, 50, -33), (17, 26, 16)),
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
    _paint_temporal_muscle(picture, contrast, cut, head)
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


def _paint_temporal_muscle(picture: Picture, contrast: Contrast, cut: Cut, head: np.ndarray) -> None:
    muscle = ellipsoid(cut.mirrored, (72, 16, -14), (11, 30, 34))
    picture.paint(inside(np.maximum(muscle, head + 2.5 * _SKIN_MM), cut.edge_mm), contrast, "muscle")


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
    if not cut.meets((31, 50, -33), (17, 26, 16)):
        return
    for tissue, center, radii in _EYE[:1]:
        picture.paint(inside(ellipsoid(cut.mirrored, center, radii), cut.edge_mm), contrast, tissue)
    nerve = tube(cut.mirrored, [(31, 60, -33), (14, 28, -30)], [3.2, 3.0])
    picture.paint(inside(nerve, cut.edge_mm), contrast, "muscle")
    for tissue, center, radii in _EYE[1:]:
        picture.paint(inside(ellipsoid(cut.mirrored, center, radii), cut.edge_mm), contrast, tissue)
