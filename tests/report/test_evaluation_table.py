"""The terminal table says what the numbers are."""

import math
import re

from result_rows import foreign_row, row, rows

from mrirecon.evaluation.summary import summarize
from mrirecon.report.text.evaluation_table import MAX_ROWS, evaluation_table


def table(results):
    return evaluation_table(results, summarize(results))


def test_every_number_has_its_definition():
    text = table(rows(6))
    for words in (
        "unet (best checkpoint)",
        "random mask",
        "4x (true 3.75x)",
        "fastmri-v1",
        "per volume",
        "6 volumes of 6 patients (measured 6)",
        "1 mask draw each",
        "in brackets the 95 % interval of the mean over patients",
        "paired difference",
        "AXT1",
    ):
        assert words in text


def test_a_row_per_volume_with_both_accelerations():
    lines = table(rows(3)).splitlines()
    first = next(line for line in lines if line.startswith("v0.h5"))
    assert re.split(r"\s+", first, maxsplit=5)[-1] == "0.8000  33.00  0.0200   0.7000    28.00   0.0500"
    assert first.split()[:5] == ["v0.h5", "AXT1", "12", "4", "3.75"]


def test_columns_line_up():
    block = table(rows(8, draws=2)).split("\n\n")[1].splitlines()[:-2]
    ends = [[m.end() for m in re.finditer(r"\S+(?: ± \S+)?(?=\s{2}|$)", line)] for line in block[1:]]
    assert all(e[2:] == ends[0][2:] for e in ends)


def test_zero_filled_stands_alone():
    results = [row(f"v{i}.h5", reconstructor="zero-filled", checkpoint="") for i in range(5)]
    text = table(results)
    assert "zf SSIM" not in text
    assert "paired" not in text
    assert "checkpoint" not in text


def test_foreign_images_have_no_comparison_and_no_nan():
    text = table([foreign_row(f"v{i}.h5") for i in range(6)])
    assert "theirs, undeclared mask, undeclared acceleration (true -), protocol fastmri-v1" in text
    assert "6 volumes of 6 patients (measured 6)\n" in text  # whether masks were drawn is not known
    line = next(line for line in text.splitlines() if line.startswith("v0.h5"))
    assert line.split() == ["v0.h5", "AXT2", "12", "undeclared", "-", "0.9000", "33.00", "0.0200"]
    for word in ("nan", "zf", "zero-filled", "paired", "draw"):
        assert word not in text


def test_declared_and_undeclared_accelerations_are_groups():
    text = table([foreign_row(f"v{i}.h5", acceleration=8.0 if i else float("nan")) for i in range(3)])
    assert "undeclared acceleration, 8x (true -)" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(("undeclared", "8x"))] == [
        ["undeclared", "acceleration:"],
        ["8x:", "2"],
    ]


def test_many_volumes_show_the_worst_and_best():
    text = table(rows(MAX_ROWS + 5))
    assert "6 worst and 4 best of 25" in text
    assert "v0.h5" in text
    assert "v24.h5" in text
    assert "v12.h5" not in text


def test_draws_show_mean_and_deviation():
    text = table(rows(3, draws=3))
    assert "0.8100 ± 0.0100" in text
    assert "SD over 3 mask draws" in text


def test_what_is_unknown_is_a_dash():
    text = table([row(psnr=float("inf"))])
    assert "inf" in text  # of the volume
    assert re.search(r"^  PSNR +-  ", text, re.MULTILINE)


def test_groups_of_one_volume_each_are_not_repeated():
    text = table([row(f"v{i}.h5", acquisition=f"A{i}") for i in range(3)])
    assert text.count("A1") == 1


def test_means_fit_on_a_screen():
    """A line for each metric, however many there are; the interval of each of three numbers takes 30 characters."""
    text = table(rows(8))
    groups = text.split("\n\n")[2].splitlines()
    assert max(map(len, groups)) <= 120
    assert groups[0].split() == ["mean", "±", "SD", "unet", "zero-filled", "paired", "difference"]
    assert groups[1] == "all: 8 volumes, 8 patients"
    assert [line.split()[0] for line in groups[2:5]] == ["SSIM", "PSNR", "NMSE"]
    assert groups[2].split().count("±") == 3  # its own, zero-filled, difference


def test_scores_that_are_not_finite_have_no_deviation_between_draws():
    """The statistics module raises an AttributeError for them."""
    results = [
        row(mask_draw=draw, psnr=psnr, ssim=ssim) for draw, psnr, ssim in ((0, math.inf, math.nan), (1, 30, 0.5))
    ]
    first = evaluation_table(results, summarize(results)).split("volume  ")[1].splitlines()[1]
    assert "inf" in first
    assert "nan" in first
    assert first.count("±") == 4  # NMSE, and three scores of the zero-filled image
