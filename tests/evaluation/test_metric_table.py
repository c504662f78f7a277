"""What holds for every entry of METRICS."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.evaluation import VolumeMetrics, combine_slices, score_slice
from mrirecon.evaluation.metrics import columns_of
from mrirecon.evaluation.slice_rows import SliceRows
from mrirecon.tables.entry import builder
from mrirecon.tables.metrics import METRICS, chosen_metrics, default_metrics, in_files, shortfall

ALL = list(METRICS)


def volumes():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:40j, -1:1:36j]
    made = []
    for i, n in enumerate((3, 1, 4)):
        target = np.array([(np.hypot(y, x) < 0.5 + 0.1 * k) * (1 + 0.2 * np.cos(7 * x)) for k in range(n)])
        made.append((f"v{i}.h5", target, target + 0.1 * rng.standard_normal(target.shape)))
    return made


def scored(name, target, image):
    span = float(target.max())
    slices = [score_slice(t, r, span, [name]) for t, r in zip(target, image, strict=True)]
    return combine_slices(slices, span).scores[name]


@pytest.mark.parametrize("name", METRICS)
def test_direction_and_perfection_are_as_the_entry_says(name):
    metric, (_, target, image) = METRICS[name], volumes()[0]
    worse = target + 3 * (image - target)
    values = [scored(name, target, y) for y in (worse, image, target)]
    assert values == sorted(values, reverse=not metric.higher_is_better)
    assert values[-1] == pytest.approx(metric.perfect)
    assert shortfall(name, values[0]) > shortfall(name, values[1]) > 0
    assert shortfall(name, math.nan) == math.inf


@pytest.mark.parametrize("name", METRICS)
def test_alone_a_metric_scores_as_among_all(name):
    for _, target, image in volumes():
        span = float(target.max())
        together = [score_slice(t, r, span, ALL) for t, r in zip(target, image, strict=True)]
        assert list(together[0].columns) == columns_of(ALL)
        assert scored(name, target, image) == combine_slices(together, span).scores[name]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_however_slices_are_shared_scores_are_the_same(n):
    """Rows of n processes, each with every n-th slice, one of them twice, bit for bit those of one volume."""
    names = [name for name, *_ in volumes()]
    slices = SliceRows(names, ALL)
    items = [(name, i, float(x.max()), x[i], y[i]) for name, x, y in volumes() for i in range(len(x))]
    rows = []
    for rank in range(n):
        for name, i, span, t, r in [*items[rank::n], items[0]]:
            target, image = (torch.from_numpy(v)[None] for v in (t, r))
            rows.append(
                slices.of_batch(target, [image, target], torch.tensor([span], dtype=torch.float64), [name], [i])
            )
    own, perfect = (slices.volume_scores(part) for part in torch.cat(rows).split(slices.width, dim=1))
    for name, target, image in volumes():
        assert dict(own[name].scores) == {m: scored(m, target, image) for m in ALL}
        assert dict(perfect[name].scores) == {m: scored(m, target, target) for m in ALL}


def test_the_metric_of_torchmetrics_takes_the_same_names():
    metric = VolumeMetrics(metrics=["hfen", "psnr"])
    _, target, image = volumes()[0]
    metric.update(
        torch.from_numpy(target), torch.from_numpy(image), torch.tensor([target.max()] * 3), [5] * 3, [0, 1, 2]
    )
    assert list(metric.compute()[5].scores) == ["psnr", "hfen"]
    assert metric.compute()[5].hfen == scored("hfen", target, image)


def test_a_column_is_of_one_function():
    of_column = {}
    for metric in METRICS.values():
        assert callable(builder(metric.of_slice))
        assert callable(builder(metric.of_volume))
        for column in metric.columns:
            assert of_column.setdefault(column, metric.of_slice) == metric.of_slice
        assert float(format(0.5, metric.digits)) == 0.5


def test_names_are_checked_and_put_in_order():
    assert chosen_metrics() == chosen_metrics([]) == default_metrics()
    assert chosen_metrics(["hfen", "ssim", "hfen"]) == ["ssim", "hfen"]
    assert in_files(["hfen", "nmse", "ssim_object", "ssim"]) == ["ssim", "nmse", "ssim_object", "hfen"]
    with pytest.raises(InputError, match=r"unknown metric 'hfenn'; did you mean 'hfen'\? Known: ssim, "):
        chosen_metrics(["ssim", "hfenn"])


def test_the_table_imports_neither_torch_nor_numpy():
    code = "import sys, mrirecon.tables.metrics; print(*{'torch', 'numpy', 'scipy', 'yaml'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
