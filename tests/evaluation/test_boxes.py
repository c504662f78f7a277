"""Scores inside boxes equal scikit-image's, and their means are what the package says of means."""

import math

import numpy as np
import pytest
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from mrirecon.evaluation import bootstrap_ci
from mrirecon.evaluation.metrics import SlicePair, Target
from mrirecon.evaluation.regions import Box, RegionResult, means_by_label, score_box, write_regions


def box(x, y, width, height, label="", file="a.h5", annotation=1):
    return Box(file, 0, label, x, y, width, height, annotation)


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    target = rng.random((110, 70))  # more rows than a strip has
    return SlicePair(Target(target, 1.7), target + 0.2 * rng.standard_normal(target.shape))


@pytest.mark.parametrize(
    "where",
    [(20, 30, 12, 9), (0, 0, 70, 110), (0, 0, 5, 5), (60, 100, 10, 10), (40, 44, 3, 60), (30, 30, 1, 1)],
    ids=str,
)
def test_scores_in_a_box_equal_scikit_images(pair, where):
    x, y, width, height = where
    rows, columns = slice(y, y + height), slice(x, x + width)
    target, image = pair.target.values, pair.image
    _, full = structural_similarity(target, image, data_range=1.7, full=True)
    full[:3] = full[-3:] = full[:, :3] = full[:, -3:] = np.nan  # windows that reach over the edge
    scores, n_windows = score_box(pair, box(*where))
    inside = full[rows, columns]
    assert n_windows == np.isfinite(inside).sum() > 0
    assert scores["ssim"] == pytest.approx(np.nanmean(inside), rel=1e-9)
    parts = target[rows, columns], image[rows, columns]
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(*parts, data_range=1.7), rel=1e-12)
    assert scores["nmse"] == pytest.approx(normalized_root_mse(*parts) ** 2, rel=1e-12)


def test_scores_in_a_mask_equal_scikit_images_of_its_pixels(pair):
    y, x = np.mgrid[:110, :70]
    ring = np.abs(np.hypot(y - 50, x - 30) - 12) < 4
    target, image = pair.target.values, pair.image
    _, full = structural_similarity(target, image, data_range=1.7, full=True)
    scores, n_windows = score_box(pair, box(10, 30, 50, 50), ring)
    ring[:, :10] = ring[:30] = ring[80:] = ring[:, 60:] = False
    assert n_windows == ring.sum()
    assert scores["ssim"] == pytest.approx(full[ring].mean(), rel=1e-9)
    parts = target[ring], image[ring]
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(*parts, data_range=1.7), rel=1e-12)
    assert scores["nmse"] == pytest.approx(normalized_root_mse(*parts) ** 2, rel=1e-12)


def test_a_box_within_three_pixels_of_the_edge_has_no_ssim_but_the_others(pair):
    scores, n_windows = score_box(pair, box(0, 0, 70, 3))
    assert n_windows == 0
    assert math.isnan(scores["ssim"])
    assert math.isfinite(scores["psnr"])
    assert math.isfinite(scores["nmse"])


def results(n_patients, n_draws=2):
    """Two labels; a score that depends on patient, box and draw, and is one lower for the zero-filled image."""
    made = []
    for p in range(n_patients):
        for k, label in enumerate(("Tear", "Tear", "Edema")):
            for draw in range(n_draws):
                value = p + 0.1 * k + 0.01 * draw * p
                scores = {"ssim": value, "psnr": 30 + value, "nmse": value / 10}
                reference = {name: number - 1 - p / 100 for name, number in scores.items()}
                where = box(k, k, 8, 8, label, f"p{p}.h5", k)
                made.append(RegionResult(where, f"p{p}", draw, 4, scores, reference))
    return made


def test_means_by_label_are_over_boxes_and_intervals_over_patients():
    rows = results(6)
    means = means_by_label(rows, seed=3)
    assert list(means) == ["Edema", "Tear"]
    tear = [r for r in rows if r.box.label == "Tear"]
    assert (means["Tear"]["n_boxes"], means["Tear"]["n_patients"], means["Tear"]["n_ssim"]) == (12, 6, 12)
    over_draws = np.array([r.scores["ssim"] for r in tear]).reshape(12, 2).mean(1)
    found = means["Tear"]["ssim"]
    assert found["mean"] == pytest.approx(over_draws.mean())
    assert found["sd"] == pytest.approx(over_draws.std(ddof=1))
    interval = bootstrap_ci([r.scores["ssim"] for r in tear], [r.patient for r in tear], 0.95, 3)
    assert (found["low"], found["high"]) == interval
    differences = [1 + p / 100 for p in range(6)]
    assert means["Tear"]["difference_psnr"]["mean"] == pytest.approx(np.mean(differences))


def test_four_patients_give_no_interval():
    described = means_by_label(results(4))["Tear"]["ssim"]
    assert described["low"] is described["high"] is None
    assert described["mean"] is not None


def test_boxes_without_ssim_stay_out_of_its_mean_alone():
    rows = results(5, n_draws=1)
    none = RegionResult(
        box(0, 0, 9, 2, "Tear", "p0.h5", 9), "p0", 0, 0, *[{"ssim": math.nan, "psnr": 1, "nmse": 1}] * 2
    )
    with_it, without = (means_by_label(given)["Tear"] for given in ([*rows, none], rows))
    assert with_it["ssim"] == without["ssim"]
    assert (with_it["n_boxes"], with_it["n_ssim"]) == (11, 10)
    assert with_it["psnr"]["mean"] == pytest.approx((10 * without["psnr"]["mean"] + 1) / 11)


def test_no_box_gives_a_table_with_its_header_alone(tmp_path):
    write_regions(tmp_path / "regions.csv", [])
    assert (tmp_path / "regions.csv").read_text().splitlines() == [
        "file,slice,label,x,y,width,height,mask_draw,ssim,psnr,nmse,zf_ssim,zf_psnr,zf_nmse,patient,n_windows,annotation"
    ]
