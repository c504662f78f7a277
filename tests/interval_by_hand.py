"""Half the width of the interval over seeds and patients, from sums of squares and scipy's quantiles alone."""

import math

from scipy import stats


def half_of(sources, rest, alpha=0.05):
    """Sources of variance as (squared standard error, how many were drawn), and the rest that each of them holds."""
    z, total = stats.norm.ppf(1 - alpha / 2), sum(square for square, _ in sources)
    power = 1.25 * min(20 * alpha, 1) ** 2
    of_few = [
        (stats.t.ppf(1 - alpha / 2, n - 1) ** 2 - z**2) * square * (square / total) ** power for square, n in sources
    ]
    return math.sqrt(z**2 * max(total - rest, 0) + sum(of_few))


def half_by_hand(d, alpha=0.05):
    """Of a table of paired differences (n_seeds, n_patients)."""
    n_seeds, n_patients = d.shape
    of_seeds = n_patients * sum((row.mean() - d.mean()) ** 2 for row in d) / (n_seeds - 1)
    of_patients = n_seeds * sum((column.mean() - d.mean()) ** 2 for column in d.T) / (n_patients - 1)
    left = sum((x - d.mean()) ** 2 for x in d.ravel()) - (n_seeds - 1) * of_seeds - (n_patients - 1) * of_patients
    rest = left / ((n_seeds - 1) * (n_patients - 1))
    return half_of([(of_seeds / d.size, n_seeds), (of_patients / d.size, n_patients)], rest / d.size, alpha)
