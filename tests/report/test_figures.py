"""Figures show images as stored, unresampled and on one grey scale."""

import numpy as np
import pytest
from PIL import Image

from mrirecon.report.figures import ERROR_GAIN, Panel, SliceFigure, draw_curves, draw_slice


def drawn(tmp_path, figure):
    path = tmp_path / "figure.png"
    draw_slice(path, figure)
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def cell(pixels, shape, row, column, columns):
    """The panel's pixels, one per image pixel, found from the layout the docstring promises."""
    zoom = -(-250 // shape[1])
    h, w = shape[0] * zoom, shape[1] * zoom
    gap = (pixels.shape[1] - columns * w) // (columns + 1)
    top = (pixels.shape[0] - 24 - h) if row else (pixels.shape[0] - 2 * (24 + h))
    left = gap + column * (w + gap)
    return pixels[top : top + h : zoom, left : left + w : zoom].astype(int)


@pytest.mark.parametrize("scale", [5e-8, 1.0, 150.0])
@pytest.mark.parametrize("shape", [(60, 44), (33, 64), (100, 300)])
def test_panels_are_the_images_on_one_scale(tmp_path, shape, scale):
    rng = np.random.default_rng(0)
    target = rng.random(shape)
    target[0, :] = 0.5  # row 0 is on top
    image = target + 0.02 * rng.standard_normal(shape)
    figure = SliceFigure(target * scale, [Panel("a", image * scale), Panel("b", image * scale)])
    pixels = drawn(tmp_path, figure)
    white = np.percentile(target, 99)

    def grey(values):
        return np.clip(np.floor(256 * values / white), 0, 255)

    assert np.abs(cell(pixels, shape, 0, 0, 3) - grey(target)).max() <= 1
    for column in (1, 2):
        assert np.abs(cell(pixels, shape, 0, column, 3) - grey(image)).max() <= 1
        error = ERROR_GAIN * np.abs(image - target)
        assert np.abs(cell(pixels, shape, 1, column, 3) - grey(error)).max() <= 1


def test_a_black_target_is_drawn(tmp_path):
    zeros = np.zeros((40, 40))
    assert drawn(tmp_path, SliceFigure(zeros, [Panel("a", zeros, "SSIM nan")], "title", ["note"])).max() == 255


def test_equal_input_gives_equal_files(tmp_path):
    image = np.random.default_rng(0).random((40, 40))
    for name in ("a.png", "b.png"):
        draw_slice(tmp_path / name, SliceFigure(image, [Panel("zero-filled", image)]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("validated", [([], []), ([100, 200], [0.7, 0.8])])
def test_curves(tmp_path, validated):
    draw_curves(tmp_path / "curves.png", ([10, 20, 30], [1.0, 0.5, 0.25]), validated, "run")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] > image.size[1] > 200


def test_curves_of_a_run_that_has_not_begun(tmp_path):
    draw_curves(tmp_path / "curves.png", ([], []), ([], []))
    assert (tmp_path / "curves.png").is_file()
