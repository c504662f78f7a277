"""A montage shows every slice, unresampled or averaged, on one grey scale that it names."""

import numpy as np
import pytest
from PIL import Image

from mrirecon.report.figures.slices import draw_montage

GAP, LABEL, HEAD = 6, 16, 44  # pixels between tiles, above each, above all


def drawn(path):
    with Image.open(path) as picture:
        assert picture.mode == "L"
        return np.asarray(picture).astype(int)


def tiles(pixels, n, h, w):
    """The slices cut out of a picture whose tiles are `h` x `w`, in the order in which they stand."""
    columns = (pixels.shape[1] - GAP) // (w + GAP)
    for i in range(n):
        row, column = divmod(i, columns)
        top, left = HEAD + LABEL + row * (h + LABEL + GAP), GAP + column * (w + GAP)
        yield pixels[top : top + h, left : left + w]


def grey(images):
    return np.round(255 * np.clip(images / np.percentile(images, 99.5), 0, 1))


@pytest.mark.parametrize("scale", [5e-8, 150.0])
@pytest.mark.parametrize(
    ("shape", "zoom"), [((1, 400, 500), 1), ((4, 96, 160), 4), ((10, 196, 128), 2), ((60, 150, 150), 1)]
)
def test_every_pixel_is_a_square_of_its_grey(tmp_path, shape, zoom, scale):
    images = np.random.default_rng(0).random(shape)
    images[-1] *= 0.5  # one scale for all
    draw_montage(tmp_path / "a.png", (images * scale).astype(np.float32), "title")
    zoomed = np.kron(grey(images), np.ones((1, zoom, zoom)))
    for tile, expected in zip(tiles(drawn(tmp_path / "a.png"), *zoomed.shape), zoomed, strict=True):
        assert np.abs(tile - expected).max() <= 1


def test_large_volumes_are_averaged(tmp_path):
    images = np.random.default_rng(0).random((40, 641, 400))
    draw_montage(tmp_path / "a.png", images)
    padded = np.pad(images, ((0, 0), (0, 1), (0, 0)), "edge")
    means = sum(padded[:, i::2, j::2] for i in range(2) for j in range(2)) / 4
    expected = np.round(255 * np.clip(means / np.percentile(images, 99.5), 0, 1))
    for tile, mean in zip(tiles(drawn(tmp_path / "a.png"), *means.shape), expected, strict=True):
        assert np.abs(tile - mean).max() <= 1


@pytest.mark.parametrize("n", [1, 2, 7, 16, 35, 60])
@pytest.mark.parametrize("shape", [(64, 64), (640, 320), (20, 181), (217, 30)])
def test_slices_are_large_enough_and_pictures_fit_a_screen(tmp_path, n, shape):
    draw_montage(tmp_path / "a.png", np.zeros((n, *shape), np.float32))
    pixels = drawn(tmp_path / "a.png")
    assert pixels.shape[1] <= 3200
    assert pixels.shape[0] <= 2400 + HEAD
    zoom = ((pixels == 0).sum() / (n * shape[0] * shape[1])) ** 0.5
    assert 120 < zoom * max(shape) < 700


def test_a_long_title_is_not_cut_off(tmp_path):
    for title in ("short", 200 * "x"):
        draw_montage(tmp_path / f"{title[:5]}.png", np.ones((1, 16, 16)), title)
    assert drawn(tmp_path / "xxxxx.png").shape[1] > drawn(tmp_path / "short.png").shape[1]
    assert (drawn(tmp_path / "xxxxx.png")[:, -GAP:] == 255).all()


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_black_volumes_are_drawn(tmp_path, value):
    draw_montage(tmp_path / "a.png", np.full((2, 16, 16), value, np.float32))
    for tile in tiles(drawn(tmp_path / "a.png"), 2, 640, 640):
        assert not tile.any()


def test_facts_are_text_chunks(tmp_path):
    draw_montage(tmp_path / "a.png", np.ones((1, 16, 16)), facts={"source": "größer.h5", "source_bytes": 12})
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info == {"source": "größer.h5", "source_bytes": "12"}
