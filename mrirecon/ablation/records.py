"""What one run of a study leaves: a record that is published once, as JSON. No torch here."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.evaluation.stats import goodness
from mrirecon.evaluation.summary import METRICS
from mrirecon.files import read_json, write_text

STAGES = ("tune", "sweep", "rerun")
FINAL, AREA = "final", "area"  # what a winner of the tuning is best at: the loss at the end, or on the way
OBJECTIVES = (FINAL, AREA, *METRICS)  # or a score at the end
# how far a score is from perfect, by its goodness: above 0 as a loss is (1 - SSIM, RMSE over the peak, NMSE)
_SHORTFALL: dict[str, Callable[[float], float]] = {
    "ssim": lambda goodness: 1 - goodness,
    "psnr": lambda goodness: 10 ** (-goodness / 20),
    "nmse": lambda goodness: -goodness,
}


@dataclass(frozen=True)
class Point:
    """One validation of a run."""

    step: int
    val_loss: float
    ssim: float
    psnr: float
    nmse: float


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
    ssim: float
    psnr: float
    nmse: float
    zf_ssim: float
    zf_psnr: float
    zf_nmse: float


@dataclass(frozen=True)
class Timing:
    """What depends on the machine."""

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
        """What the tuning minimises: a loss, or what the last validation's score lacks; infinite when it diverged."""
        if objective in METRICS:
            diverged = self.diverged_at is not None or not self.points
            score = math.nan if diverged else getattr(self.points[-1], objective)
            return _SHORTFALL[objective](goodness(objective, score))
        return self.area if objective == AREA else self.final_loss


def write_record(path: Path, result: RunResult) -> None:
    """Write a record, whole or not at all; values that are not finite become null."""
    write_text(path, json.dumps(_without_nan(asdict(result)), indent=1, allow_nan=False) + "\n")


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
                "points": _rows(Point, raw["points"]),
                "traces": _rows(Trace, raw["traces"]),
                "scores": _rows(Score, raw["scores"]),
                "timing": _rows(Timing, [raw["timing"]])[0],
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a record of a run ({type(error).__name__}: {error}); delete it") from None


def _rows(cls: type, rows: Sequence[dict[str, Any]]) -> list[Any]:
    floats = {item.name for item in fields(cls) if item.type is float}
    return [
        cls(**{key: math.nan if value is None and key in floats else value for key, value in row.items()})
        for row in rows
    ]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite_or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf
