"""Times to a target that some runs miss: they are censored, and no mean or median of what remains is honest.

Every run counts with the smaller of its time and the horizon, the end of its budget; the mean of that, the restricted
mean, is the area under the Kaplan-Meier curve up to the horizon (Royston and Parmar 2013).
"""

from collections.abc import Sequence

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.stats.bootstrap import Interval
from mrirecon.evaluation.stats.crossed import crossed_effect

Times = Sequence[float | None] | np.ndarray


def restricted(times: Times, horizon: float) -> np.ndarray:
    """Each run's time (n_seeds,), or the horizon where it missed the target or came later.

    Its mean is the restricted mean (Royston and Parmar 2013).

    Args:
        times: Time to the target of each run, in any unit; None or NaN where it missed.
        horizon: End of the budget, in the same unit.

    Raises:
        InputError: No times, a negative time, or a horizon that is not above 0 and finite.
    """
    values = np.asarray(times, dtype=float)
    if not 0 < horizon < np.inf:
        raise InputError(f"horizon {horizon}; it must be above 0, such as the number of steps of a run")
    if values.ndim != 1 or not values.size or (values < 0).any():
        raise InputError(f"times {times}; give one time of 0 or more for each run, None where it missed the target")
    return np.where(np.isnan(values), horizon, np.minimum(values, horizon))


def restricted_mean(times: Times, horizon: float) -> float:
    """Mean time spent without the target up to the horizon (Royston and Parmar 2013), in the unit of `times`.

    Raises:
        InputError: As `restricted`.
    """
    return float(restricted(times, horizon).mean())


def restricted_interval(times: Times, horizon: float, level: float = 0.95) -> Interval | None:
    """A t interval of the restricted mean over seeds, within 0 to the horizon; None with a single run.

    Restricted mean: Royston and Parmar 2013. Interval: Student's t (1908) over seeds.

    Raises:
        InputError: As `restricted`, or a level outside of 0 to 1.
    """
    values = restricted(times, horizon)
    if len(values) < 2:
        return None
    effect = crossed_effect(values[:, None], level)
    return Interval(max(effect.low, 0.0), min(effect.high, float(horizon)))


def restricted_differences(first: Times, second: Times, horizon: float) -> np.ndarray:
    """First minus second restricted time at each seed, (n_seeds, 1).

    Its mean is the difference of restricted means of Royston and Parmar 2013.

    Raises:
        InputError: As `restricted`, or not the same number of runs.
    """
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} times; give both methods' times at the same seeds")
    return (restricted(first, horizon) - restricted(second, horizon))[:, None]


def kaplan_meier(times: Times, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Share of runs that have reached the target by each time (Kaplan and Meier 1958), as steps to draw.

    Returns:
        Times from 0 to the horizon and the share reached from each of them on; the first is (0, 0) unless a run
        started there, and the last stands at the horizon.

    Raises:
        InputError: As `restricted`.
    """
    from scipy.stats import CensoredData, ecdf

    values, bounded = np.asarray(times, dtype=float), restricted(times, horizon)
    missed = np.isnan(values) | (values > horizon)
    curve = ecdf(CensoredData.right_censored(bounded, missed)).cdf
    shown = np.unique([0.0, *bounded, float(horizon)])
    return shown, curve.evaluate(shown)
