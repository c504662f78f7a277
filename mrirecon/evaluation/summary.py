"""Means, standard deviations and intervals of an evaluation, overall and by group."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev, variance
from typing import Any

from mrirecon.evaluation.foreground import DESCRIPTION
from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.results import ZERO_FILLED, VolumeResult, acceleration_label, by_volume, group_by
from mrirecon.evaluation.stats import bootstrap_ci
from mrirecon.tables.metrics import METRICS, OBJECT_MASK, label_of

Value = Callable[[VolumeResult], float]
LEVEL = 0.95
_OF_FASTMRI = ("nmse", "psnr", "ssim")  # what its command prints besides the MSE
_GROUPS: dict[str, Callable[[VolumeResult], str]] = {
    "by_acquisition": lambda r: r.acquisition,
    "by_acceleration": lambda r: acceleration_label(round(r.acceleration) if r.mask == "file" else r.acceleration),
    "by_origin": lambda r: r.origin,
}


def summarize(results: Sequence[VolumeResult], seed: int = 0) -> dict[str, Any]:
    """Everything of summary.json that follows from the table, ready for JSON.

    `overall` and each group hold the numbers of volumes, patients and mask draws, the mean true acceleration, and for
    each metric of the reconstruction, of the zero-filled image (`zf_...`) and of their paired difference
    (`difference_...`): `mean` and `sd` over volumes (a volume counts with the mean over its draws; under a protocol
    per slice the mean is over slices), `sd_draws` (within volumes, between draws) and the 95 % interval of the mean
    over patients `low`, `high` (bootstrap, Efron 1987: see `bootstrap_ci`). What cannot be computed is null.
    """
    grouped = {
        group: {name: _describe(rows, seed) for name, rows in group_by(results, key).items()}
        for group, key in _GROUPS.items()
    }
    return {"level": LEVEL, "overall": _describe(results, seed), **grouped}


def about_metrics(results: Sequence[VolumeResult]) -> dict[str, Any]:
    """Describe the metrics of results in words, and where objects were looked for; ready for JSON."""
    sources = sorted({result.object for result in results} - {""})
    where = {"object": {"from": sources, "what it means": DESCRIPTION}} if sources else {}
    return {"metrics": {name: METRICS[name].help for name in results[0].scores}, **where}


def notes_on_objects(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One line where volumes have no object, and so no score inside of it.

    Args:
        scores: Of finite images, by volume and metric.
    """
    metrics = [name for name in next(iter(scores.values())) if OBJECT_MASK in METRICS[name].needs]
    empty = [volume for volume, own in scores.items() if any(math.isnan(own[name]) for name in metrics)]
    if not empty:
        return []
    labels, first = " and ".join(map(label_of, metrics)), f"{empty[0]}{', ...' * (len(empty) > 1)}"
    return [f"{len(empty)} of {len(scores)} volumes ({first}) have no object: no {labels} of them, and no mean of it"]


def fastmri_line(results: Sequence[VolumeResult], mse: Sequence[float]) -> str:
    """Mean and twice the standard deviation over volumes, in the words of fastMRI's `python -m fastmri.evaluate`.

    `MSE = 1.2e-05 +/- 3e-06 NMSE = ... PSNR = ... SSIM = ...`, four significant digits; `-` for a deviation
    that does not exist (one volume, an infinite score). Empty where one of its metrics was not scored.

    Args:
        results: One row per volume.
        mse: Mean squared error of each, in squared units of the target.
    """
    if not all(name in r.scores for r in results for name in _OF_FASTMRI):
        return ""
    columns = {"MSE": list(mse)} | {name.upper(): [r.scores[name] for r in results] for name in _OF_FASTMRI}
    return " ".join(f"{name} = {_plus_minus(columns[name])}" for name in sorted(columns))


def _plus_minus(values: Sequence[float]) -> str:
    has_deviation = len(values) > 1 and all(map(math.isfinite, values))
    return f"{fmean(values):.4g} +/- {f'{2 * stdev(values):.4g}' if has_deviation else '-'}"


def _describe(results: Sequence[VolumeResult], seed: int) -> dict[str, Any]:
    acceleration = fmean(r.acceleration_true for r in results)
    described: dict[str, Any] = {
        "n_volumes": len({r.volume for r in results}),
        "n_patients": len({r.patient for r in results}),
        "n_draws": len({r.mask_draw for r in results}),
        "acceleration_true": acceleration if math.isfinite(acceleration) else None,
    }
    for metric in results[0].scores:
        described |= _of_metric(results, metric, seed)
    return described


def _of_metric(results: Sequence[VolumeResult], metric: str, seed: int) -> dict[str, dict[str, float | None]]:
    values: dict[str, Value] = {
        metric: lambda r: r.scores[metric],
        ZERO_FILLED + metric: lambda r: r.zero_filled[metric],
        f"difference_{metric}": lambda r: r.scores[metric] - r.zero_filled[metric],
    }
    return {name: _statistics(results, value, seed) for name, value in values.items()}


def _statistics(results: Sequence[VolumeResult], value: Value, seed: int) -> dict[str, float | None]:
    values = [value(r) for r in results]
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(("mean", "sd", "sd_draws", "low", "high"))
    volumes = [[value(r) for r in rows] for rows in by_volume(results).values()]
    means = [fmean(draws) for draws in volumes]
    variances = [variance(draws) for draws in volumes if len(draws) > 1]
    weights = [float(_weight(r)) for r in results]
    interval = bootstrap_ci(values, [r.patient for r in results], LEVEL, seed, weights)
    return {
        "mean": fmean(means, [_weight(rows[0]) for rows in by_volume(results).values()]),
        "sd": stdev(means) if len(means) > 1 else None,
        "sd_draws": math.sqrt(fmean(variances)) if variances else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }


def _weight(result: VolumeResult) -> int:
    """Return the weight of a volume in a mean: its slices under a protocol that averages over slices, else 1."""
    protocol = PROTOCOLS.get(result.protocol)
    return result.n_slices if protocol and protocol.per_slice else 1
