"""The tables of a study: results.csv, timing.csv, results.json, and the same for wandb."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.records import STAGES, RunResult, Score, without_nan
from mrirecon.evaluation.results import ZERO_FILLED
from mrirecon.files import replacing, write_json
from mrirecon.tables.metrics import METRICS, in_files

_WHICH = ("stage", "objective", "repeat", "widened", "trial", "seed")
_TIMES = ("seconds", "step_seconds", "peak_memory", "host", "device")
Row = dict[str, Any]


def write_results_csv(path: Path, grid: Grid, results: Sequence[RunResult]) -> None:
    """Write one row for each validation of each run and one for each test volume and acceleration of a rerun.

    Only what the seed determines, with all digits and in one order: equal studies give equal bytes. The columns of the
    factors' levels begin with `factor.`; tuned values are named by their configuration keys. Quotes are those of
    RFC 4180 (2005), but lines end in a newline alone.

    Args:
        path: File to write, whole or not at all.
        grid: The study's plan.
        results: Records, in any order.
    """
    ordered = sorted(results, key=_order)
    tuned = sorted({key for run in ordered for key in run.values})
    factors = [f"factor.{factor}" for factor in grid.factors]
    columns = ["run", "cell", *factors, *_WHICH, *tuned, "diverged_at", "split", "step", "volume", "patient"]
    scored = {name for run in ordered for point in run.points for name in point.scores}
    scored |= {name for run in ordered for score in run.scores for name in score.scores}
    metrics = in_files({name for name in METRICS if name in scored or not METRICS[name].appended})
    columns += ["acceleration", "val_loss"]
    for appended in (False, True):  # what came after the first version of the table stands at its end
        names = [name for name in metrics if METRICS[name].appended == appended]
        columns += [*names, *(ZERO_FILLED + name for name in names)]
    _write_csv(path, columns, (row for run in ordered for row in _evaluations(run)))


def write_timing_csv(path: Path, results: Sequence[RunResult]) -> None:
    """Write one row for each run with what depends on the machine: seconds, bytes, host, device."""
    _write_csv(path, ["run", "cell", *_WHICH, *_TIMES], map(_timing, sorted(results, key=_order)))


def write_results_json(path: Path, study: Mapping[str, Any]) -> None:
    """Write the analysed study; what is not finite becomes null."""
    write_json(path, without_nan(study))


def _order(run: RunResult) -> tuple[Any, ...]:
    return (run.cell, STAGES.index(run.stage), run.objective, run.repeat, run.widened, run.trial, run.seed, run.run)


def _identity(run: RunResult) -> Row:
    return {"run": run.run, "cell": run.cell} | {name: getattr(run, name) for name in _WHICH}


def _evaluations(run: RunResult) -> Iterator[Row]:
    levels = {f"factor.{factor}": label for factor, label in run.levels.items()}
    shared = _identity(run) | levels | run.values | {"diverged_at": run.diverged_at}
    for point in sorted(run.points, key=lambda p: p.step):
        yield shared | {"split": "val", "step": point.step, "val_loss": point.val_loss, **point.scores}
    for score in sorted(run.scores, key=lambda s: (s.volume, s.acceleration)):
        yield shared | {"split": "test", "step": run.n_steps} | _plain(score)
    if not run.points and not run.scores:  # diverged before the first validation; it is a result too
        yield shared


def _plain(score: Score) -> Row:
    about = {"volume": score.volume, "patient": score.patient, "acceleration": score.acceleration}
    return about | dict(score.scores) | {ZERO_FILLED + name: value for name, value in score.zero_filled.items()}


def _timing(run: RunResult) -> Row:
    return _identity(run) | vars(run.timing)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Empty for what is not known; `repr` keeps all digits of a float."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


_LEADERBOARD = ("cell", "n_seeds", "n_diverged", "edge")
_COMPARISON = ("name", "metric", "effect", "low", "high", "p", "verdict", "size", "words")
_CLAIM = ("claim", "text", "verdict", "effect", "low", "high", "margin", "unit", "words")


def log_study(name: str, folder: Path, study: Mapping[str, Any]) -> None:
    """Log leaderboard, comparisons and claims; offline where wandb's server cannot be used (see `start_wandb`).

    Args:
        name: Group of the study's runs.
        folder: The study's; wandb's files go there.
        study: The analysed study.
    """
    from mrirecon.training.loop.loggers import start_wandb, wandb_in

    with wandb_in(folder):
        import wandb

        run = start_wandb(folder, project="mrirecon", group=name, job_type="report", name=f"{name} report")
        for title, (columns, rows) in wandb_tables(study).items():
            run.log({title: wandb.Table(columns=columns, data=rows)})


def wandb_tables(study: Mapping[str, Any]) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
    """Columns and rows by title."""
    metrics = in_files({name for cell in study["cells"] for name in cell["final"] or ()})
    leaders = [
        [*(cell[key] for key in _LEADERBOARD), *((cell["final"] or {}).get(m, {}).get("mean") for m in metrics)]
        for cell in study["cells"]
    ]
    comparisons = [
        [family["name"], *(entry.get(key) for key in _COMPARISON)]
        for family in study["families"]
        for entry in family["comparisons"]
    ]
    claims = [[claim.get(key) for key in _CLAIM] for claim in study["claims"]]
    return {
        "leaderboard": ([*_LEADERBOARD, *metrics], leaders),
        "comparisons": (["family", *_COMPARISON], comparisons),
        "claims": (list(_CLAIM), claims),
    }
