"""Intervals, tests and verdicts on differences: over patients, paired seeds or both, alone and in a family.

Everything takes numpy arrays and returns plain numbers. `scipy` is loaded where it is used.
"""

from mrirecon.evaluation.stats.comparison import Comparison, compare_family, in_words, paired_comparison
from mrirecon.evaluation.stats.crossed import Effect, by_patient, crossed_bootstrap, crossed_effect
from mrirecon.evaluation.stats.flips import FlipTest, decidable_seeds, require_decidable, sign_flip_max_t, smallest_p
from mrirecon.evaluation.stats.patients import MIN_PATIENTS, N_RESAMPLES, Interval, bootstrap_ci
from mrirecon.evaluation.stats.power import (
    minimum_detectable_effect,
    probability_of_superiority,
    seeds_needed,
    tost_p,
)
from mrirecon.evaluation.stats.times import (
    kaplan_meier,
    restricted,
    restricted_differences,
    restricted_interval,
    restricted_mean,
)
from mrirecon.evaluation.stats.verdict import (
    BETTER,
    EQUIVALENT,
    HIGHER,
    INCONCLUSIVE,
    LOWER,
    WORSE,
    better_is,
    goodness,
    monitors,
)

__all__ = [
    "BETTER",
    "EQUIVALENT",
    "HIGHER",
    "INCONCLUSIVE",
    "LOWER",
    "MIN_PATIENTS",
    "N_RESAMPLES",
    "WORSE",
    "Comparison",
    "Effect",
    "FlipTest",
    "Interval",
    "better_is",
    "bootstrap_ci",
    "by_patient",
    "compare_family",
    "crossed_bootstrap",
    "crossed_effect",
    "decidable_seeds",
    "goodness",
    "in_words",
    "kaplan_meier",
    "minimum_detectable_effect",
    "monitors",
    "paired_comparison",
    "probability_of_superiority",
    "require_decidable",
    "restricted",
    "restricted_differences",
    "restricted_interval",
    "restricted_mean",
    "seeds_needed",
    "sign_flip_max_t",
    "smallest_p",
    "tost_p",
]
