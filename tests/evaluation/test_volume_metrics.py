"""Volumes are scored exactly, in whatever order and on whichever process their slices come."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.evaluation import VolumeMetrics, VolumeScore, mean_score, nmse, psnr, ssim
from mrirecon.evaluation.slice_rows import SliceRows

NAMES = ["a/x.h5", "b/x.h5"]  # equal file names in two folders are two volumes


def volumes(seed=0):
    """Two volumes of other sizes and scales: name -> (target, image)."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape, scale in zip(NAMES, [(5, 20, 18), (3, 16, 24)], [1e-6, 30.0], strict=True):
        target = rng.random(shape) * scale
        image = target + 0.1 * scale * rng.standard_normal(shape)
        out[name] = (torch.from_numpy(target).float(), torch.from_numpy(image).float())
    return out


def batches(size=1):
    for name, (target, image) in volumes().items():
        for i in range(0, len(target), size):
            part = slice(i, i + size)
            n = len(target[part])
            indices = torch.arange(len(target))[part]
            yield target[part], image[part], [float(target.max())] * n, [name] * n, indices


def scored(updates):
    metric = VolumeMetrics(NAMES)
    for update in updates:
        metric.update(*update)
    return metric.compute()


def test_equals_the_functions_on_whole_volumes():
    scores = scored(batches())
    assert list(scores) == NAMES
    for name, (target, image) in volumes().items():
        data_range = float(target.max())
        assert scores[name].ssim == ssim(target, image, data_range)
        assert scores[name].psnr == pytest.approx(psnr(target, image, data_range), rel=1e-14)
        assert scores[name].nmse == pytest.approx(nmse(target, image), rel=1e-14)
        assert scores[name].n_slices == len(target)


def test_order_batch_size_and_duplicates_change_no_bit():
    once = scored(batches())
    updates = list(batches())
    assert scored(reversed(updates)) == once
    assert scored(batches(size=4)) == once
    assert scored(updates + updates[2:5]) == once


def test_numbers_as_volumes_and_reset():
    metric = VolumeMetrics()
    ones = torch.ones(2, 8, 8)
    metric.update(ones, ones * 0.9, torch.tensor([1.0, 1.0]), torch.tensor([7, 3]), torch.tensor([0, 0]))
    assert list(metric.compute()) == [3, 7]
    assert metric.compute()[7].psnr == pytest.approx(20)
    metric.reset()
    with pytest.warns(UserWarning, match="before the"):  # torchmetrics' own
        assert metric.compute() == {}


def test_without_data_nothing_breaks():
    with pytest.warns(UserWarning, match="before the"):
        assert VolumeMetrics(NAMES).compute() == {}
    placeholder = VolumeMetrics(NAMES)
    placeholder.rows = torch.empty(0)  # what torchmetrics leaves where no process had data
    with pytest.warns(UserWarning, match="before the"):
        assert placeholder.compute() == {}
    assert SliceRows(NAMES).volume_scores(torch.empty(0)) == {}


def test_rows_alone_give_the_same_scores():
    """As evaluations gather them, without torchmetrics."""
    slices = SliceRows(NAMES)
    rows = [slices.of_batch(target, [image], *about) for target, image, *about in batches(size=2)]
    assert {part.shape[1] for part in rows} == {slices.width}
    assert slices.volume_scores(torch.cat([*rows, rows[0]])) == scored(batches())


def test_wrong_volumes_are_named():
    ones = torch.ones(1, 8, 8)
    with pytest.raises(InputError, match=r"unknown volume 'a/y.h5'; did you mean 'a/x.h5'"):
        VolumeMetrics(NAMES).update(ones, ones, [1.0], ["a/y.h5"], [0])
    with pytest.raises(InputError, match="2 volumes were announced"):
        VolumeMetrics(NAMES).update(ones, ones, [1.0], [2], [0])


def test_mean_score():
    mean = mean_score([VolumeScore({"ssim": 0.5, "psnr": 20.0}, 3), VolumeScore({"ssim": 0.7, "psnr": 30.0}, 4)])
    assert mean.scores == pytest.approx({"ssim": 0.6, "psnr": 25.0})
    assert (mean.ssim, mean.n_slices) == (mean.scores["ssim"], 7)
    with pytest.raises(InputError, match="no volume"):
        mean_score([])


_RANK = """
import sys
sys.path[:0] = [sys.argv[1]]
import torch.distributed as dist
from test_volume_metrics import NAMES, batches
from mrirecon.evaluation import VolumeMetrics
rank = int(sys.argv[3])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
for n_busy in (2, 1, 0):
    metric = VolumeMetrics(NAMES)
    if rank < n_busy:
        updates = list(batches())
        for i in range(rank, -(-len(updates) // n_busy) * n_busy + 2, n_busy):
            metric.update(*updates[i % len(updates)])  # a distributed sampler pads with duplicates
    print(repr(metric.compute()))
dist.destroy_process_group()
"""


def test_two_processes_agree_with_one(tmp_path):
    """Both busy with an uneven share and duplicates; one without data; both without."""
    here, meeting = str(Path(__file__).parent), str(tmp_path / "meeting")
    started = [
        subprocess.Popen([sys.executable, "-c", _RANK, here, meeting, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    expected = repr(scored(batches()))
    assert outputs == [[expected, expected, "{}"]] * 2
