"""Intervals and verdicts on differences over seeds and patients, alone and in a family: one interval decides all.

Everything takes numpy arrays and returns plain numbers. `scipy` is loaded where it is used.
"""

from mrirecon.evaluation.stats.comparison import (
    MIN_SEEDS,
    OWN_SEEDS,
    PAIRED,
    SEEDLESS,
    SINGLE,
    Comparison,
    Sample,
    Side,
    compare_family,
    in_words,
    paired_comparison,
    require_seeds,
    sample,
)
from mrirecon.evaluation.stats.crossed import Effect, Parts, by_draw, by_patient, crossed_effect, half_width, p_value
from mrirecon.evaluation.stats.flips import sign_flip_p
from mrirecon.evaluation.stats.patients import MIN_PATIENTS, Interval, bootstrap_ci
from mrirecon.evaluation.stats.power import (
    Variances,
    deciding_designs,
    detectable_difference,
    exact_share,
    probability_of_superiority,
)
from mrirecon.evaluation.stats.times import (
    kaplan_meier,
    restricted,
    restricted_differences,
    restricted_interval,
    restricted_mean,
)
from mrirecon.evaluation.stats.variances import variance_table
from mrirecon.evaluation.stats.verdict import (
    BETTER,
    EQUIVALENT,
    HIGHER,
    LOWER,
    NO_VERDICT,
    UNDECIDED,
    WORSE,
    Judged,
    Margin,
    better_is,
    goodness,
    judge,
    monitors,
)

__all__ = [
    "BETTER",
    "EQUIVALENT",
    "HIGHER",
    "LOWER",
    "MIN_PATIENTS",
    "MIN_SEEDS",
    "NO_VERDICT",
    "OWN_SEEDS",
    "PAIRED",
    "SEEDLESS",
    "SINGLE",
    "UNDECIDED",
    "WORSE",
    "Comparison",
    "Effect",
    "Interval",
    "Judged",
    "Margin",
    "Parts",
    "Sample",
    "Side",
    "Variances",
    "better_is",
    "bootstrap_ci",
    "by_draw",
    "by_patient",
    "compare_family",
    "crossed_effect",
    "deciding_designs",
    "detectable_difference",
    "exact_share",
    "goodness",
    "half_width",
    "in_words",
    "judge",
    "kaplan_meier",
    "monitors",
    "p_value",
    "paired_comparison",
    "probability_of_superiority",
    "require_seeds",
    "restricted",
    "restricted_differences",
    "restricted_interval",
    "restricted_mean",
    "sample",
    "sign_flip_p",
    "variance_table",
]
