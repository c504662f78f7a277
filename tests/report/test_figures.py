"""Curves of a training are drawn, whatever there is of them yet."""

import pytest
from PIL import Image

from mrirecon.report.figures.run_curves import draw_curves


@pytest.mark.parametrize("validated", [([], []), ([100, 200], [0.7, 0.8])])
def test_curves(tmp_path, validated):
    draw_curves(tmp_path / "curves.png", ([10, 20, 30], [1.0, 0.5, 0.25]), validated, "run")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] > image.size[1] > 200


def test_curves_of_a_run_that_has_not_begun(tmp_path):
    draw_curves(tmp_path / "curves.png", ([], []), ([], []))
    assert (tmp_path / "curves.png").is_file()
