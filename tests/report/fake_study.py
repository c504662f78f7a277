"""A made-up study by schema 1, with plausible numbers, for tests of the report."""

import math
from itertools import product

import numpy as np

FACTORS = {"optimizer": ["sgd", "momentum", "adam"], "norm": ["batch", "instance", "group"]}
FIVE_BY_FIVE = {
    "optimizer": ["sgd", "momentum", "nesterov", "rmsprop", "adam"],
    "norm": ["none", "batch", "layer", "instance", "group"],
}
HOSTILE = "<script>window.hacked=1</script>"  # a name
ONE_FACTOR = {"norm": ["none", "batch", "instance", "group"]}
STEPS = list(range(0, 301, 25))
TRACE_STEPS = list(range(10, 301, 10))
HORIZON = 300
ZERO_FILLED = {"ssim": 0.842, "psnr": 27.9, "nmse": 0.048}
GAP = 0.078  # from zero-filled to the reference


def fake_study(factors=None, *, n_seeds=10, n_volumes=12, seed=0):
    """Schema 1 as a dict of JSON types; cells differ by optimizer and norm, one diverges often, one is at an edge."""
    factors = factors or FACTORS
    rng = np.random.default_rng(seed)
    cells = [_cell(levels, factors, n_seeds, n_volumes, rng) for levels in product(*factors.values())]
    reference = cells[-1]["cell"]
    cells[0]["edge"] = "optimizer.lr at its high end"
    return {
        "schema": 1,
        "name": "fake",
        "command": "mrirecon ablate run configs/ablation/fake.yaml",
        "created": "2026-01-02T03:04:05+00:00",
        "warnings": ["BatchNorm at batch 1 normalises each image by itself"],
        "data": {
            "path": "simulated",
            "origins": ["simulated-from-phantom"],
            "n_train": 40,
            "n_val": 8,
            "n_test": n_volumes,
            "n_patients_test": n_volumes,
            "mask": "random",
            "acceleration": [4],
            "manifest": "3f" * 32,
        },
        "model": "U-Net, 8 channels, 4 pools, 0.48 M parameters",
        "budget": "300 steps x 4 slices",
        "protocol": "fastmri-v1",
        "verdict": [f"{cells[0]['cell']} leads the made-up study.", "All of this is made up."],
        "provenance": {
            "code": ["c0de" * 16],
            "packages": {"torch": "2.7.0", "numpy": "2.1.0"},
            "hosts": ["node1"],
            "devices": ["cpu"],
            "git": {"commit": "abc123", "dirty": False},
        },
        "factors": factors,
        "reference": reference,
        "seeds": list(range(n_seeds)),
        "tuning": {
            "trials": 16,
            "repeats": 1,
            "dimensions": ["optimizer.lr"],
            "spaces": {c["cell"]: {"optimizer.lr": [1e-4, 1.0]} for c in cells},
            "first_seed": 1000,
            "n_runs": 16 * len(cells),
        },
        "zero_filled": dict(ZERO_FILLED),
        "margin": {"ssim": 0.0009, "share": 0.01},
        "targets": [{"share": s, "ssim": 0.842 + s * GAP} for s in (0.9, 0.97, 0.995)],
        "cells": cells,
        "families": [_family(cells, reference, n_seeds, n_volumes, rng)],
        "variances": [
            {
                "at": "",
                "cells": [c["cell"] for c in cells],
                "n_seeds": n_seeds,
                "n_patients": n_volumes,
                "sd": {
                    "seeds": 0.001,
                    "patients": 0.03,
                    "method x seed": 0.002,
                    "method x patient": 0.004,
                    "rest": 0.003,
                },
                "correlation": {"seeds": 0.2, "patients": 0.98},
            }
        ],
        "claims": fake_claims(cells),
        "second": None,
    }


def fake_claims(cells):
    """One claim of each verdict."""
    names = [c["cell"] for c in cells[:2]]
    common = {"measure": "final SSIM", "unit": "SSIM", "margin": 0.0009, "cells": names}
    effects = {"SUPPORTED": 0.021, "REFUTED": -0.013, "INCONCLUSIVE": 0.0006, "NOT TESTED": None}
    claims = []
    for number, (verdict, effect) in enumerate(effects.items(), 1):
        tested = effect is not None
        claims.append(
            {
                **common,
                "claim": f"G{number}",
                "text": f"Claim number {number} about optimizers",
                "verdict": verdict,
                "effect": effect,
                "low": effect - 0.003 if tested else None,
                "high": effect + 0.003 if tested else None,
                "cells": names if tested else [],
                "words": "On simulated data, U-Net, 300 steps." if tested else "The grid has no cells for it.",
                "command": f"mrirecon compare {' '.join(names)}" if tested else "",
            }
        )
    return claims


def _cell(levels, factors, n_seeds, n_volumes, rng):
    labels = dict(zip(factors, levels, strict=True))
    places = [list(factors[f]).index(label) / max(len(factors[f]) - 1, 1) for f, label in labels.items()]
    skill = 0.905 + 0.02 * places[0] + 0.008 * sum(places[1:]) - 0.01 * places[0] * sum(places[1:])
    pace = 40 + 70 * (1 - places[0])
    lr_best = 10 ** (-0.5 - 2.2 * places[0] + rng.normal(0, 0.1))
    tuning = _tuning(lr_best, skill, rng)
    winner = min((t for t in tuning["trials"] if t["loss"]), key=lambda t: t["loss"])["values"]
    n_diverged = 1 if places[0] == 0 and places[-1] == 0 else 0
    seeds = skill + rng.normal(0, 0.0015, n_seeds)
    return {
        "cell": "/".join(levels),
        "levels": labels,
        "n_seeds": n_seeds,
        "n_diverged": n_diverged,
        "edge": "",
        "widened": places[0] == 0.5,
        "values": dict(winner),
        "winners": [dict(winner)],
        "tuning": tuning,
        "sweep": _sweep(lr_best, skill),
        "final": {
            "ssim": _band_of(seeds, 0.0021),
            "psnr": _band_of(27.9 + 60 * (seeds - 0.842), 0.15),
            "nmse": _band_of(0.048 - 0.4 * (seeds - 0.842), 0.001),
        },
        "best_ssim": _interval(float(seeds.mean()) + 0.001, 0.002),
        "area": _interval(0.42 - 1.5 * (skill - 0.9), 0.006),
        "curve": _curve(skill, pace, rng),
        "times": [_time(share, skill, pace, n_seeds, rng) for share in (0.9, 0.97, 0.995)],
        "step_seconds": float(0.048 + 0.006 * places[0] + 0.002 * places[-1]),
        "peak_memory": int(412e6 + 8e6 * places[0]),
        "optimizer_bytes": int(484_000 * 4 * round(2 * places[0])),
        "n_parameters": 484_000,
        "volumes": {
            "names": [f"volume{i}.h5" for i in range(n_volumes)],
            "ssim": [float(skill + 0.02 * math.sin(2.1 * i) + rng.normal(0, 0.001)) for i in range(n_volumes)],
        },
        "error": "",
    }


def _tuning(lr_best, skill, rng):
    trials = []
    for i, lr in enumerate(10 ** rng.uniform(-4, 0.3, 16)):
        diverged = lr > 12 * lr_best
        trials.append(
            {
                "repeat": 0,
                "trial": i,
                "widened": False,
                "values": {"optimizer.lr": float(lr)},
                "loss": None if diverged else _loss_at(lr, lr_best, skill) * math.exp(rng.normal(0, 0.03)),
                "area": None if diverged else _loss_at(lr, lr_best, skill) * 1.4,
                "diverged_at": 40 if diverged else None,
            }
        )
    losses = sorted(t["loss"] or 1.2 for t in trials)
    n = len(losses)
    best = [
        [k, sum(math.comb(n - i, k - 1) * v for i, v in enumerate(losses, 1)) / math.comb(n, k)]
        for k in range(1, n + 1)
    ]
    n_diverged = sum(t["loss"] is None for t in trials)
    return {"n_trials": n, "n_diverged": n_diverged, "seconds": 16 * 17.0, "trials": trials, "best_of_k": best}


def _sweep(lr_best, skill):
    points = []
    for factor in (1 / 27, 1 / 9, 1 / 3, 1, 3, 9, 27):
        diverged = factor > 9
        loss = None if diverged else _loss_at(factor * lr_best, lr_best, skill)
        points.append({"lr": factor * lr_best, "loss": loss, "diverged_at": 12 if diverged else None})
    return {
        "points": points,
        "lr_best": lr_best,
        "lr_diverged": 27 * lr_best,
        "good_low": lr_best / 3,
        "good_high": 3 * lr_best,
    }


def _loss_at(lr, lr_best, skill):
    return float((1 - skill) * 3 * (1 + 0.12 * math.log10(lr / lr_best) ** 2))


def _curve(skill, pace, rng):
    steps, traced = np.array(STEPS), np.array(TRACE_STEPS)
    ssim = 0.55 + (skill - 0.55) * (1 - np.exp(-steps / pace))
    decay = np.exp(-traced / pace)
    return {
        "steps": STEPS,
        "ssim": _bands(ssim, 0.004 + 0.02 * np.exp(-steps / pace)),
        "val_loss": _bands(3 * (1 - ssim), 0.02 * (1 - ssim)),
        "trace_steps": TRACE_STEPS,
        "grad_norm": _bands(0.2 + 2 * decay, 0.1 + 0.3 * decay),
        "update_ratio": _bands(1e-3 + 1e-2 * decay, 3e-4 + 1e-3 * decay),
        "train_loss": _bands(0.3 + decay + rng.normal(0, 0.01, traced.size), 0.03 + 0.05 * decay),
    }


def _time(share, skill, pace, n_seeds, rng):
    target = 0.842 + share * GAP
    reach = (skill - target) / (skill - 0.55)
    per_seed = []
    for _ in range(n_seeds):
        steps = -pace * math.log(reach) * rng.lognormal(0, 0.15) if reach > 0 else math.inf
        per_seed.append(25 * math.ceil(steps / 25) if steps <= HORIZON else None)
    mean = float(np.mean([HORIZON if s is None else s for s in per_seed]))
    return {
        "share": share,
        "n_reached": sum(s is not None for s in per_seed),
        "n_seeds": n_seeds,
        "horizon": HORIZON,
        "steps": _interval(mean, 12.0),
        "samples": _interval(4 * mean, 48.0),
        "seconds": _interval(0.05 * mean, 0.6),
        "per_seed": per_seed,
    }


def _family(cells, reference, n_seeds, n_volumes, rng):
    base = next(c for c in cells if c["cell"] == reference)["final"]["ssim"]["mean"]
    comparisons = [
        _comparison(f"{c['cell']} - {reference}", c["final"]["ssim"]["mean"] - base, n_seeds, n_volumes, rng)
        for c in cells
        if c["cell"] != reference
    ]
    return {
        "name": f"every cell against {reference}",
        "is_primary": True,
        "alpha": 0.05,
        "n_seeds": n_seeds,
        "note": f"The primary family: {len(comparisons)} comparisons of SSIM.",
        "comparisons": comparisons,
    }


def _comparison(name, effect, n_seeds, n_volumes, rng):
    verdict = "EQUIVALENT" if abs(effect) < 0.0004 else "UNDECIDED" if abs(effect) < 0.0035 else "WORSE"
    verdict = "BETTER" if verdict == "WORSE" and effect > 0 else verdict
    half = 0.0027
    return {
        "name": name,
        "first": name.split(" - ")[0],
        "second": name.split(" - ")[1],
        "metric": "ssim",
        "better": "higher",
        "effect": effect,
        "low": effect - half,
        "high": effect + half,
        "p": 0.006 if verdict in ("BETTER", "WORSE") else 0.62,
        "p_these_patients": 2 / 2**n_seeds,
        "n_seeds": n_seeds,
        "runs": f"{n_seeds} paired seeds",
        "n_volumes": n_volumes,
        "n_patients": n_volumes,
        "superiority": float(np.clip(0.5 + 60 * effect, 0, 1)),
        "margin": 0.0009,
        "margin_source": "1 % of the gap in validation SSIM, the default",
        "size": "size open" if verdict in ("BETTER", "WORSE") else "",
        "designs": [[24, n_volumes], [n_seeds, 60]] if verdict == "UNDECIDED" else [],
        "refused": "",
        "verdict": verdict,
        "over": "seeds and patients",
        "words": f"{name}: {effect:+.4f} SSIM over {n_seeds} seeds and {n_volumes} volumes: {verdict}.",
    }


def _bands(median, half):
    return {
        "median": [float(v) for v in median],
        "low": [float(v) for v in median - half],
        "high": [float(v) for v in median + half],
    }


def _interval(mean, half):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _band_of(values, half):
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {**_interval(mean, half), "sd_seeds": sd}
