"""Does the spread of several reconstructions say how far off they are? The share of pixels within two deviations."""

import math
from collections.abc import Sequence
from typing import Any

from mrirecon.evaluation.stats import bootstrap_ci
from mrirecon.evaluation.summary import LEVEL

N_SD = 2.0


def expected_share(n_samples: int | None = None) -> float:
    """Share of errors within two standard deviations if they are Gaussian and calibrated.

    That is if target and samples are draws of one Gaussian, so that the mean of `n_samples` is off by a variance of
    `(1 + 1 / n) sd^2`, and their own `sd` an estimate: Student's t (1908) with n - 1 degrees. None: of a known
    deviation and mean, 95.4 %.
    """
    if n_samples is None:
        return math.erf(N_SD / math.sqrt(2))
    from scipy.special import stdtr

    return float(2 * stdtr(n_samples - 1, N_SD / math.sqrt(1 + 1 / n_samples)) - 1)


def calibration(
    counts: Sequence[tuple[int, int]], patients: Sequence[str], n_samples: int, seed: int = 0
) -> dict[str, Any]:
    """Describe how many pixels of the objects are off by at most two standard deviations, ready for JSON.

    Args:
        counts: Of each volume (and mask draw): such pixels, all pixels of its object.
        patients: Whose it is.
        n_samples: Reconstructions that mean and deviation are over.
        seed: Seed of the interval, which resamples patients (see `bootstrap_ci`).
    """
    found = [(within, n, patient) for (within, n), patient in zip(counts, patients, strict=True) if n]
    n_pixels = sum(n for _, n, _ in found)
    shares, weights = [within / n for within, n, _ in found], [float(n) for _, n, _ in found]
    interval = bootstrap_ci(shares, [patient for *_, patient in found], LEVEL, seed, weights) if found else None
    return {
        "n_samples": n_samples,
        "n_object_pixels": n_pixels,
        "within_2_sd": sum(within for within, _, _ in found) / n_pixels if n_pixels else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "calibrated": expected_share(),
        "calibrated_with_n_samples": expected_share(n_samples),
    }


def calibration_line(values: dict[str, Any]) -> str:
    """Return `calibration: 61.3 % of 10,240 object pixels are ...` of what `calibration` describes."""
    n = values["n_samples"]
    if values["within_2_sd"] is None:
        return f"calibration: no object, so no pixel to hold the SD of {n} reconstructions against"
    interval = f" [{100 * values['low']:.1f}, {100 * values['high']:.1f}]" if values["low"] is not None else ""
    return (
        f"calibration: the error of {100 * values['within_2_sd']:.1f} %{interval} of {values['n_object_pixels']:,} "
        f"object pixels is within 2 SD of {n} reconstructions\n"
        f"(for Gaussian errors 95 % would be calibrated; {100 * values['calibrated_with_n_samples']:.0f} % where mean "
        f"and SD are of {n} draws)"
    )
