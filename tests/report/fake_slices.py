"""Made-up example slices of a made-up study."""

import numpy as np


def fake_examples(study, n=3, shape=(96, 80), seed=1):
    """Slices of an ellipse with a smaller or larger error per cell."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    target = np.stack([_head(y, x, 0.75 + 0.05 * i) for i in range(n)]).astype(np.float32)

    def blurred(share):
        rows = sum(np.roll(target, k, axis=2) for k in (-3, 3)) / 2
        noise = 0.03 * share * rng.standard_normal(target.shape)
        return ((1 - share) * target + share * rows + noise).astype(np.float32)

    cells = {c["cell"]: blurred(0.08 + 0.25 * i / len(study["cells"])) for i, c in enumerate(study["cells"])}
    return {
        "slices": [f"volume{i}.h5, slice {3 + i}" for i in range(n)],
        "target": target,
        "zero_filled": blurred(0.6),
        "cells": cells,
    }


def _head(y, x, size):
    inside = ((y / size) ** 2 + (x / (0.8 * size)) ** 2) < 1
    ring = ((y / (0.9 * size)) ** 2 + (x / (0.7 * size)) ** 2) < 1
    spots = sum(0.3 * (((y - a) ** 2 + (x - b) ** 2) < 0.02) for a, b in ((-0.2, 0.2), (0.3, -0.1), (0.1, 0.3)))
    return 0.9 * inside - 0.45 * ring + spots * ring + 0.05 * np.sin(12 * x) * ring
