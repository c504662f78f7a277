"""Everything outside the brain: skin, fat, muscle, skull, air, eyes, face and neck."""

import numpy as np

from mrirecon.simulate.anatomy import Anatomy
from mrirecon.simulate.contrast import Contrast
from mrirecon.simulate.picture import Picture
from mrirecon.simulate.plane import Plane
from mrirecon.simulate.shapes import ellipsoid, inside, smooth_min, tube

_SKIN_MM = 1.6


def head_hull(anatomy: Anatomy, plane: Plane, points: np.ndarray, cavity: np.ndarray) -> np.ndarray:
    """Distance to the skin, negative inside."""
    thickness = np.float32(anatomy.skull_mm + anatomy.scalp_mm)
    hull = cavity - thickness - np.float32(0.8) * anatomy.layer_wave.on(plane)
    if points[2].min() > 10:  # neither face nor neck reach up here
        return hull
    mirrored = _mirrored(points)
    neck = tube(mirrored, [(0, -25, -55), (0, -38, -110), (0, -48, -180)], [62, 55, 60])
    hull = smooth_min(hull, neck, 22.0)
    if anatomy.face:
        face = ellipsoid(mirrored, (0, 32, -58), (60, 52, 62))
        nose = tube(mirrored, [(0, 74, -28), (0, 98, -58)], [7, 11])
        hull = smooth_min(smooth_min(hull, face, 18.0), nose, 10.0)
    return hull


def paint_outside(
    anatomy: Anatomy,
    contrast: Contrast,
    plane: Plane,
    points: np.ndarray,
    head: np.ndarray,
    cavity: np.ndarray,
    edge_mm: float,
) -> Picture:
    """Paint all that lies between the skin and the brain; `head` and `cavity` are distances in mm."""
    cover = inside(head, edge_mm)
    picture = Picture.blank(cover)
    wave = anatomy.layer_wave.on(plane)
    scalp = np.float32(anatomy.scalp_mm) * (1 + np.float32(0.18) * wave)
    picture.paint(cover, contrast, "skin")
    picture.paint(inside(head + _SKIN_MM, edge_mm), contrast, "fat")
    deep = inside(head + scalp, edge_mm)
    patches = anatomy.patches.on(plane)
    picture.paint(deep, contrast, "muscle")
    picture.paint(deep * inside(2 * (0.75 - patches), edge_mm), contrast, "fat")
    _paint_temporal_muscle(picture, contrast, points, head, edge_mm)
    _paint_skull(picture, anatomy, contrast, cavity, wave, patches, edge_mm)
    if points[2].min() < 10:
        _paint_face(picture, anatomy, contrast, points, patches, edge_mm)
    return picture


def _paint_temporal_muscle(
    picture: Picture, contrast: Contrast, points: np.ndarray, head: np.ndarray, edge_mm: float
) -> None:
    muscle = ellipsoid(_mirrored(points), (72, 16, -14), (11, 30, 34))
    picture.paint(inside(np.maximum(muscle, head + 2.5 * _SKIN_MM), edge_mm), contrast, "muscle")


def _paint_skull(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    cavity: np.ndarray,
    wave: np.ndarray,
    patches: np.ndarray,
    edge_mm: float,
) -> None:
    thickness = np.float32(anatomy.skull_mm) * (1 - np.float32(0.15) * wave)
    picture.paint(inside(cavity - thickness, edge_mm), contrast, "bone")
    marrow = np.float32(anatomy.marrow) * thickness * np.clip(1 + 0.35 * patches, 0.1, 1.5)
    picture.paint(0.9 * inside(np.abs(cavity - thickness / 2) - marrow / 2, edge_mm), contrast, "marrow")
    picture.paint(inside(cavity - 0.6, edge_mm), contrast, "dura")


def _paint_face(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    points: np.ndarray,
    patches: np.ndarray,
    edge_mm: float,
) -> None:
    mirrored = _mirrored(points)
    vertebrae = tube(mirrored, [(0, -32, -72), (0, -44, -180)], [13, 12])
    picture.paint(inside(vertebrae + patches, edge_mm), contrast, "marrow")
    picture.paint(inside(tube(mirrored, [(0, -48, -60), (0, -62, -180)], [10, 8]), edge_mm), contrast, "csf")
    picture.paint(inside(tube(mirrored, [(0, -46, -60), (0, -61, -180)], [6, 5]), edge_mm), contrast, "white")
    air = [tube(mirrored, [(3, 22, -50), (2, -2, -72), (2, -16, -140)], [5, 7, 8])]
    air.append(ellipsoid(mirrored, (7, 45, -42), (6, 22, 16)) + 2 * patches)
    air.append(ellipsoid(mirrored, (28, 46, -58), (13, 14, 14)))
    air.append(ellipsoid(mirrored, (10, 66, -14), (9, 5, 8)) + patches)
    air.append(ellipsoid(mirrored, (55, -30, -42), (8, 12, 14)) + 5 * np.abs(patches) - 1)
    for distance in air:
        if not anatomy.face:
            break
        picture.paint(inside(distance - 1.2, edge_mm), contrast, "mucosa")
        picture.clear(inside(distance, edge_mm))
    if anatomy.eyes:
        picture.paint(inside(ellipsoid(mirrored, (31, 50, -33), (17, 26, 16)), edge_mm), contrast, "fat")
        picture.paint(inside(tube(mirrored, [(31, 60, -33), (14, 28, -30)], [3.2, 3.0]), edge_mm), contrast, "muscle")
        picture.paint(inside(ellipsoid(mirrored, (32, 63, -33), (12.5, 12.5, 12.5)), edge_mm), contrast, "skin")
        picture.paint(inside(ellipsoid(mirrored, (32, 63, -33), (11.5, 11.5, 11.5)), edge_mm), contrast, "eye")
        picture.paint(inside(ellipsoid(mirrored, (32, 71.5, -33), (4.5, 2.2, 4.5)), edge_mm), contrast, "lens")


def _mirrored(points: np.ndarray) -> np.ndarray:
    return np.concatenate([np.abs(points[:1]), points[1:]])
