"""What one run of a study leaves: a record that is published once, as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.evaluation.results import ZERO_FILLED
from mrirecon.files import read_json, write_text
from mrirecon.tables.metrics import METRICS, default_metrics, in_files, shortfall

STAGES = ("tune", "sweep", "rerun")
FINAL, AREA = "final", "area"  # what a winner of the tuning is best at: the loss at the end, or on the way


def objectives() -> list[str]:
    """Return the names that tuning can be for: a loss, or a score at the end that every validation takes."""
    return [FINAL, AREA, *default_metrics()]


@dataclass(frozen=True)
class Point:
    """One validation of a run."""

    step: int
    val_loss: float
    scores: Mapping[str, float]  # by metric


@dataclass(frozen=True)
class Trace:
    """One row of the training's own curve."""

    step: int
    train_loss: float
    grad_norm: float
    update_ratio: float


@dataclass(frozen=True)
class Score:
    """One test volume at one nominal acceleration, scored once with the final weights."""

    volume: str
    patient: str
    acceleration: float
    scores: Mapping[str, float]  # by metric
    zero_filled: Mapping[str, float]  # of the same metrics


@dataclass(frozen=True)
class Timing:
    """Facts of a run that depend on the machine."""

    seconds: float = math.nan  # the whole run, validations and scoring included
    step_seconds: float = math.nan  # median over windows, training alone
    peak_memory: int = 0  # bytes
    host: str = ""
    device: str = ""


@dataclass(frozen=True)
class RunResult:
    """A finished run; one that diverged is finished too, and says so."""

    run: str  # hash of everything that decides the result
    cell: str
    levels: dict[str, str]  # factor -> label of its level
    stage: str  # tune, sweep (learning rates around the winner) or rerun
    objective: str  # which winner is swept or rerun; of tuning runs the first objective of the grid
    repeat: int  # tuning draw, from 0
    trial: int  # tune: number of the trial; sweep: number of the point; rerun: 0
    widened: bool  # tune: a trial of the widened range
    seed: int
    values: dict[str, float]  # tuned keys, such as optimizer.lr
    n_steps: int
    slices_per_step: int
    diverged_at: int | None  # step
    points: list[Point]
    traces: list[Trace] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)  # of reruns
    optimizer_bytes: int = 0  # state of the optimizer
    n_parameters: int = 0
    code: str = ""  # hash of the package
    timing: Timing = field(default_factory=Timing)

    @property
    def final_loss(self) -> float:
        """Validation loss at the last step; infinite when the run diverged."""
        if self.diverged_at is not None or not self.points:
            return math.inf
        return _finite_or_inf(self.points[-1].val_loss)

    @property
    def area(self) -> float:
        """Mean validation loss over the steps from the first to the last validation; infinite when it diverged."""
        if self.diverged_at is not None or not self.points:
            return math.inf
        steps, losses = [p.step for p in self.points], [p.val_loss for p in self.points]
        if len(steps) == 1:
            return _finite_or_inf(losses[0])
        parts = zip(steps, steps[1:], losses, losses[1:], strict=False)
        return _finite_or_inf(sum((b - a) * (x + y) / 2 for a, b, x, y in parts) / (steps[-1] - steps[0]))

    def loss(self, objective: str) -> float:
        """Return what tuning minimises: a loss, or what the last validation's score lacks; infinite if it diverged."""
        if objective in METRICS:
            diverged = self.diverged_at is not None or not self.points
            return shortfall(objective, math.nan if diverged else self.points[-1].scores.get(objective, math.nan))
        return self.area if objective == AREA else self.final_loss


def write_record(path: Path, result: RunResult) -> None:
    """Write a record, whole or not at all; values that are not finite become null."""
    plain = asdict(result)
    plain |= {"points": list(map(_flat, plain["points"])), "scores": list(map(_flat, plain["scores"]))}
    write_text(path, json.dumps(without_nan(plain), indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> RunResult:
    """Read a record.

    Raises:
        InputError: It is damaged.
    """
    try:
        raw = read_json(path)
        return RunResult(
            **{
                **raw,
                "points": [Point(**_nested(row, ("step", "val_loss"))) for row in raw["points"]],
                "traces": _rows(Trace, raw["traces"]),
                "scores": [
                    Score(**_nested(row, ("volume", "patient", "acceleration"), ZERO_FILLED)) for row in raw["scores"]
                ],
                "timing": _rows(Timing, [raw["timing"]])[0],
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a record of a run ({type(error).__name__}: {error}); delete it") from None


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A point or a score with a key for each metric, as the first records had it, and before them nothing else."""
    own, zero_filled = row.pop("scores"), row.pop("zero_filled", {})
    names = in_files(own)
    return row | {name: own[name] for name in names} | {ZERO_FILLED + m: zero_filled[m] for m in names if zero_filled}


def _nested(row: dict[str, Any], about: Sequence[str], zero_filled: str = "") -> dict[str, Any]:
    """Rebuild what `_flat` made flat; the metrics of the first records must be there, others need not.

    Raises:
        KeyError: A key is missing.
    """
    metrics = [name for name in METRICS if name in row or not METRICS[name].appended]
    found: dict[str, Any] = {name: row[name] for name in about}
    found["scores"] = {name: _number(row[name]) for name in metrics}
    if zero_filled:
        found["zero_filled"] = {name: _number(row[zero_filled + name]) for name in metrics}
    return found | ({"val_loss": _number(row["val_loss"])} if "val_loss" in about else {})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rows(cls: type, rows: Sequence[dict[str, Any]]) -> list[Any]:
    floats = {item.name for item in fields(cls) if item.type is float}
    return [
        cls(**{key: math.nan if value is None and key in floats else value for key, value in row.items()})
        for row in rows
    ]


def without_nan(value: Any) -> Any:
    """Return plain data as JSON takes them (RFC 8259, 2017): text keys, lists, None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite_or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf
