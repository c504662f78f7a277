"""The brain: cortex, white matter, deep nuclei, ventricles, cerebellum, brain stem, lesions."""

import numpy as np

from mrirecon.simulate.head.anatomy import Anatomy
from mrirecon.simulate.head.contrast import Contrast
from mrirecon.simulate.head.painting import Cut, Picture, ellipsoid, inside, smooth_min, tube

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
