"""The model card of an exported network: one page of Markdown, made of what the run folder says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mrirecon.config import TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.evaluation.stats import goodness
from mrirecon.report.run_files import name_of, read_json, read_rows, slices_per_step
from mrirecon.report.words import environment, how_many, masks_in_words
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, sentence
from mrirecon.tables.models import own_settings

_TEMPLATES = Path(__file__).parent / "templates"
_ENTITIES = {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
_MEANING = {ord(letter): f"\\{letter}" for letter in "\\`[]|!"} | _ENTITIES


@dataclass(frozen=True)
class Artefact:
    """One exported file that passed its check."""

    format: str
    file: str
    n_bytes: int
    difference: float  # largest relative one from the run
    size: tuple[int, int] | None = None  # (height, width) that it is bound to; None: any


@dataclass(frozen=True)
class CardFacts:
    """Facts of an export that the run folder does not hold."""

    run: RunFolder
    checkpoint: str
    inputs: Mapping[str, str]  # name -> what it is
    n_parameters: int
    smallest_size: int  # pixels
    artefacts: Sequence[Artefact]
    n_images: int  # that the files were compared on
    checked_on: str
    data: Mapping[str, Any] | None  # counts of the training data, where it could be read
    made_with: Mapping[str, Any]  # provenance of the export
    step: int | None = None  # of the checkpoint, where it is known


def model_card(facts: CardFacts) -> str:
    """Return the card, Markdown; it holds no name of a patient, a volume or a folder of this machine.

    For what a model card says see Mitchell et al. 2019.
    """
    trained, recorded = load(TrainConfig, facts.run.config), escaped(read_json(facts.run.provenance))
    asked = {
        "name": safe_name(trained.data.mask),
        "accelerations": trained.data.acceleration,
        "center_fractions": trained.data.center_fraction,
    }
    summaries = [
        (escaped(path.parent.name), escaped(read_json(path)))
        for path in sorted(facts.run.path.glob("evaluation/*/summary.json"))
    ]
    metrics = [name for name in METRICS if any(name in summary.get("overall", {}) for _, summary in summaries)]
    functions = (escaped, heading_of, how_many, in_words, safe_name)
    filters = {function.__name__: function for function in functions}
    card = environment(_TEMPLATES, escape=False, filters=filters).get_template("card.md")
    return card.render(
        facts=facts,
        trained=trained,
        model=own_settings(trained.model),
        recorded=recorded,
        data=escaped(facts.data),
        volumes={name: len(names) for name, names in read_json(facts.run.split).items()},
        masks=masks_in_words(asked | (recorded.get("masks") or {})),
        slices_per_step=slices_per_step(recorded, flatten(trained)),
        validation=_validation(facts, trained, recorded),
        metrics=metrics,
        evaluations=[row for name, summary in summaries for row in _evaluation_rows(name, summary, metrics)],
    )


def _validation(facts: CardFacts, trained: TrainConfig, recorded: Mapping[str, Any]) -> str:
    """Return the scores that the checkpoint had in the validation of its training, as a sentence."""
    rows = [row for row in read_rows(facts.run.curves) if row.get("val_ssim")]
    if facts.step is not None:
        rows = [row for row in rows if int(row["step"]) == facts.step]
    if not rows:
        return "No validation is recorded."
    row = rows[-1]
    if facts.checkpoint == "best":
        row = max(rows, key=lambda r: goodness(trained.monitor, float(r[f"val_{trained.monitor}"])))
    scores = {name: float(row[f"val_{name}"]) for name in METRICS if row.get(f"val_{name}")}
    protocol = recorded.get("protocol", safe_name(trained.protocol))
    where = f"{facts.checkpoint} (step {escaped(row['step'])})"
    return f"Validation in training, {where}, {protocol}: {sentence(scores)}."


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


def escaped(value: Any) -> Any:
    """Return texts of a run folder, nested in lists and mappings too, as Markdown that shows them letter by letter.

    By the backslashes and entities of CommonMark (https://spec.commonmark.org/).
    """
    if isinstance(value, Mapping):
        return {escaped(key): escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(inner) for inner in value]
    return " ".join(value.split()).translate(_MEANING) if isinstance(value, str) else value


def in_words(settings: Any) -> str:
    """Return the keys of a mapping or dataclass with their values, those that are set, escaped."""
    values = settings if isinstance(settings, Mapping) else asdict(settings)
    return ", ".join(f"{key} {safe_name(value)}" for key, value in values.items() if value not in (None, "", []))


def safe_name(value: Any) -> str:
    """Return the name of a configured thing, or its class path, escaped."""
    return str(escaped(name_of(value)))
