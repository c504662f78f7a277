"""Figures show images as stored, unresampled, on one grey scale, and their errors on one scale of colours."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mrirecon.report.figures.slices import Panel, SliceFigure, draw_slice, error_scale

GAP, TOP, CAPTION, COLUMN = 8, 48, 24, 270  # screen pixels


def drawn(tmp_path, figure):
    path = tmp_path / "figure.png"
    draw_slice(path, figure)
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def cell(pixels, shape, row, column):
    """The panel's pixels, one per image pixel, found from the layout."""
    zoom = max(1, min(-(-250 // shape[1]), 1280 // shape[0]))
    h, w = shape[0] * zoom, shape[1] * zoom
    top, left = TOP + row * (h + CAPTION), GAP + column * (max(w, COLUMN) + GAP) + (max(w, COLUMN) - w) // 2
    panel = pixels[top : top + h, left : left + w]
    assert (panel == panel[::zoom, ::zoom].repeat(zoom, axis=0).repeat(zoom, axis=1)).all()  # squares
    return panel[::zoom, ::zoom]


def grey(values, white):
    return np.round(255 * np.clip(values / white, 0, 1))[..., None]


def colours(errors, top):
    """By matplotlib itself."""
    return np.round(255 * matplotlib.colormaps["inferno"](np.round(255 * np.clip(errors / top, 0, 1)).astype(int)))[
        ..., :3
    ]


@pytest.mark.parametrize("scale", [1e-12, 5e-8, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(60, 44), (33, 64), (100, 300), (8, 500), (700, 7), (7, 7)])
def test_panels_are_the_images_and_their_errors_each_on_one_scale(tmp_path, shape, scale):
    rng = np.random.default_rng(0)
    target = rng.random(shape)
    target[0, :] = 0.5  # row 0 is on top
    images = [target + sd * rng.standard_normal(shape) for sd in (0.3, 0.02, 0.1)]
    panels = [Panel(name, image * scale) for name, image in zip("abc", images, strict=True)]
    pixels = drawn(tmp_path, SliceFigure(target * scale, panels))
    white = np.percentile(target, 99)
    top = max(np.percentile(np.abs(image - target), 99) for image in images)
    assert np.abs(cell(pixels, shape, 0, 0) - grey(target, white)).max() <= 1
    for column, image in enumerate(images, 1):
        assert np.abs(cell(pixels, shape, 0, column) - grey(image, white)).max() <= 1
        found, expected = cell(pixels, shape, 1, column), colours(np.abs(image - target), top)
        assert (found != expected).any(axis=-1).mean() < 0.01  # of rounding
        assert np.abs(found - expected).max() <= 8


@pytest.mark.parametrize("acceleration", [4, 8])
def test_of_an_undersampled_image_few_errors_are_at_the_end_of_the_scale(tmp_path, acceleration):
    """As under the error maps of old, which were white all over."""
    y, x = np.mgrid[-1:1:96j, -1:1:80j]
    target = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * (1 + 0.3 * np.cos(9 * x + 7 * y))
    kspace = np.fft.fftshift(np.fft.fft2(target))
    kept = np.random.default_rng(1).random(80) < 1 / acceleration
    kept[40 - 80 // (6 * acceleration) : 40 + 80 // (6 * acceleration)] = True
    image = np.abs(np.fft.ifft2(np.fft.ifftshift(kspace * kept)))
    errors = cell(drawn(tmp_path, SliceFigure(target, [Panel("zero-filled", image)])), target.shape, 1, 1)
    brightest = (errors == colours(np.ones(1), 1)).all(axis=-1).mean()
    assert 0.005 < brightest < 0.015
    assert len(np.unique(errors.reshape(-1, 3), axis=0)) > 200


def test_the_scale_is_that_of_the_worst_method_in_words_and_numbers():
    target = np.linspace(0, 4, 1000).reshape(20, 50)
    scale = error_scale([("zero-filled", np.full((20, 50), 0.1)), ("unet", np.linspace(0, 2, 1000))], target)
    assert str(scale) == "0 to 49.5 % of the target's maximum, the 99th percentile of unet"
    assert [text for _, text in scale.ticks()] == ["0 %", "10 %", "20 %", "30 %", "40 %"]
    for place, text in scale.ticks():
        assert place * 49.5 == pytest.approx(float(text.split()[0]))


@pytest.mark.parametrize("factor", [1e-12, 3.7e-5, 0.99, 1.0, 1.01, 12, 1e12])
def test_ticks_are_few_round_and_on_the_scale(factor):
    scale = error_scale([("a", np.full((4, 4), factor))], np.zeros((4, 4)))
    places, texts = zip(*scale.ticks(), strict=True)
    assert 3 <= len(texts) <= 6
    assert places[0] == 0
    assert places[-1] <= 1
    assert all(float(text) == pytest.approx(place * factor) for place, text in scale.ticks())
    assert all(len(f"{float(text):e}".partition("e")[0].rstrip("0")) <= 3 for text in texts)  # one digit, or a half


def test_without_any_error_the_map_is_black_and_says_so(tmp_path):
    target = np.random.default_rng(0).random((40, 40))
    pixels = drawn(tmp_path, SliceFigure(target, [Panel("a", target)]))
    assert (cell(pixels, (40, 40), 1, 1) == colours(np.zeros(1), 1)).all()
    assert "no error anywhere" in str(error_scale([("a", target * 0)], target))


def test_a_single_wrong_pixel_is_seen(tmp_path):
    target = np.ones((40, 40))
    image = target.copy()
    image[10, 20] = 1.5
    errors = cell(drawn(tmp_path, SliceFigure(target, [Panel("a", image)])), (40, 40), 1, 1)
    assert np.argwhere((errors == colours(np.ones(1), 1)).all(axis=-1)).tolist() == [[10, 20]]
    assert str(error_scale([("a", image - target)], target)).endswith(
        "0 to 50 % of the target's maximum, the largest error of a"
    )


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_black_target_is_drawn_with_errors_in_its_units(tmp_path, value):
    zeros = np.zeros((40, 40))
    figure = SliceFigure(zeros, [Panel("a", zeros + value, "SSIM nan")], "title", ["note"])
    assert drawn(tmp_path, figure).max() == 255
    assert "0 to 0.5 in the target's units" in str(error_scale([("a", zeros + 0.5)], zeros))


def test_names_and_titles_without_room_are_cut(tmp_path):
    image = np.random.default_rng(0).random((40, 40))
    short = drawn(tmp_path, SliceFigure(image, [Panel("a", image)], "title"))
    long = drawn(tmp_path, SliceFigure(image, [Panel("a\nb" * 90, image, 300 * "c")], 300 * "t", []))
    assert long.shape == short.shape
    assert (long[:, :2] == 255).all()
    assert (long[:, -2:] == 255).all()


def test_equal_input_gives_equal_files(tmp_path):
    image = np.random.default_rng(0).random((40, 40))
    for name in ("a.png", "b.png"):
        draw_slice(tmp_path / name, SliceFigure(image, [Panel("zero-filled", image)]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
