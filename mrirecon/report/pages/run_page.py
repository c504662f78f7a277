"""The page of a single run: one HTML file that needs no server and no network."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrirecon.config import TrainConfig
from mrirecon.config.train import DEFAULT_EPOCHS
from mrirecon.configfile import flatten, load
from mrirecon.errors import InputError
from mrirecon.evaluation.stats import goodness, monitors
from mrirecon.files import write_text
from mrirecon.report.figures.drawing import as_svg
from mrirecon.report.figures.run_curves import column, draw_run_curves
from mrirecon.report.pages.comparison_page import write_comparison_page
from mrirecon.report.pages.html import Column, Entry, Table, drawn, measured, pairs, pictures, render
from mrirecon.report.run_files import COMPARISON, TABLE, name_of, read_json, read_rows, slices_per_step
from mrirecon.report.words import NONE, interval, number
from mrirecon.runs import RunFolder, open_run
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, label_of, similarities
from mrirecon.yamlfile import parse_yaml

_MOST_PICTURES = 6  # of an evaluation; all of them stand in its own folder
_CAPTION = "Training values are means since the row before; validations are dots."
_GROUPS = (
    Column("volumes of"),
    Column("n", True, "volumes, and their patients"),
    Column("image"),
)
_MEAN = "mean over volumes, 95 % interval over patients, from 5 patients on"
_VOLUMES = (
    Column("volume"),
    Column("acquisition"),
    Column("slices", True),
    Column("R", True, "nominal acceleration"),
    Column("true R", True),
    Column("draw", True, "mask draw; 0 is fastMRI's"),
)
_GAIN = "over the zero-filled image of the same mask"
_KINDS = {"": "reconstruction", "zf_": "zero-filled", "difference_": "paired difference"}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the run as the page shows it."""

    name: str
    words: str
    groups: Table
    volumes: Table
    pictures: list[tuple[str, str]]  # name, data URI
    n_pictures: int  # in its folder
    facts: list[tuple[str, str]]


def write_run_page(run: RunFolder, path: Path) -> None:
    """Write the page: curves, evaluations with intervals and figures, configuration, provenance.

    What the run folder lacks leaves a line that says so.

    Args:
        run: The run's folder, that of a method, which has evaluations alone, or of one evaluation.
        path: The HTML file.
    """
    rows = read_rows(run.curves)
    found = [_evaluation(file.parent) for file in evaluations(run)]
    volumes = {split: str(len(names)) for split, names in read_json(run.split).items() if isinstance(names, list)}
    parts = {
        "name": run.name,
        "setting": _setting(run),
        "verdict": [
            *([] if found and not run.config.is_file() else [_validation(rows, run)]),  # a method has none
            *(f"{e.name}: {e.words}" for e in found),
        ],
        "curves": drawn("curves", "Curves", _CAPTION, lambda: as_svg(draw_run_curves(rows))),
        "evaluations": found,
        "pictures": pictures(sorted(run.figures.glob("*.png"))),
        "config": _text(run.config),
        "volumes": list(volumes.items()),
        "provenance": pairs(read_json(run.provenance)),
    }
    write_text(path, render("run.html", **parts))


def evaluations(run: RunFolder) -> list[Path]:
    """Return the summaries of the evaluations of a run or a method, or that of the folder where it is one itself."""
    own = run.path / "summary.json"
    return [own] if own.is_file() else sorted(run.path.glob("evaluation/*/summary.json"))


def _setting(run: RunFolder) -> str:
    """Return network, optimizer and length in one line; empty where the configuration cannot be read."""
    try:
        trained = load(TrainConfig, run.config)
    except InputError:
        return ""
    length = f"{trained.max_steps} steps" if trained.max_steps else f"{trained.max_epochs or DEFAULT_EPOCHS} epochs"
    rate = "" if trained.optimizer.lr is None else f", lr {trained.optimizer.lr:g}"
    parts = (
        f"{trained.model.name} with {name_of(trained.model.norm)} norm",
        f"{name_of(trained.optimizer.name)}{rate}",
        f"{length} x {slices_per_step(read_json(run.provenance), flatten(trained))} slices",
        f"seed {trained.seed}",
        f"protocol {trained.protocol}",
    )
    return "; ".join(parts)


def _validation(rows: list[dict[str, str]], run: RunFolder) -> str:
    """Return the best and the last validation as a sentence, by the score that chose the run's best checkpoint.

    By SSIM where the configuration cannot be read.
    """
    try:
        monitor = load(TrainConfig, run.config).monitor
    except InputError:
        monitor = "ssim"
    monitor = monitor if monitor in monitors() else "ssim"
    steps, values = column(rows, f"val_{monitor}")
    if not values:
        return "No validation is recorded."
    name, form = label_of(monitor), digits_of(monitor)
    best = max(range(len(values)), key=lambda i: goodness(monitor, values[i]))
    if best == len(values) - 1:
        return f"Validation {name}: {values[best]:{form}}, at its best at the last validation, step {steps[best]:g}."
    last = f"{values[-1]:{form}} at the last, step {steps[-1]:g}"
    return f"Validation {name}: {values[best]:{form}} at best, step {steps[best]:g}; {last}."


def _evaluation(folder: Path) -> Evaluation:
    summary, rows = read_json(folder / "summary.json"), read_rows(folder / "volumes.csv")
    drawings = sorted(folder.glob("figures/*.png"))
    keys = ("reconstructor", "checkpoint", "data", "split", "mask", "acceleration", "mask_draws", "precision")
    facts: dict[str, Any] = {key: summary.get(key) for key in keys}
    try:
        protocol = summary.get("protocol") or {}
        return Evaluation(
            name=folder.name,
            words=evaluation_words(summary),
            groups=group_table(summary, f"groups-{folder.name}"),
            volumes=volume_table(rows, f"volumes-{folder.name}"),
            pictures=pictures(drawings[:_MOST_PICTURES]),
            n_pictures=len(drawings),
            facts=pairs({**facts, "protocol": protocol.get("name"), "what it means": protocol.get("description")}),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what stands where, a stranger decided
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder / 'summary.json'} is not of `mrirecon evaluate` ({error}); evaluate again") from None


def _text(path: Path) -> str:
    """Return the text of a configuration; empty where the file is none, or cannot be read."""
    try:
        return path.read_text(encoding="utf-8") if isinstance(parse_yaml(path), dict) else ""
    except (InputError, OSError, UnicodeDecodeError):
        return ""


def group_table(summary: Mapping[str, Any], name: str) -> Table:
    """Return the means of an evaluation, overall and by group where there is more than one."""
    groups = {"all": summary.get("overall") or {}}
    for key in ("by_acquisition", "by_acceleration", "by_origin"):
        found = summary.get(key) or {}
        groups |= {
            f"{label}x" if key == "by_acceleration" else label: g for label, g in found.items() if len(found) > 1
        }
    metrics = [metric for metric in METRICS if metric in groups["all"]]
    columns = [*_GROUPS, *(Column(heading_of(metric), True, _MEAN) for metric in metrics)]
    return Table(name, columns, [row for label, group in groups.items() for row in _group_rows(label, group, metrics)])


def _group_rows(label: str, group: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[list[Entry]]:
    n = group.get("n_volumes")
    for prefix, kind in _KINDS.items():
        means = [group.get(prefix + metric) for metric in metrics]
        if all((mean or {}).get("mean") is None for mean in means):
            continue
        sign = "+" if prefix == "difference_" else ""
        count = Entry(NONE if n is None else str(n), n, _patients(group))
        scores = [measured(mean, sign + digits_of(metric)) for mean, metric in zip(means, metrics, strict=True)]
        yield [Entry(label, kind="name"), count, Entry(kind), *scores]


def volume_table(rows: Sequence[Mapping[str, str]], name: str) -> Table:
    """Return every row of an evaluation's volumes.csv as a table."""
    metrics = [metric for metric in METRICS if any(metric in row for row in rows)]
    columns = [
        *_VOLUMES,
        *(Column(heading_of(metric), True) for metric in metrics),
        *(Column(f"gain in {label_of(metric)}", True, _GAIN) for metric in similarities(metrics)),
    ]
    return Table(name, columns, [_volume(row, metrics) for row in rows])


def _volume(row: Mapping[str, str], metrics: Sequence[str]) -> list[Entry]:
    values = {key: _float(row.get(key)) for key in (*metrics, "n_slices", "acceleration", "mask_draw")}
    true = _float(row.get("acceleration_true"))
    gains: dict[str, float | None] = {}
    for metric in similarities(metrics):
        own, zero_filled = values[metric], _float(row.get(f"zf_{metric}"))
        gains[metric] = None if own is None or zero_filled is None else own - zero_filled
    plain = [Entry(number(values[key], "g"), values[key]) for key in ("n_slices", "acceleration")]
    return [
        Entry(row.get("volume") or NONE, kind="name"),
        Entry(row.get("acquisition") or NONE),
        *plain,
        Entry(number(true, ".2f"), true),
        Entry(number(values["mask_draw"], "g"), values["mask_draw"]),
        *(Entry(number(values[key], digits_of(key)), values[key]) for key in metrics),
        *(Entry(number(gain, f"+{digits_of(metric)}"), gain) for metric, gain in gains.items()),
    ]


def evaluation_words(summary: Mapping[str, Any]) -> str:
    """Return the result of an evaluation in one sentence."""
    overall = summary.get("overall") or {}
    metrics = [metric for metric in METRICS if (overall.get(metric) or {}).get("mean") is not None]
    if not metrics:
        return "no score is recorded."
    shown = "; ".join(_in_words(overall, metric) for metric in similarities(metrics) or metrics[:1])
    n = overall.get("n_volumes", "?")
    count = f"{n} volume{'s' * (n != 1)} of {_patients(overall)}"
    checkpoint = f", {summary['checkpoint']} checkpoint" if summary.get("checkpoint") else ""
    return f"{shown} ({count}{checkpoint})."


def _in_words(overall: Mapping[str, Any], metric: str) -> str:
    digits = digits_of(metric)
    limits = interval(overall[metric], digits)
    zero_filled = (overall.get(f"zf_{metric}") or {}).get("mean")
    beside = "" if zero_filled is None else f", zero-filled {number(zero_filled, digits)}"
    return f"{label_of(metric)} {overall[metric]['mean']:{digits}}{' ' * bool(limits)}{limits}{beside}"


def _patients(group: Mapping[str, Any]) -> str:
    n = group.get("n_patients", "?")
    return f"{n} patient{'s' * (n != 1)}"


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# ---- the page of a run, an evaluation or a comparison, written into its folder


def run_report(folder: str | Path, output: str | Path = "") -> Path:
    """Write one offline HTML page of a folder; one that is there is replaced, since it only repeats the folder's files.

    Args:
        folder: Of a run, of a method's evaluations or of one of them, or of a comparison.
        output: The page; empty: report.html in the folder.

    Returns:
        The page.

    Raises:
        InputError: None of these.
        OSError: The page cannot be written there.
    """
    run = RunFolder(Path(folder))
    is_comparison = any((run.path / name).is_file() for name in (COMPARISON, TABLE))
    if not is_comparison and not evaluations(run):
        open_run(folder)
    path = Path(output) if output else run.report
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file such as {path / run.report.name} (--output)")
    if is_comparison:
        write_comparison_page(run.path, path)
    else:
        write_run_page(run, path)
    return path
