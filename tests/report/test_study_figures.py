"""Figures and example images of a study show its numbers in their places and are files that open."""

import base64
import io
from copy import deepcopy
from xml.etree import ElementTree

import numpy as np
import pytest
from fake_slices import fake_examples
from fake_study import FACTORS, FIVE_BY_FIVE, HOSTILE, ONE_FACTOR, fake_study
from PIL import Image

from mrirecon.report.figures.drawing import as_svg
from mrirecon.report.figures.study import (
    comparison_names,
    draw_heat_map,
    draw_volumes,
    study_figures,
    write_study_figures,
)
from mrirecon.report.figures.study_curves import draw_lr_sensitivity, draw_profile
from mrirecon.report.pages.study_page import example_images


@pytest.fixture(scope="module")
def study():
    return fake_study()


def test_figures_are_files_that_open(tmp_path):
    files = write_study_figures(fake_study(ONE_FACTOR, n_seeds=1), tmp_path)
    names = {file.stem for file in files}
    assert {"heat-map", "curve-ssim", "lr-sensitivity", "best-of-k", "volumes", "effects-1"} <= names
    for file in files:
        if file.suffix == ".svg":
            assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            with Image.open(file) as image:
                assert min(image.size) > 100
    assert sorted(files) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("factors", [FIVE_BY_FIVE, {"optimizer": ["sgd", "adam"], "norm": ["batch"], "r": ["4", "8"]}])
def test_large_and_odd_grids_show_every_cell(factors):
    study = fake_study(factors, n_seeds=2, n_volumes=3)
    drawn = {f.name: f.draw() for f in study_figures(study) if f.name in ("heat-map", "curve-ssim", "volumes")}
    shown = [text.get_text() for axes in drawn["heat-map"].axes for text in axes.texts]
    scores = [f"{cell['final']['ssim']['mean']:.4f}" for cell in study["cells"]]
    assert sorted(text for text in shown if text.startswith("0.")) == sorted(scores)

    second = [name for name, levels in factors.items() if len(levels) > 1][1]
    panels = {axes.get_title(loc="left"): axes for axes in drawn["curve-ssim"].axes if axes.get_visible()}
    assert list(panels) == [f"{second}: {level}" for level in factors[second]]
    for title, axes in panels.items():
        cells = [cell for cell in study["cells"] if f"{second}: {cell['levels'][second]}" == title]
        curves = [
            line.get_ydata() for line in axes.get_lines() if len(line.get_xdata()) == len(cells[0]["curve"]["steps"])
        ]
        np.testing.assert_allclose(curves, [cell["curve"]["ssim"]["median"] for cell in cells])

    left = drawn["volumes"].axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == [cell["cell"] for cell in study["cells"]]
    dots = [collection.get_offsets() for collection in left.collections]
    for y, (cell, points) in enumerate(zip(study["cells"], dots, strict=True)):
        np.testing.assert_allclose(points, [(value, y) for value in cell["volumes"]["ssim"]])


@pytest.mark.parametrize("factors", [FACTORS, ONE_FACTOR])
def test_the_heat_map_has_each_cell_in_its_place(factors):
    study = fake_study(factors)
    axes = draw_heat_map(study).axes[0]
    columns, rows = ([t.get_text() for t in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels()))
    found = {(round(t.get_position()[0]), round(t.get_position()[1] + 0.01), t.get_text()) for t in axes.texts}
    for cell in study["cells"]:
        row, column = (["", *cell["levels"].values()])[-2:]
        score = cell["final"]["ssim"]
        place = (columns.index(column), rows.index(row))
        assert (*place, f"{score['mean']:.4f}") in found
        interval = f"[{score['low']:.4f}, {score['high']:.4f}]" + "  edge" * bool(cell["edge"])
        assert (*place, interval) in found


def test_the_profile_is_the_share_of_seeds_that_are_there(study):
    share = study["targets"][0]["share"]
    figure, at = draw_profile(study, share), (60.5, 120.5, 180.5, 290.5)
    for axes, norm in zip(figure.axes, FACTORS["norm"], strict=True):
        cells = [cell for cell in study["cells"] if cell["levels"]["norm"] == norm]
        for line, cell in zip(axes.get_lines(), cells, strict=True):
            steps = np.array(cell["times"][0]["per_seed"], dtype=float)  # NaN: never
            places = np.searchsorted(line.get_xdata(), at, side="right") - 1
            np.testing.assert_allclose(line.get_ydata()[places], [np.mean(steps <= s) for s in at])


def test_the_lr_figure_marks_winner_and_divergence(study):
    axes = draw_lr_sensitivity(study).axes[0]
    cells = [cell for cell in study["cells"] if cell["levels"]["norm"] == "batch"]
    stars = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if line.get_marker() == "*"}
    unmarked = [line for line in axes.get_lines() if line.get_marker() == "None"]
    walls = {line.get_xdata()[0] for line in unmarked if len(set(line.get_xdata())) == 1}
    for cell in cells:
        trials = [t for t in cell["tuning"]["trials"] if t["loss"] is not None]
        best = min(trials, key=lambda t: t["loss"])
        assert (best["values"]["optimizer.lr"], best["loss"]) in stars
        assert cell["sweep"]["lr_diverged"] in walls


def test_volumes_are_paired_by_name(study):
    shuffled = deepcopy(study)
    volumes = shuffled["cells"][1]["volumes"]
    for key in volumes:
        volumes[key] = volumes[key][::-1]
    plain, turned = draw_volumes(study).axes[1], draw_volumes(shuffled).axes[1]
    for first, second in zip(plain.collections[-9:], turned.collections[-9:], strict=True):
        np.testing.assert_allclose(first.get_offsets(), second.get_offsets())
    by_hand = np.subtract(study["cells"][0]["volumes"]["ssim"], study["cells"][-1]["volumes"]["ssim"])
    np.testing.assert_allclose(plain.collections[-9].get_offsets()[:, 0], by_hand)


def decoded(uri):
    kind, content = uri.split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_examples_are_on_one_grey_scale_and_errors_on_one_of_colours(study, scale):
    examples = fake_examples(study)
    scaled = {
        **{key: examples[key] * np.float32(scale) for key in ("target", "zero_filled")},
        "slices": examples["slices"],
        "cells": {name: image * np.float32(scale) for name, image in examples["cells"].items()},
    }
    shown = example_images(scaled)
    assert [image["name"] for image in shown["images"]] == ["zero-filled", *examples["cells"]]
    for i, target in enumerate(examples["target"].astype(float)):
        white = np.percentile(target, 99.5)
        assert np.abs(decoded(shown["target"][i]) - 255 * np.clip(target / white, 0, 1)).max() <= 1
        for image in shown["images"]:
            original = examples["cells"].get(image["name"], examples["zero_filled"])[i].astype(float)
            error = np.abs(original - target)
            assert np.abs(decoded(image["pictures"][i]) - 255 * np.clip(original / white, 0, 1)).max() <= 1
            zero_filled = np.abs(examples["zero_filled"][i].astype(float) - target)
            top = np.percentile(zero_filled, 99)
            assert np.abs(decoded(image["errors"][i]) - 255 * np.clip(error / top, 0, 1)).max() <= 1
            assert f"0 to {100 * top / target.max():.3g} % of the target's maximum" in shown["scales"][i]
            assert "the 99th percentile of zero-filled" in shown["scales"][i]
            assert image["relative"][i] == pytest.approx(np.sqrt((error**2).sum() / (target**2).sum()), rel=1e-4)


def test_errors_of_examples_have_the_colours_of_their_bar(study):
    shown = example_images(fake_examples(study))
    with Image.open(io.BytesIO(base64.b64decode(shown["images"][0]["errors"][0].partition(",")[2]))) as image:
        colours = set(map(tuple, np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()))
    with Image.open(io.BytesIO(base64.b64decode(shown["bars"][0].partition(",")[2]))) as bar:
        assert len(colours & set(map(tuple, np.asarray(bar).reshape(-1, 3).tolist()))) > 100


def test_a_failed_cell_does_not_darken_the_errors_of_others(study):
    examples = fake_examples(study)
    failed = {**examples, "cells": {**examples["cells"], "failed": np.full_like(examples["target"], np.nan)}}
    failed["cells"]["failed"][1] = 1e6
    before, after = example_images(examples), example_images(failed)
    assert after["images"][:-1] == before["images"]
    assert decoded(after["images"][-1]["errors"][0]).min() == 255


def test_black_and_large_examples_can_be_shown():
    zeros = np.zeros((1, 900, 40), np.float32)
    shown = example_images({"slices": ["a"], "target": zeros, "zero_filled": zeros + 1, "cells": {"x": zeros}})
    assert decoded(shown["target"][0]).shape == (300, 14)
    assert shown["images"][1]["relative"] == [None]


def test_a_name_in_any_script_is_drawn():
    names = ["最急降下法", "_hidden", "$x_1$", HOSTILE]
    study = fake_study({"optimizer": names}, n_seeds=2, n_volumes=3)
    figures = {f.name: f.draw() for f in study_figures(study) if f.name in ("curve-ssim", "heat-map", "effects-1")}
    assert len(figures["curve-ssim"].legends[0].get_texts()) == len(names)
    assert all(as_svg(figure).startswith("<?xml") for figure in figures.values())


def test_lines_that_stay_below_zero_filled_end_inside_the_picture():
    study = fake_study(FACTORS, n_seeds=4, n_volumes=3)
    study["zero_filled"]["ssim"] = max(v for c in study["cells"] for v in c["curve"]["ssim"]["high"]) - 1e-3
    (drawn,) = (figure.draw() for figure in study_figures(study) if figure.name == "curve-ssim")
    low, high = drawn.axes[0].get_ylim()
    for cell in study["cells"]:
        assert low < cell["curve"]["ssim"]["median"][-1] < high
    starts = [cell["curve"]["ssim"]["median"][0] for cell in study["cells"]]
    assert min(starts) < low  # the start of a training is cut off all the same


def test_accelerations_are_told_apart_and_means_over_them_said():
    two = fake_study(n_seeds=3, n_volumes=4)
    family = two["families"][0]
    family["comparisons"] = [{**c, "at": at} for c in family["comparisons"][:2] for at in ("4x", "8x")]
    names = comparison_names(family)
    assert names == [f"{c['first']} at {c['at']}" for c in family["comparisons"]]
    captions = {figure.name: figure.caption for figure in study_figures(two)}
    assert "Means of" not in captions["heat-map"]
    two["data"]["acceleration"] = [4.0, 8.0]
    captions = {figure.name: figure.caption for figure in study_figures(two)}
    assert captions["heat-map"].endswith("Means of 4x and 8x.")
    assert captions["volumes"].endswith("Means of 4x and 8x.")
