"""`--dry-run` and `--smoke`: what a study would do and cost, and which of its cells would fail; nothing is trained."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mrirecon import progress
from mrirecon.ablation.study.data import simulate
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.study.grid import Cell, Grid
from mrirecon.ablation.study.plan import Common, Plan
from mrirecon.ablation.work.prepare import study_path
from mrirecon.config import OptimizerConfig, SimulateConfig, TrainConfig
from mrirecon.config.ablate import AblateConfig
from mrirecon.configfile import build
from mrirecon.data.folders.volume_files import sharing_volumes
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import MIN_SEEDS, Variances, detectable_difference
from mrirecon.progress import say
from mrirecon.tables.metrics import METRICS, label_of
from mrirecon.tables.optimizers import find_optimizer

_PATIENTS = (5, 10, 50)  # for which the power of a design is said
_RECORD_BYTES = 60_000  # of a run's tables, curves and configuration
_NO_COST = ("optimizer.lr", "optimizer.momentum", "optimizer.betas", "optimizer.weight_decay", "schedule.", "seed")


def describe(grid: Grid, n_workers: int, costs: dict[str, Any] | None = None) -> str:
    """Cells, runs, hours and disk, in words.

    Args:
        grid: The study.
        n_workers: At once.
        costs: Of each cell a `Cost`, or None when they were not measured.
    """
    tuning, lines = grid.tuning, [f"study       {grid.name}: {len(grid.cells)} cells, reference {grid.reference}"]
    for factor, levels in grid.factors.items():
        lines.append(f"factor      {factor}: {', '.join(levels)}")
    lines += [f"note        {note}" for note in grid.notes]
    per_cell = Plan(grid, Common("")).least() // len(grid.cells)
    for cell in grid.cells:
        ranges = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in tuning.spaces[cell.name].items())
        lines.append(f"cell        {cell.name}: {per_cell} runs, searched over {ranges}; {_fixed(cell)}")
    winners = (
        f"{label_of(tuning.objectives[0])} at the end"
        if tuning.objectives[0] in METRICS
        else f"{' and '.join(tuning.objectives)} loss"
    )
    lines.append(
        f"runs        {per_cell * len(grid.cells)}: per cell {tuning.trials} trials x {tuning.repeats} "
        f"draw{'s' * (tuning.repeats != 1)} (as many again where the best rate lies at an edge), "
        f"{tuning.sweep} rates around each winner, {len(grid.seeds)} seeds; winners by {winners}"
    )
    lines += _power_lines(grid)
    if costs:
        lines += _cost_lines(grid, n_workers, costs, per_cell)
    return "\n".join(lines)


def _units(grid: Grid) -> str:
    if grid.tuning.repeats == 1:
        n = len(grid.seeds)
        return f"{n} paired seed{'s' * (n != 1)} of one tuning draw (tuned configurations are compared, not methods)"
    each = len(grid.seeds) / grid.n_units
    return f"{grid.n_units} tuning draws of {each:.3g} seed{'s' * (each != 1)} each (methods are compared)"


def _power_lines(grid: Grid) -> list[str]:
    """Say which difference the design can find, in SD of a paired difference: scores are not known before it ran."""
    n_seeds, n = grid.n_units, max(len(grid.cells) - 1, 1)
    if n_seeds < MIN_SEEDS:
        return [f"test        {_units(grid)}: no verdict, which takes {MIN_SEEDS} of them or more"]
    by_seeds = detectable_difference(Variances(1, 0, 0), n_seeds, 50, n)
    by_patients = [detectable_difference(Variances(0, 1, 0), n_seeds, patients, n) for patients in _PATIENTS]
    looks = "".join(f", {100 * share:.3g} % of alpha at {seeds}" for seeds, share in grid.looks.items())
    return [
        f"test        {_units(grid)}, {n} comparison{'s' * (n != 1)} with the reference{looks}; found in 80 % of "
        f"studies: a difference of {by_seeds:.2g} SD between seeds where patients agree; of "
        f"{', '.join(f'{size:.2g}' for size in by_patients)} SD between patients where seeds do, at "
        f"{', '.join(map(str, _PATIENTS))} test patients"
    ]


def pilot_lines(grid: Grid, analysed: Mapping[str, Any]) -> list[str]:
    """Say which difference the design can find with the variances that a study of this grid has shown.

    Args:
        grid: The study.
        analysed: Its results.json.
    """
    lines, n = [], max(len(grid.cells) - 1, 1)
    for table in analysed.get("variances") or ():
        if grid.n_units < MIN_SEEDS or table["n_patients"] < 2:
            continue  # no verdict, whatever the difference
        sd = {name: math.sqrt(2) * value for name, value in table["sd"].items()}
        of_pair = Variances(sd["method x seed"], sd["method x patient"], sd["rest"])
        size = detectable_difference(of_pair, grid.n_units, table["n_patients"], n)
        at = f" at {table['at']}" if table["at"] else ""
        lines.append(
            f"pilot       with the variances that this study has shown{at}, {grid.n_units} seeds x "
            f"{table['n_patients']} patients find {size:.2g} SSIM in 80 % of studies"
        )
    return lines


def measure(name: str, config: AblateConfig, grid: Grid) -> tuple[dict[str, Any], dict[str, str]]:
    """Try every distinct cost once (`--dry-run`) or every cell (`--smoke`).

    Returns:
        `Cost` by cell, and the first line of the error of each cell that cannot run.
    """
    from mrirecon.ablation.work.worker import Setting, training_config

    costs: dict[str, Any] = {}
    errors: dict[str, str] = {}
    seen: dict[str, Any] = {}
    with _data(name, config, grid) as (path, n_val_slices), _quietly(), sharing_volumes():
        setting = Setting(str(path), config.device or "auto")
        plan = Plan(grid, Common("", config.threads or 1))
        for cell in grid.cells:
            spec = next(spec for spec in plan.runs({}) if spec.cell is cell)
            costing = {key: value for key, value in spec.settings.items() if not key.startswith(_NO_COST)}
            key = cell.name if config.smoke else json.dumps(costing, sort_keys=True)
            try:
                if key not in seen:
                    seen[key] = probe(training_config(spec, setting), 2 if config.smoke else 4)
                costs[cell.name] = replace(seen[key], n_val_slices=n_val_slices or seen[key].n_val_slices)
            except Exception as error:
                errors[cell.name] = _reason(error)
    return costs, errors


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, or its kind where it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def require_runnable(grid: Grid, errors: dict[str, str]) -> None:
    """Refuse by name what cannot run.

    Raises:
        InputError: With every such cell.
    """
    if errors:
        listed = "; ".join(f"{cell}: {error}" for cell, error in errors.items())
        raise InputError(f"{len(errors)} of {len(grid.cells)} cells cannot run: {listed}")


@contextmanager
def _data(name: str, config: AblateConfig, grid: Grid) -> Iterator[tuple[Path, int]]:
    """The given data, those of the study, or a few simulated volumes of the same size that go afterwards.

    With the latter comes the number of validation slices that the study itself will simulate, else 0.
    """
    standing = StudyFolder(study_path(name, config, grid.name)).data
    if config.data or standing.is_dir():
        yield Path(config.data) if config.data else standing, 0
        return
    with TemporaryDirectory() as folder:
        few = {"train": 2, "val": 1, "test": 1} if grid.simulate else {}
        with _quietly():
            simulate(Path(folder) / "data", {**grid.simulate, **few})
        whole = build(SimulateConfig, grid.simulate)
        yield Path(folder) / "data", whole.val * whole.slices


@contextmanager
def _quietly() -> Iterator[None]:
    old, progress.quiet = progress.quiet, True
    try:
        yield
    finally:
        progress.quiet = old


def _fixed(cell: Cell) -> str:
    """Return the options of a cell's optimizer that are not tuned, in words."""
    method = find_optimizer(cell.settings["optimizer.name"])
    fixed = {**method.options, **method.fixed} if method else {}
    for name in OptimizerConfig().options:
        if cell.settings[f"optimizer.{name}"] not in (None, []):
            fixed[name] = cell.settings[f"optimizer.{name}"]
    fixed |= {"weight decay": cell.settings["optimizer.weight_decay"], "schedule": cell.settings["schedule.name"]}
    return "fixed: " + ", ".join(f"{name} {value}" for name, value in fixed.items())


def _cost_lines(grid: Grid, n_workers: int, costs: dict[str, Any], per_cell: int) -> Iterator[str]:
    seconds = sum(per_cell * _run_seconds(cost) for cost in costs.values())
    weights = sum(4 * cost.n_parameters * len(grid.seeds) for cost in costs.values())
    disk = weights + _RECORD_BYTES * per_cell * len(costs)
    further = sum(grid.tuning.trials * grid.tuning.repeats * _run_seconds(cost) for cost in costs.values())
    for cell, cost in costs.items():
        step, run = 1000 * cost.step_seconds, _run_seconds(cost)
        yield f"cost        {cell}: {step:.0f} ms per step, {run:.0f} s per run"
    yield (
        f"estimate    {seconds / 3600:.2f} hours of work, {seconds / 3600 / n_workers:.2f} hours with {n_workers} "
        f"workers (from a timed probe), up to {further / 3600:.2f} hours of work more where ranges are widened; "
        f"{disk / 1e6:.0f} MB of disk"
    )


def _run_seconds(cost: Any) -> float:
    """Training and validations; the test volumes of reruns are left out."""
    return float(cost.n_steps * cost.step_seconds + cost.n_validations * cost.n_val_slices * cost.slice_seconds)


def announce(grid: Grid) -> None:
    """Say the notes of a grid."""
    for note in grid.notes:
        say(f"note        {note}")


@dataclass(frozen=True)
class Cost:
    """Cost of a run of a cell on this machine."""

    step_seconds: float
    slice_seconds: float  # of validation
    n_steps: int
    n_validations: int
    n_val_slices: int
    n_parameters: int


def probe(config: TrainConfig, n_steps: int = 2) -> Cost:
    """Do `n_steps` optimizer steps and one validation batch.

    Raises:
        InputError, WorkFailedError, RuntimeError: The cell cannot run; the message says why.
    """
    import torch

    from mrirecon.data.samples import to_device
    from mrirecon.models.device import autocast, keep_freed_memory
    from mrirecon.workflows.setup.training_work import TrainingWork

    work = TrainingWork(config)
    if work.device == "cpu":
        keep_freed_memory()
    device = torch.device(work.device)
    module = work.module.to(device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    if hasattr(optimizer, "train"):
        optimizer.train()
    seconds = []
    batches = iter(work.data.first_batches(n_steps * min(work.plan.accumulate, 2)))
    for _ in range(n_steps):
        began = time.perf_counter()
        optimizer.zero_grad()
        for _ in range(min(work.plan.accumulate, 2)):
            with autocast(device, work.precision):
                loss = module.sample_loss(to_device(next(batches), device))
            loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    loader = work.data.val_dataloader()[0]
    began = time.perf_counter()
    module.eval()
    with torch.inference_mode(), autocast(device, work.precision):
        n = len(module.predict(module.model, to_device(next(iter(loader)), device)).image)
    took = time.perf_counter() - began
    return Cost(
        min(seconds) * work.plan.accumulate / min(work.plan.accumulate, 2),
        took / n,
        work.plan.n_steps,
        work.plan.n_steps // work.plan.val_every,
        sum(len(one.dataset.items) for one in work.data.val_dataloader()),  # type: ignore[attr-defined, misc]
        sum(p.numel() for p in module.model.parameters()),
    )


def check_cells(grid: Grid, device: str) -> dict[str, str]:
    """The first line of the error of each cell that cannot be made.

    Raises:
        InputError: No such device here.
    """
    from mrirecon.ablation.work.worker import Setting, training_config
    from mrirecon.models.device import choose_device
    from mrirecon.workflows.setup.training_work import check_setting

    choose_device(device)
    errors, seen = {}, set()
    setting = Setting("", device)
    for spec in Plan(grid, Common("")).runs({}):
        if spec.cell.name in seen:
            continue
        seen.add(spec.cell.name)
        try:
            precision = grid.cell(spec.cell.name).settings["precision"]
            check_setting(replace(training_config(spec, setting), precision=precision))
        except Exception as error:  # a class of somebody else may raise anything
            errors[spec.cell.name] = _reason(error)
    return errors
