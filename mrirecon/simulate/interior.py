"""The brain: cortex, white matter, deep nuclei, ventricles, cerebellum, brain stem, lesions."""

import numpy as np

from mrirecon.simulate.anatomy import Anatomy
from mrirecon.simulate.contrast import Contrast
from mrirecon.simulate.picture import Picture
from mrirecon.simulate.plane import Plane
from mrirecon.simulate.shapes import ellipsoid, inside, smooth_min, tube

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
    plane: Plane,
    points: np.ndarray,
    cavity: np.ndarray,
    edge_mm: float,
) -> None:
    """Paint what the skull holds over `picture`, in place; `cavity` is the distance to the skull's inner face."""
    picture.paint(inside(cavity, edge_mm), contrast, "csf")
    wave = anatomy.asymmetry.on(plane)
    bent = np.concatenate([np.abs(points[:1] + 1.2 * wave), points[1:]])  # both sides, not quite alike
    bent[1] += 2 * wave
    hindbrain = _hindbrain(anatomy, bent)
    depth = -cavity - np.float32(anatomy.csf_mm) * (1 + np.float32(0.4) * wave)
    fluid = anatomy.cortex.fluid_distance(plane, points, depth, anatomy.cerebrum_center)
    fluid = np.minimum(fluid, hindbrain - 2.0)
    picture.paint(inside(-fluid, edge_mm), contrast, "grey")
    picture.paint(inside(np.float32(anatomy.cortex.grey_mm) - fluid, 1.3 * edge_mm), contrast, "white")
    _paint_deep(picture, anatomy, contrast, bent, fluid, edge_mm)
    if points[2].min() < 10:
        _paint_hindbrain(picture, anatomy, contrast, plane, bent, cavity, edge_mm)
    _paint_lesions(picture, anatomy, contrast, points, fluid, wave, edge_mm)


def _paint_deep(
    picture: Picture, anatomy: Anatomy, contrast: Contrast, bent: np.ndarray, fluid: np.ndarray, edge_mm: float
) -> None:
    within = inside(-fluid, edge_mm)
    for tissue, center, radii in _NUCLEI:
        picture.paint(within * inside(ellipsoid(bent, center, radii), 1.6 * edge_mm), contrast, tissue)
    pallidum = inside(ellipsoid(bent, (19, -3, 0), (4.5, 9, 7)), 1.6 * edge_mm)
    picture.paint(within * pallidum, contrast, "nucleus", anatomy.iron)
    picture.paint(inside(_ventricles(anatomy, bent), edge_mm), contrast, "csf")


def _ventricles(anatomy: Anatomy, bent: np.ndarray) -> np.ndarray:
    wide = anatomy.ventricle
    horns = [(14, 34, 6), (7, 20, 14), (8, -8, 22), (17, -34, 16), (22, -54, 8)]
    body = tube(bent, horns, [2.2 * wide, 4.2 * wide, 4.4 * wide, 6.5 * wide, 2.0 * wide])
    temporal = tube(bent, [(20, -36, 8), (33, -22, -14), (30, -2, -19)], [4.5 * wide, 2.0 * wide, 1.2 * wide])
    third = ellipsoid(bent, (0, -10, 0), (1.0 + 2.0 * wide, 14, 11))
    return np.minimum(smooth_min(body, temporal, 3.0), third)


def _hindbrain(anatomy: Anatomy, bent: np.ndarray) -> np.ndarray:
    """Distance to cerebellum and brain stem."""
    cerebellum = ellipsoid(bent, anatomy.fossa_center, anatomy.fossa_radii - 4)
    return np.minimum(cerebellum, _stem(bent))


def _stem(bent: np.ndarray) -> np.ndarray:
    midbrain = tube(bent, [(6, -22, -6), (3, -26, -18), (0, -24, -30), (0, -32, -50), (0, -44, -66)], [9, 11, 14, 9, 6])
    return midbrain


def _paint_hindbrain(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    plane: Plane,
    bent: np.ndarray,
    cavity: np.ndarray,
    edge_mm: float,
) -> None:
    cerebellum = np.maximum(ellipsoid(bent, anatomy.fossa_center, anatomy.fossa_radii - 4), cavity + 2)
    stripes = anatomy.folia.on(plane)
    sheet = np.abs(stripes) * 1.4
    picture.paint(inside(cerebellum - 1.5, edge_mm), contrast, "csf")
    leaf = np.maximum(cerebellum, np.minimum(0.45 - sheet, 8 + cerebellum))
    picture.paint(inside(leaf, edge_mm), contrast, "grey")
    core = np.maximum(cerebellum + 3.5, 1.25 + 6 / (1 - np.minimum(cerebellum, 0)) - sheet)
    core = np.minimum(core, ellipsoid(bent, (16, -50, -36), (14, 13, 8)))
    picture.paint(inside(core, edge_mm), contrast, "white")
    stem = np.maximum(_stem(bent), cavity - 20)
    picture.paint(inside(stem - 2, edge_mm) * inside(cavity, edge_mm), contrast, "csf")
    picture.paint(inside(stem, edge_mm), contrast, "white", 0.96)
    fourth = ellipsoid(bent, (0, -40, -34), (5 * anatomy.ventricle, 4.5, 11))
    picture.paint(inside(fourth, edge_mm), contrast, "csf")


def _paint_lesions(
    picture: Picture,
    anatomy: Anatomy,
    contrast: Contrast,
    points: np.ndarray,
    fluid: np.ndarray,
    wave: np.ndarray,
    edge_mm: float,
) -> None:
    within = inside(1.5 - fluid, edge_mm)
    for lesion in anatomy.lesions:
        distance = ellipsoid(points, lesion.center, lesion.radii)
        if distance.min() > 3:
            continue
        distance = distance + np.float32(0.15 * lesion.radii.mean()) * wave
        picture.paint(within * inside(distance, 1.5 * edge_mm), contrast, "lesion")
        if lesion.core:
            distance = ellipsoid(points, lesion.center, lesion.radii * lesion.core)
            picture.paint(within * inside(distance, edge_mm), contrast, "core")
