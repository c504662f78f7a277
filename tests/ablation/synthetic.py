"""Studies made of numbers with a known truth: what `mrirecon.ablation.findings.analysis` gets, without any training.

`make_study(...)` gives (grid, results, facts). Each cell has a `World`: what is true of it. Validation SSIM of a run at
`step` is ZERO_FILLED + gain * (1 - exp(-step / speed)); the loss is 1 - SSIM.
"""

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from result_rows import three

from mrirecon.ablation.study.grid import Cell, Grid, Tuning
from mrirecon.ablation.study.records import Point, RunResult, Score, Timing, Trace
from mrirecon.ablation.study.tune import sweep_rates
from mrirecon.config import TrainConfig
from mrirecon.configfile import build, flatten

ZERO_FILLED = 0.70  # SSIM, validation and test
PSNR_PER_SSIM, NMSE_PER_SSIM = 50.0, 0.2  # the other scores follow SSIM
LR = "optimizer.lr"

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.name": "sgd"},
    "momentum": {"optimizer.name": "momentum", "optimizer.momentum": 0.9},
    "adam": {"optimizer.name": "adam"},
}
NORMS: dict[str, dict[str, Any]] = {
    "batch": {"model.norm": "batch"},
    "instance": {"model.norm": "instance"},
    "group": {"model.norm": "group", "model.channels_per_group": 4},
}
FACTORS = {"optimizer": OPTIMIZERS, "norm": NORMS}


@dataclass(frozen=True)
class World:
    """What is true of one cell."""

    ssim: float = 0.80  # final, of test and validation
    speed: float = 40.0  # steps in which the distance to the end falls to 1/e
    lr: float = 2e-3  # best learning rate, of the final loss and of the area
    lr_diverged: float = 1e-2  # this rate and larger ones diverge
    curvature: float = 0.01  # SSIM lost per squared log(rate / best rate)
    tail: float = 0.0  # standard deviation of validation SSIM from one validation to the next
    gap: float = 0.0  # validation loss minus training loss
    buffers: int = 2  # optimizer state, in copies of the parameters
    step_seconds: float = 0.05
    grad_noise: float = 0.1  # relative standard deviation of the gradient norm


def make_study(
    factors: Mapping[str, Mapping[str, dict[str, Any]]] = FACTORS,
    worlds: Mapping[str, World] | None = None,
    *,
    effects: Mapping[str, float] | None = None,
    default: World = World(),
    reference: str = "",
    base: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = tuple(range(8)),
    n_volumes: int = 10,
    volumes_per_patient: int = 1,
    accelerations: Sequence[float] = (4.0,),
    sd_seed: float = 0.001,
    sd_volume: float = 0.001,
    sd_residual: float = 0.001,
    trials: int = 8,
    repeats: int = 1,
    sweep: int = 7,
    objectives: tuple[str, ...] = ("final",),
    low_high: tuple[float, float] = (1e-4, 1e-1),
    n_steps: int = 300,
    val_every: int = 20,
    diverged: Sequence[tuple[str, int]] = (),
    diverged_as: str = "zero-filled",
    margin: float = 0.01,
    rng: int = 0,
    **of_grid: Any,
) -> tuple[Grid, list[RunResult], dict[str, Any]]:
    """A finished study.

    Args:
        factors: Factor -> label -> dotted configuration keys that it sets; cells are named label/label in this order.
        worlds: Truth by cell name; cells without one have `default`.
        effects: By cell name, added to the SSIM of its world (a shorter way to say only that).
        default: Truth of the other cells.
        reference: Cell; empty: the last of the first factor with the second of the others (adam/instance).
        base: Dotted keys of the base configuration, for the settings of every cell.
        seeds: Of the reruns.
        n_volumes: Test volumes.
        volumes_per_patient: Neighbouring volumes that share a patient.
        accelerations: Nominal; each scores every volume, 4x as given and others .02 SSIM lower per doubling.
        sd_seed: Standard deviation of a cell's test score over seeds, the same for all volumes of a run.
        sd_volume: Of a cell's test score over volumes, the same for all seeds. (Volumes differ by .03 besides, alike in
            all cells.)
        sd_residual: Of what is left.
        trials: Tuning trials per cell and draw.
        repeats: Tuning draws.
        sweep: Learning rates around each winner.
        objectives: Of the tuning; each is swept and rerun.
        low_high: Range of the learning rates.
        n_steps: Length of each run.
        val_every: Steps between validations.
        diverged: (cell, seed) of reruns that diverge half way.
        diverged_as: What they score as, as in the grid.
        margin: Of equivalence, as in the grid.
        rng: Seed of all noise.
        of_grid: Other fields of the grid, such as `looks`.
    """
    tuning = Tuning(trials=trials, repeats=repeats, dimensions=(LR,), objectives=objectives, sweep=sweep)
    grid = replace(_grid(factors, dict(base or {}), tuple(seeds), reference, margin, tuning, low_high), **of_grid)
    grid = replace(grid, diverged=diverged_as)
    maker = _Maker(
        grid=grid,
        truths={cell.name: _truth(cell.name, worlds or {}, effects or {}, default) for cell in grid.cells},
        volumes=[f"file{i:04d}.h5" for i in range(n_volumes)],
        patients=[f"p{i // volumes_per_patient:04d}" for i in range(n_volumes)],
        accelerations=tuple(accelerations),
        sds=(sd_seed, sd_volume, sd_residual),
        n_steps=n_steps,
        val_every=val_every,
        diverged=frozenset(diverged),
        low_high=low_high,
        rng=rng,
    )
    results = [result for cell in grid.cells for result in maker.cell(cell)]
    return grid, results, _facts(n_volumes, volumes_per_patient, accelerations, n_steps)


def _grid(factors, base, seeds, reference, margin, tuning, low_high) -> Grid:
    cells = []
    for labels in itertools.product(*factors.values()):
        levels = dict(zip(factors, labels, strict=True))
        settings = _defaults() | base
        for factor, label in levels.items():
            settings |= factors[factor][label]
        cells.append(Cell("/".join(labels), levels, settings))
    if not reference:
        first, *others = [list(levels) for levels in factors.values()]
        reference = "/".join([first[-1], *(labels[min(1, len(labels) - 1)] for labels in others)])
    spaces = {cell.name: {LR: low_high} for cell in cells}
    return Grid(
        name="synthetic",
        factors={factor: dict(levels) for factor, levels in factors.items()},
        cells=tuple(cells),
        seeds=seeds,
        tuning=replace(tuning, spaces=spaces),
        reference=reference,
        margin=margin,
    )


@cache
def _defaults() -> dict[str, Any]:
    return flatten(build(TrainConfig, {}))


def _truth(name, worlds, effects, default) -> World:
    world = worlds.get(name, default)
    return replace(world, ssim=world.ssim + effects.get(name, 0.0))


def _facts(n_volumes, volumes_per_patient, accelerations, n_steps) -> dict[str, Any]:
    return {
        "command": "mrirecon ablate run synthetic.yaml",
        "created": "2026-01-01T00:00:00Z",
        "data": {
            "path": "data",
            "origins": ["simulated-from-phantom"],
            "n_train": 24,
            "n_val": 6,
            "n_test": n_volumes,
            "n_patients_test": -(-n_volumes // volumes_per_patient),
            "mask": "random",
            "acceleration": list(accelerations),
            "manifest": "0123456789ab",
        },
        "model": "U-Net, 8 channels, 4 pools, 0.48 M parameters",
        "budget": f"{n_steps} steps x 4 slices",
        "protocol": "fastmri-v1",
        "provenance": {"packages": {"torch": "2.14.1"}, "git": None},
        "zero_filled_val": {"ssim": ZERO_FILLED},
        "failures": {},
    }


@dataclass(frozen=True)
class _Maker:
    grid: Grid
    truths: dict[str, World]
    volumes: list[str]
    patients: list[str]
    accelerations: tuple[float, ...]
    sds: tuple[float, float, float]
    n_steps: int
    val_every: int
    diverged: frozenset[tuple[str, int]]
    low_high: tuple[float, float]
    rng: int

    def _noise(self, *names) -> np.random.Generator:
        return np.random.default_rng([self.rng, *(zlib.crc32(str(name).encode()) for name in names)])

    def cell(self, cell) -> list[RunResult]:
        tuned = [
            self._run(cell, "tune", self.grid.tuning.objectives[0], repeat, trial, 1000 + repeat, rate)
            for repeat, row in enumerate(self._trial_rates())
            for trial, rate in enumerate(row)
        ]
        finished = list(tuned)
        for objective in self.grid.tuning.objectives:
            winners = []
            for repeat in range(self.grid.tuning.repeats):
                best = min((r for r in tuned if r.repeat == repeat), key=lambda r: (r.loss(objective), r.trial))
                winners.append(best)
                rates = sweep_rates(best.values[LR], self.grid.tuning.sweep)
                finished += [
                    self._run(cell, "sweep", objective, repeat, i, 1000 + repeat, rate) for i, rate in enumerate(rates)
                ]
            for i, seed in enumerate(self.grid.seeds):
                winner = winners[i % len(winners)]
                finished.append(self._run(cell, "rerun", objective, winner.repeat, 0, seed, winner.values[LR]))
        return finished

    def _trial_rates(self) -> np.ndarray:
        """The same for every cell: log-uniform, one per equal part of the range."""
        low, high = np.log(self.low_high)
        repeats, trials = self.grid.tuning.repeats, self.grid.tuning.trials
        cuts = np.stack([self._noise("trials", r).permutation(trials) for r in range(repeats)])
        return np.exp(low + (high - low) * (cuts + self._noise("jitter").random((repeats, trials))) / trials)

    def _run(self, cell, stage, objective, repeat, trial, seed, rate) -> RunResult:
        truth = self.truths[cell.name]
        key = (cell.name, stage, objective, repeat, trial, seed)
        noise = self._noise(*key)
        fails = rate >= truth.lr_diverged if stage != "rerun" else (cell.name, seed) in self.diverged
        stopped = self.n_steps // 2 if fails else None
        # A rerun is exactly as good as its world says: what is lost to a rate beside the best is in the tuning only.
        lost = 0.0 if stage == "rerun" else truth.curvature * math.log(rate / truth.lr) ** 2
        seed_effect = self.sds[0] * noise.standard_normal()
        end = truth.ssim - lost + seed_effect
        return RunResult(
            run=f"{zlib.crc32(repr(key).encode()):08x}",
            cell=cell.name,
            levels=dict(cell.levels),
            stage=stage,
            objective=objective,
            repeat=repeat,
            trial=trial,
            widened=False,
            seed=seed,
            values={LR: float(rate)},
            n_steps=self.n_steps,
            slices_per_step=4,
            diverged_at=stopped,
            points=self._points(truth, end, noise, stopped),
            traces=self._traces(truth, end, noise, stopped),
            scores=[] if stage != "rerun" or fails else self._scores(cell.name, end, noise),
            optimizer_bytes=truth.buffers * 4 * 480_000,
            n_parameters=480_000,
            code="c0de",
            timing=Timing(self.n_steps * truth.step_seconds, truth.step_seconds, 2**28, "node1", "cpu"),
        )

    def _points(self, truth, end, noise, stopped) -> list[Point]:
        steps = range(self.val_every, self.n_steps + 1, self.val_every)
        made = []
        for step in steps:
            if stopped is not None and step >= stopped:
                break
            ssim = ZERO_FILLED + (end - ZERO_FILLED) * (1 - math.exp(-step / truth.speed))
            ssim += truth.tail * noise.standard_normal()
            made.append(Point(step, 1 - ssim, three(ssim, PSNR_PER_SSIM * ssim, NMSE_PER_SSIM * (1 - ssim))))
        return made

    def _traces(self, truth, end, noise, stopped) -> list[Trace]:
        made = []
        for step in range(10, self.n_steps + 1, 10):
            if stopped is not None and step >= stopped:
                break
            left = math.exp(-step / truth.speed)
            loss = 1 - (ZERO_FILLED + (end - ZERO_FILLED) * (1 - left)) - truth.gap
            norm = (0.1 + left) * math.exp(truth.grad_noise * noise.standard_normal())
            made.append(Trace(step, loss, norm, 1e-3 * norm))
        return made

    def _scores(self, name, end, noise) -> list[Score]:
        by_volume = self.sds[1] * self._noise("cell and volume", name).standard_normal(len(self.volumes))
        levels = 0.03 * self._noise("volumes").standard_normal(len(self.volumes))
        residual = self.sds[2] * noise.standard_normal((len(self.accelerations), len(self.volumes)))
        made = []
        for a, acceleration in enumerate(self.accelerations):
            harder = 0.02 * math.log2(acceleration / 4)
            for v, volume in enumerate(self.volumes):
                level = levels[v] - harder
                ssim, zero_filled = end + by_volume[v] + residual[a, v] + level, ZERO_FILLED + level
                both = [three(s, PSNR_PER_SSIM * s, NMSE_PER_SSIM * (1 - s)) for s in (float(ssim), float(zero_filled))]
                made.append(Score(volume, self.patients[v], float(acceleration), *both))
        return made
