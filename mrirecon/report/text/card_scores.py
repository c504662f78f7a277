"""What a run scored: in its training, and in every evaluation of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.evaluation.stats import goodness
from mrirecon.report.run_files import read_json, read_rows
from mrirecon.report.text.markdown import escaped, table
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, sentence


def scores(run: RunFolder, checkpoint: str, protocol: str, monitor: str, step: int | None) -> str:
    """The validation of a checkpoint (best or last) and a table of all evaluations, in Markdown.

    Args:
        run: Its folder.
        checkpoint: Which one.
        protocol: Of the validation.
        monitor: The score by which `best` was chosen.
        step: Of the checkpoint; None: not known.
    """
    rows = [row for row in read_rows(run.curves) if row.get("val_ssim")]
    return "\n\n".join([_validation(rows, checkpoint, protocol, monitor, step), _evaluations(run)])


def _validation(
    rows: Sequence[Mapping[str, str]], checkpoint: str, protocol: str, monitor: str, step: int | None
) -> str:
    if step is not None:
        rows = [row for row in rows if int(row["step"]) == step]
    if not rows:
        return "No validation is recorded."
    is_best = checkpoint == "best"
    row = max(rows, key=lambda r: goodness(monitor, float(r[f"val_{monitor}"]))) if is_best else rows[-1]
    scores = {name: float(row[f"val_{name}"]) for name in METRICS if row.get(f"val_{name}")}
    return f"Validation in training, {checkpoint} (step {escaped(row['step'])}), {protocol}: {sentence(scores)}."


def _evaluations(run: RunFolder) -> str:
    paths = sorted(run.path.glob("evaluation/*/summary.json"))
    summaries = {escaped(path.parent.name): escaped(read_json(path)) for path in paths}
    if not summaries:
        return "The run has not been evaluated (`mrirecon evaluate RUN`)."
    metrics = [name for name in METRICS if any(name in s.get("overall", {}) for s in summaries.values())]
    rows = [row for name, summary in summaries.items() for row in _evaluation_rows(name, summary, metrics)]
    header = ["evaluation", "protocol", "image", "volumes (patients)", *map(heading_of, metrics)]
    return f"{table(header, rows)}\n\nMean over volumes [95 % interval over patients, from 5 patients on]."


def _evaluation_rows(name: str, summary: Mapping[str, Any], metrics: Sequence[str]) -> list[list[str]]:
    overall = summary.get("overall", {})
    protocol = summary.get("protocol", {}).get("name", "not recorded")
    count = f"{overall.get('n_volumes', '-')} ({overall.get('n_patients', '-')})"
    kinds = {f"{summary.get('checkpoint') or 'network'}": "", "zero-filled": "zf_"}
    return [
        [name, protocol, kind, count, *(_mean(overall.get(prefix + m), digits_of(m)) for m in metrics)]
        for kind, prefix in kinds.items()
    ]


def _mean(values: Mapping[str, float | None] | None, digits: str) -> str:
    if not values or values.get("mean") is None:
        return "-"
    low, high = values.get("low"), values.get("high")
    interval = "" if low is None or high is None else f" [{low:{digits}}, {high:{digits}}]"
    return f"{values['mean']:{digits}}{interval}"
