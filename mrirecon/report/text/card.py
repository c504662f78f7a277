"""The model card of an exported network: one page of Markdown, made of what the run folder says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mrirecon.config import TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.evaluation.stats import goodness
from mrirecon.report.numbers import masks_in_words
from mrirecon.report.run_files import name_of, read_json, read_rows, slices_per_step
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, sentence

_UNKNOWN = "not recorded"


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
    """What a card says besides what stands in the run folder."""

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
    """The card, Markdown; it holds no name of a patient, a volume or a folder of this machine."""
    trained, recorded = load(TrainConfig, facts.run.config), escaped(read_json(facts.run.provenance))
    facts = replace(facts, data=escaped(facts.data))
    network, norm, optimizer = map(safe_name, (trained.model.name, trained.model.norm, trained.optimizer.name))
    parts = {
        f"Model card: {network}, {norm} norm, {optimizer}": (
            f"Reconstructs undersampled MRI: from the zero-filled image to an image like that of full sampling. "
            f"Made by `mrirecon export` from the {facts.checkpoint} checkpoint of a training run."
        ),
        "Network": _network(facts, trained),
        "Use": _use(facts),
        "Data": _data(facts, trained, recorded),
        "Recipe": _recipe(trained, recorded),
        "Scores": scores(
            facts.run,
            facts.checkpoint,
            recorded.get("protocol", safe_name(trained.protocol)),
            trained.monitor,
            facts.step,
        ),
        "Limits": _limits(facts, trained, recorded),
        "Provenance": _provenance(facts, recorded),
    }
    return "\n".join(f"{'##' if i else '#'} {name}\n\n{text}\n" for i, (name, text) in enumerate(parts.items()))


def _network(facts: CardFacts, trained: TrainConfig) -> str:
    inputs = [f"- input `{name}`: float32 {text}" for name, text in facts.inputs.items()]
    unit = "any unit, the same for all inputs" if len(facts.inputs) > 1 else "any unit"
    return "\n".join(
        [
            f"- {facts.n_parameters} parameters; {in_words(asdict(trained.model))}",
            *inputs,
            "- output `reconstruction`: float32 (batch, height, width), magnitude in the unit of the input",
            f"- {unit}: standardisation is inside; each image is standardised by itself",
            f"- any height and width from {facts.smallest_size} pixels on, any batch{_bound(facts.artefacts)}",
        ]
    )


def _bound(artefacts: Sequence[Artefact]) -> str:
    bound = [f"`{a.file}`: {a.size[0]} x {a.size[1]} pixels only" for a in artefacts if a.size]
    return f" (but {', '.join(bound)})" if bound else ""


def _use(facts: CardFacts) -> str:
    rows = [[f"`{a.file}`", a.format, f"{a.n_bytes / 1e6:.2f} MB", f"{a.difference:.1e}"] for a in facts.artefacts]
    files = table(["file", "format", "size", "relative difference from the run"], rows)
    n = max(64, facts.smallest_size)
    code = [snippet(a.format, a.file, facts.inputs, a.size or (n, n)) for a in facts.artefacts]
    note = f"Compared on {facts.n_images} images ({facts.checked_on}), on a CPU in single precision."
    return "\n\n".join([files, note, *(f"```python\n{text}\n```" for text in code)])


def _data(facts: CardFacts, trained: TrainConfig, recorded: Mapping[str, Any]) -> str:
    lines = []
    if facts.data:
        lines += [
            f"- training: {facts.data['train_volumes']} volumes, {facts.data['train_slices']} slices; "
            f"validation: {facts.data['val_volumes']} volumes",
            f"- origin: {counts(facts.data['origins'])}",
            f"- acquisitions: {counts(facts.data['acquisitions'])}",
        ]
    else:
        volumes = {name: len(names) for name, names in read_json(facts.run.split).items()}
        lines.append(f"- volumes: {in_words(volumes) or _UNKNOWN}; slices and origin not known, the data are not here")
    manifest = recorded.get("data_manifest", {})
    lines.append(f"- manifest (names, sizes, headers; SHA-256): {manifest.get('sha256', _UNKNOWN)}")
    return "\n".join([*lines, f"- masks: {_masks(trained, recorded)}"])


def _recipe(trained: TrainConfig, recorded: Mapping[str, Any]) -> str:
    average = trained.average
    length = f"{trained.max_steps} steps" if trained.max_steps else f"{trained.max_epochs or 50} epochs"
    return "\n".join(
        [
            f"- optimizer: {in_words(asdict(trained.optimizer))}",
            f"- schedule: {in_words(asdict(trained.schedule))}",
            f"- loss: {safe_name(trained.loss)}",
            f"- length: {length}; {slices_per_step(recorded, flatten(trained))} slices per step; "
            f"precision {recorded.get('precision', safe_name(trained.precision))}",
            f"- averaged weights: {'none' if average.name == 'none' else in_words(asdict(average))}",
            f"- seed: {trained.seed}",
            *_begun(trained, recorded),
        ]
    )


def _begun(trained: TrainConfig, recorded: Mapping[str, Any]) -> list[str]:
    """What else the network owes its weights to, where there is anything."""
    given = recorded.get("weights") or {}
    kind, sha256 = given.get("kind", _UNKNOWN), given.get("sha256", _UNKNOWN)
    lines = [f"- began with given weights ({kind}), SHA-256 {sha256}"] if given or trained.weights else []
    return lines + ([f"- frozen: {' '.join(escaped(trained.freeze))}"] if trained.freeze else [])


def _limits(facts: CardFacts, trained: TrainConfig, recorded: Mapping[str, Any]) -> str:
    seen = facts.data["acquisitions"] if facts.data else dict.fromkeys(escaped(trained.data.acquisition))
    lines = [
        "- not for clinical use: not a medical device, not validated for diagnosis; it can remove or invent structure",
        f"- trained for Cartesian sampling with these masks only: {_masks(trained, recorded)}",
        f"- trained on these contrasts and body parts only (acquisition): {', '.join(seen) or _UNKNOWN}",
    ]
    origins = [name for name in (facts.data or {}).get("origins", ()) if name != "measured"]
    if origins:
        lines.append(f"- trained on simulated data ({', '.join(origins)}): scores on measured k-space may be far lower")
    return "\n".join(lines)


def _provenance(facts: CardFacts, recorded: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {what}: {_versions(source)}"
        for what, source in (("trained with", recorded), ("exported with", facts.made_with))
    )


def _versions(source: Mapping[str, Any]) -> str:
    git = source.get("git") or {}
    commit = f"commit {git['commit']}{' (changed)' * bool(git.get('dirty'))}" if git.get("commit") else "no commit"
    torch, python = source.get("packages", {}).get("torch", _UNKNOWN), source.get("python", _UNKNOWN)
    return f"mrirecon {source.get('mrirecon', _UNKNOWN)} ({commit}), torch {torch}, Python {python}"


def _masks(trained: TrainConfig, recorded: Mapping[str, Any]) -> str:
    asked = {
        "name": safe_name(trained.data.mask),
        "accelerations": trained.data.acceleration,
        "center_fractions": trained.data.center_fraction,
    }
    return masks_in_words(asked | (recorded.get("masks") or {}))


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


_ENTITIES = {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;"}
_MEANING = {ord(letter): f"\\{letter}" for letter in "\\`[]|!"} | _ENTITIES


def escaped(value: Any) -> Any:
    """Texts of a run folder, nested in lists and mappings too, that say no more than their letters in Markdown."""
    if isinstance(value, Mapping):
        return {escaped(key): escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(inner) for inner in value]
    return " ".join(value.split()).translate(_MEANING) if isinstance(value, str) else value


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def in_words(values: Mapping[str, Any]) -> str:
    """Keys with their values, those that are set."""
    return ", ".join(f"{key} {safe_name(value)}" for key, value in values.items() if value not in (None, "", []))


def safe_name(value: Any) -> str:
    """The name of a foreign thing, escaped."""
    return str(escaped(name_of(value)))


def counts(values: Mapping[str, int]) -> str:
    """Names with their numbers of volumes."""
    return ", ".join(f"{name} ({n} volumes)" for name, n in values.items())


_LIBRARY = {
    "safetensors": ["import torch", "from mrirecon.training.checkpoints.portable import load_portable"],
    "onnx": ["import numpy as np", "import onnxruntime"],
    "torch-export": ["import torch"],
}
_AXES = {"image": ((1,), "(batch, height, width)"), "combined": ((1, 2), "(batch, 2, height, width)")}


def snippet(format: str, file: str, inputs: Iterable[str], size: tuple[int, int]) -> str:
    """Python code that reconstructs random images of `size` (height, width) with an exported `file`.

    Args:
        format: safetensors, onnx or torch-export.
        file: Its name; the code runs in its folder.
        inputs: Names of the network's inputs: image, combined or both, in order.
        size: Height and width in pixels.
    """
    names = list(inputs)
    lines = [*_LIBRARY[format], "", *(_input(name, size, format == "onnx") for name in names)]
    return "\n".join(lines + _CALLS[format](file, names))


def _input(name: str, size: tuple[int, int], is_numpy: bool) -> str:
    leading, axes = _AXES[name]
    shape = ", ".join(map(str, (*leading, *size)))
    values = f"np.random.rand({shape}).astype(np.float32)" if is_numpy else f"torch.rand({shape})"
    return f"{name} = {values}  # yours: float32 {axes}"


def _safetensors(file: str, names: list[str]) -> list[str]:
    call = f"    reconstruction = network({', '.join(names)})"
    return [f'network = load_portable("{file}")', "with torch.no_grad():", call]


def _torch(file: str, names: list[str]) -> list[str]:
    return [f'network = torch.export.load("{file}").module()', f"reconstruction = network({', '.join(names)})"]


def _onnx(file: str, names: list[str]) -> list[str]:
    given = ", ".join(f'"{name}": {name}' for name in names)
    return [f'session = onnxruntime.InferenceSession("{file}")', f"(reconstruction,) = session.run(None, {{{given}}})"]


_CALLS = {"safetensors": _safetensors, "onnx": _onnx, "torch-export": _torch}
