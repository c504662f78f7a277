"""Do two methods differ? Paired sign flips over seeds, adjusted for the whole family of comparisons.

If two methods are alike, the sign of each seed's difference is a coin's. The same flips are applied to all comparisons
of a family, so that what they have in common (a reference, the seeds) is kept, and the largest statistic of each flip
adjusts the p values (Westfall and Young 1993, Resampling-Based Multiple Testing, step-down max-T).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mrirecon.errors import InputError

MAX_FLIPS = 2**14
_TIE = 1e-9  # statistics closer than this are equal: sums of the same numbers in another order


class FlipTest(NamedTuple):
    """Two-sided p values of a family of comparisons, in its order."""

    p: tuple[float, ...]  # each comparison alone
    p_family: tuple[float, ...]  # adjusted: the chance of one or more false findings in the family stays below alpha
    smallest_p: float  # what no p of this design can be below


def sign_flip_max_t(d: ArrayLike, seed: int = 0) -> FlipTest:
    """Sign-flip tests of a family of paired comparisons with step-down max-T adjustment.

    The test of one comparison is that of Fisher (1935, The Design of Experiments, chapter III), the adjustment that of
    Westfall and Young (1993).

    All flips are tried up to 15 seeds (2^14 up to the sign of the whole, which changes nothing); above, 2^14 are drawn
    and the observed signs counted among them (Phipson and Smyth 2010). The statistic is |sum d| / sqrt(sum d^2), which
    orders flips and comparisons exactly as |t| of the paired t test does, and stays finite when a difference is
    constant.

    Args:
        d: Mean difference of each seed, (n_comparisons, n_seeds); of a single run, of each patient.
        seed: Seed of the drawn flips.

    Raises:
        InputError: Not a table of finite numbers.
    """
    rows = np.asarray(d, dtype=float)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise InputError(f"differences of shape {rows.shape}; give finite numbers (n_comparisons, n_seeds)")
    signs = _signs(rows.shape[1], seed)
    norms = np.sqrt((rows**2).sum(axis=1))
    statistics = np.abs(signs @ (rows / np.where(norms > 0, norms, 1)[:, None]).T)  # (flips, comparisons)
    observed = statistics[0]
    single = _share_reaching(statistics, observed)
    return FlipTest(tuple(single.tolist()), tuple(_step_down(statistics, observed).tolist()), smallest_p(rows.shape[1]))


def smallest_p(n_seeds: int) -> float:
    """The smallest p value that sign flips of so many seeds can give, alone as in a family of any size.

    The observed signs and their mirror image always reach the observed statistic: 2 / 2^n. Of m drawn flips it is
    1 / (m + 1), as the observed signs count among them (Phipson and Smyth 2010).
    """
    return 1 / _n_flips(n_seeds)


def require_decidable(n_seeds: int, alpha: float = 0.05, what: str = "seeds") -> None:
    """Refuse a family that cannot reach `alpha`, whatever its differences.

    Args:
        n_seeds: How many signs there are to flip.
        alpha: Allowed chance of one or more false findings in the family.
        what: Whose signs they are, for the message: seeds, or patients when each method has a single run.

    Raises:
        InputError: Too few of them, or an alpha that no number of them can reach.
    """
    if not 1 / MAX_FLIPS <= alpha < 1:
        raise InputError(f"alpha {alpha}; it must be between {1 / MAX_FLIPS:.2g} and 1, for example 0.05")
    if smallest_p(n_seeds) > alpha:
        raise InputError(
            f"{n_seeds} paired {what} cannot reach p <= {alpha:g} (smallest p {smallest_p(n_seeds):.2g}); "
            f"give at least {decidable_seeds(alpha)} {what}"
        )


def decidable_seeds(alpha: float = 0.05) -> int:
    """The fewest seeds n whose smallest p value, 2 / 2^n if all signs are tried (Fisher 1935), reaches `alpha`."""
    return 1 + math.ceil(-math.log2(alpha) - 1e-12)


def _n_flips(n_seeds: int) -> int:
    """Return the number of flips that count, those that differ by the sign of the whole once."""
    all_flips = 2 ** max(n_seeds - 1, 0)
    return all_flips if all_flips <= MAX_FLIPS else MAX_FLIPS + 1


def _signs(n_seeds: int, seed: int) -> np.ndarray:
    """Flips (n_flips, n_seeds) of +1 and -1; the first changes nothing."""
    n_flips = _n_flips(n_seeds)
    if n_flips <= MAX_FLIPS:
        return 1.0 - 2.0 * ((np.arange(n_flips)[:, None] >> np.arange(n_seeds)) & 1)
    drawn = np.random.default_rng(seed).integers(2, size=(n_flips, n_seeds))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


def _share_reaching(statistics: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the share of flips whose statistic reaches the observed one: (n_flips, n) and (n,) to (n,)."""
    return (statistics >= observed - _TIE).mean(axis=0)


def _step_down(statistics: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Compute adjusted p values (n_comparisons,): each statistic against the largest not above it, made monotone.

    `statistics` are (n_flips, n_comparisons), `observed` (n_comparisons,); step-down max-T of Westfall and
    Young 1993.
    """
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(statistics[:, order[::-1]], axis=1)[:, ::-1]
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(_share_reaching(largest, observed[order]))
    return adjusted
