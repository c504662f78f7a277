"""Curves of a cell over its reruns: median and the middle four fifths of the seeds at each step. No torch here."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from mrirecon.ablation.findings.spread import band
from mrirecon.ablation.study.records import Point, RunResult, Trace

Row = Point | Trace
Value = Callable[[Any], float]
_TRACES = ("grad_norm", "update_ratio", "train_loss")


def learning_curves(reruns: Sequence[RunResult]) -> dict[str, Any] | None:
    """Bands of validation SSIM and loss, gradient norm, update ratio and training loss.

    A run that diverged is part of them up to where it did: later steps are of the runs that are left.

    Returns:
        `steps` with `ssim` and `val_loss`, `trace_steps` with `grad_norm`, `update_ratio` and `train_loss`, each
        `median`, `low`, `high`; None without reruns.
    """
    if not reruns:
        return None
    of_points: dict[str, Value] = {"ssim": lambda p: p.scores["ssim"], "val_loss": attrgetter("val_loss")}
    steps, validations = _bands(reruns, lambda r: r.points, of_points)
    trace_steps, traces = _bands(reruns, lambda r: r.traces, {name: attrgetter(name) for name in _TRACES})
    return {"steps": steps, **validations, "trace_steps": trace_steps, **traces}


def _bands(
    reruns: Sequence[RunResult],
    rows: Callable[[RunResult], Sequence[Row]],
    values: Mapping[str, Value],
) -> tuple[list[int], dict[str, dict[str, list[float]]]]:
    at: dict[int, list[Row]] = {}
    for run in reruns:
        for row in rows(run):
            at.setdefault(row.step, []).append(row)
    steps = sorted(at)
    return steps, {name: band([[value(row) for row in at[step]] for step in steps]) for name, value in values.items()}
