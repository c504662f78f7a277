"""Sign flips over paired seeds: the p value of two methods alike on these patients, whatever other patients would say.

It is shown beside a verdict and never decides: the interval speaks of other patients too.
"""

import numpy as np
from numpy.typing import ArrayLike

from mrirecon.errors import InputError

MAX_FLIPS = 2**14
_TIE = 1e-9  # statistics closer than this are equal: sums of the same numbers in another order


def sign_flip_p(d: ArrayLike, seed: int = 0) -> float:
    """Two-sided p value of the sign-flip test of Fisher (1935, The Design of Experiments, chapter III).

    If two methods are alike on these patients, the sign of each seed's mean difference is a coin's. All flips are tried
    up to 15 seeds (2^14 up to the sign of the whole, which changes nothing); above, 2^14 are drawn and the observed
    signs counted among them (Phipson and Smyth 2010).

    Args:
        d: Mean difference of each seed, (n_seeds,).
        seed: Seed of the drawn flips.

    Raises:
        InputError: Not a row of finite numbers.
    """
    values = np.asarray(d, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"differences of shape {values.shape}; give finite numbers, one of each seed")
    scale = np.abs(values).max() or 1.0
    sums = np.abs(_signs(len(values), seed) @ (values / scale))
    return float((sums >= sums[0] - _TIE).mean())


def _signs(n_seeds: int, seed: int) -> np.ndarray:
    """Flips (n_flips, n_seeds) of +1 and -1, one of each two that mirror each other; the first changes no sign."""
    n_flips = 2 ** max(n_seeds - 1, 0)
    if n_flips <= MAX_FLIPS:
        return 1.0 - 2.0 * ((np.arange(n_flips)[:, None] >> np.arange(n_seeds)) & 1)
    drawn = np.random.default_rng(seed).integers(2, size=(MAX_FLIPS + 1, n_seeds))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn
