"""The figure of a range test shows its losses, the rate that was chosen, and nothing of what diverged."""

import numpy as np
import pytest
from PIL import Image

from mrirecon.report.figures.run_curves import draw_range_test, range_test_figure

LRS = np.geomspace(1e-5, 1.0, 30)
LOSSES = 0.2 + 0.1 * np.log10(LRS / 1e-2) ** 2
SMOOTHED = LOSSES * 1.01


def test_losses_and_the_chosen_rate_stand_in_their_places():
    (axes,) = range_test_figure(LRS, LOSSES, SMOOTHED, 3e-3).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["each step", "running mean", "chosen: 3.0e-03"]
    for name, values in (("each step", LOSSES), ("running mean", SMOOTHED)):
        np.testing.assert_array_equal(lines[name].get_xydata(), np.stack([LRS, values], axis=1))
    assert set(lines["chosen: 3.0e-03"].get_xdata()) == {3e-3}
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_a_divergence_does_not_set_the_scale():
    """The last losses of a range test are huge or NaN; the valley must stay in view."""
    losses = LOSSES.copy()
    losses[-3:] = [1e12, np.inf, np.nan]
    low, high = range_test_figure(LRS, losses, SMOOTHED, 3e-3).axes[0].get_ylim()
    assert (low, high) == pytest.approx((0.7 * LOSSES.min(), 4 * LOSSES[0]))


def test_losses_that_are_not_positive_have_a_linear_axis():
    (axes,) = range_test_figure(LRS, LOSSES - 0.3, SMOOTHED - 0.3, 3e-3).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


def test_the_file_is_the_figure(tmp_path):
    draw_range_test(tmp_path / "range.png", LRS, LOSSES, SMOOTHED, 3e-3)
    with Image.open(tmp_path / "range.png") as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    orange = np.abs(found - (255, 127, 14)).max(axis=-1) < 12  # of the chosen rate
    assert found.shape[:2] == (360, 640)
    assert orange.any(axis=1).sum() > 200  # a line from the bottom to the top of the axes
