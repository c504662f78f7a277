"""Where sparse signals are recovered exactly from random Fourier samples: `python scripts/phase_transition.py OUT.png`.

Each point of the figure is the share of random signals that l1 minimisation recovers (Candes, Romberg and Tao 2006;
Donoho and Tanner 2009), by how many samples were kept and how many points are not zero.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from mrirecon.physics import fft2c
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.wavelet import Wavelet

WIDTH, TRIALS = 64, 24
SAMPLES, POINTS = range(8, 57, 8), range(2, 31, 4)


def recovered(n_samples: int, n_points: int, seed: int = 0) -> float:
    """Return the share of `TRIALS` signals, the rows of an image, that come back with an NMSE below 1e-5."""
    generator = np.random.default_rng(seed)
    image = np.zeros((TRIALS, WIDTH), complex)
    for row in image:
        row[generator.choice(WIDTH, n_points, replace=False)] = np.exp(2j * np.pi * generator.random(n_points))
    columns = np.zeros(WIDTH, bool)
    columns[generator.choice(WIDTH, n_samples, replace=False)] = True
    truth, mask = torch.from_numpy(image), torch.from_numpy(columns)
    # `fft2c` transforms the rows' axis too, which all samples of a column undo: each row is a problem of its own
    kspace = torch.where(mask, fft2c(truth), 0)[None, None]
    problem = Problem.of_kspace(kspace, mask[None], torch.ones_like(kspace), tuple(truth.shape))
    method = Wavelet("identity", lambda_=1e-4, iterations=4000, tolerance=1e-9, maps="espirit", crop=0.0)
    found = method.solve(problem).image[0] * problem.scale[0]
    errors = (found - truth).abs().square().sum(1) / truth.abs().square().sum(1)
    return float((errors < 1e-5).double().mean())


def draw(path: Path) -> None:
    """Draw the share that is recovered for every number of samples and points."""
    shares = [[recovered(n, k) for n in SAMPLES] for k in POINTS]
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    drawn = axes.pcolormesh(np.array(SAMPLES) / WIDTH, np.array(POINTS) / WIDTH, shares, vmin=0, vmax=1, cmap="cividis")
    axes.set(xlabel="share of columns sampled", ylabel="share of points that are not zero")
    figure.colorbar(drawn, label=f"recovered, of {TRIALS} signals")
    figure.savefig(path, dpi=120)
    print(f"{path}: " + "; ".join(f"{k} points: {row}" for k, row in zip(POINTS, shares, strict=True)))


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "phase-transition.png"))
