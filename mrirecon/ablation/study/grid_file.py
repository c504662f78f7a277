"""Reads a grid: YAML to cells, every level checked once. No torch here."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from mrirecon.ablation.study.grid import Cell, Grid
from mrirecon.ablation.study.grid_tuning import read_tuning
from mrirecon.ablation.study.grid_values import read_name, read_seeds, read_targets, require_known, share
from mrirecon.ablation.study.same_network import norm_notes, require_different
from mrirecon.config import ModelConfig, SimulateConfig, TrainConfig
from mrirecon.config.slurm import JobConfig
from mrirecon.configfile import build, find_config, flatten, keys
from mrirecon.errors import InputError, did_you_mean
from mrirecon.tables.norms import NORMS, norm_options
from mrirecon.tables.optimizers import recommended_lr
from mrirecon.yamlfile import parse_yaml

SHORT = {
    "optimizer": "optimizer.name",
    "norm": "model.norm",
    "affine": "model.affine",
    "norm_position": "model.norm_position",
    "schedule": "schedule.name",
    "average": "average.name",
    "momentum": "optimizer.momentum",
    "channels": "model.channels",
    "channels_per_group": "model.channels_per_group",
    "n_groups": "model.n_groups",
    "input": "model.input",
    "model": "model.name",
    "fixed_masks": "data.fixed_masks",
}
_TOP = ("name", "factors", "base", "seeds", "reference", "tuning", "margin", "targets", "simulate")
_OF_THE_STUDY = (
    *("seed", "output", "overwrite", "device", "logger", "data.path", "threads", "checkpoints", "early_stop"),
    "data.stage",
    *("devices", "num_nodes", "sync_batchnorm"),  # a run is one process; its worker may be a job
    *(f"slurm.{field.name}" for field in fields(JobConfig)),
)
_OF_THE_IMAGES = (  # what is scored and with which masks
    *("data.mask", "data.acceleration", "data.center_fraction", "data.acquisition", "data.volumes", "data.slices"),
    *("data.coils", "data.split_seed", "val_volumes", "protocol"),
)


def read_grid_file(path: str | Path) -> dict[str, Any]:
    """The content of a grid file, given by path or shipped name.

    Raises:
        InputError: No such file, not YAML, no mapping.
    """
    file = find_config(path, grids=True)
    content = parse_yaml(file)
    if not isinstance(content, dict) or "factors" not in content:
        raise InputError(f"{file} is not a grid: it has no 'factors' (shipped ones: mrirecon config list)")
    return {"name": file.stem, **content}


def make_grid(content: Mapping[str, Any]) -> Grid:
    """A checked grid of a file's content.

    Raises:
        InputError: An unknown factor or key, a value of the wrong type, an empty grid, options that contradict each
            other, levels that give the same network; the message names what.
    """
    require_known("the grid", content, _TOP)
    base = _base(content.get("base") or {})
    factors = _factors(content["factors"])
    _require_separate(factors, base)
    cells = _cells(factors, base)
    seeds = read_seeds(content.get("seeds", 10))
    tuning = read_tuning(content.get("tuning") or {}, cells, seeds)
    simulate = content.get("simulate") or {}
    require_known("simulate", simulate, tuple(key.name for key in keys(SimulateConfig)))
    build(SimulateConfig, simulate)
    require_different(cells, factors)
    return Grid(
        name=read_name(content["name"]),
        factors=factors,
        cells=cells,
        seeds=seeds,
        tuning=tuning,
        reference=_reference(content.get("reference"), cells, factors),
        margin=share("margin", content.get("margin", 0.01)),
        targets=read_targets(content.get("targets", [0.9, 0.97, 0.995])),
        simulate=dict(simulate),
        notes=tuple(norm_notes(cells)),
    )


def _base(content: Any) -> dict[str, Any]:
    known = {key.name for key in keys(TrainConfig)}
    flat = dict(_flat(content, known, "base"))
    for key in flat:
        if key in _OF_THE_STUDY:
            raise InputError(f"base sets {key}, which the study decides itself; leave it out")
        if key == "optimizer.lr":
            raise InputError("base sets optimizer.lr, which is tuned; give its range: tuning: {spaces: {...}}")
    return flat


def _flat(content: Any, known: set[str], where: str, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys of nested ones; short names of factors are understood at the top."""
    if not isinstance(content, Mapping):
        raise InputError(f"{where} is {content!r}; it must map configuration keys to values")
    for name, value in content.items():
        key = f"{prefix}{name}"
        if not prefix and key not in known and key in SHORT and not isinstance(value, Mapping):
            key = SHORT[key]
        if key in known:
            yield key, value
        elif isinstance(value, Mapping) and any(other.startswith(f"{key}.") for other in known):
            yield from _flat(value, known, where, f"{key}.")
        else:
            raise InputError(f"unknown key '{key}' in {where}{did_you_mean(key, [*known, *SHORT])}")


def _factors(content: Any) -> dict[str, dict[str, dict[str, Any]]]:
    if not isinstance(content, Mapping) or not content:
        raise InputError("the grid is empty: 'factors' must map at least one factor to its levels")
    return {str(name): _levels(str(name), levels) for name, levels in content.items()}


def _levels(factor: str, levels: Any) -> dict[str, dict[str, Any]]:
    known = {key.name for key in keys(TrainConfig)}
    if not isinstance(levels, list | dict) or not levels:
        raise InputError(f"factor '{factor}' has no levels; give a list of values, or labels with the keys they set")
    if isinstance(levels, dict):
        found = {str(label): dict(_flat(sets, known, f"{factor} {label}")) for label, sets in levels.items()}
    else:
        key = SHORT.get(factor, factor)
        if key not in known:
            raise InputError(
                f"unknown factor '{factor}'{did_you_mean(factor, [*SHORT, *known])} Use a configuration key, a short "
                f"name ({', '.join(SHORT)}), or labels with the keys they set"
            )
        found = {_label(value): {key: value} for value in levels}
        if len(found) < len(levels):
            raise InputError(f"factor '{factor}' has a level twice: {levels}")
    for label, sets in found.items():
        refused = [key for key in sets if key in _OF_THE_STUDY]
        if refused or "/" in label:
            raise InputError(f"level {label} of {factor} cannot be one: {refused[0] if refused else 'it holds a /'}")
        if images := [key for key in sets if key in _OF_THE_IMAGES]:
            raise InputError(
                f"factor '{factor}' sets {images[0]}: its cells would be scored on different images, and a study "
                "compares on the same ones; run one study for each"
            )
    return found


def _label(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("class_path", "custom")).rsplit(".")[-1]
    return "-".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def _require_separate(factors: Mapping[str, Mapping[str, Mapping[str, Any]]], base: Mapping[str, Any]) -> None:
    sets = {factor: {key for level in levels.values() for key in level} for factor, levels in factors.items()}
    names = list(sets)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if both := sorted(sets[first] & sets[second]):
                raise InputError(f"factors '{first}' and '{second}' both set {both[0]}; one key belongs to one factor")
    if base.get("max_steps") and base.get("max_epochs"):
        raise InputError("base sets max_steps and max_epochs; give one")


def _cells(factors: Mapping[str, Mapping[str, Mapping[str, Any]]], base: Mapping[str, Any]) -> tuple[Cell, ...]:
    """All combinations; types are checked level by level, not cell by cell (a check takes 18 ms)."""
    resolved = flatten(_build(base, "base"))
    for factor, levels in factors.items():
        for label, sets in levels.items():
            checked = flatten(_build({**base, **sets}, f"level {label} of {factor}"))
            sets.update({key: checked[key] for key in sets})  # type: ignore[attr-defined]
    cells = []
    for labels in product(*factors.values()):
        chosen = dict(zip(factors, labels, strict=True))
        settings = dict(resolved)
        for factor, label in chosen.items():
            settings.update(factors[factor][label])
        if settings["optimizer.lr"] == "auto":
            settings["optimizer.lr"] = recommended_lr(settings["optimizer.name"])
        cells.append(Cell("/".join(labels), chosen, _without_foreign_groups(settings)))
    return tuple(cells)


def _build(values: Mapping[str, Any], where: str) -> TrainConfig:
    try:
        return build(TrainConfig, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _without_foreign_groups(settings: dict[str, Any]) -> dict[str, Any]:
    """Group sizes of the base are for the cells that have groups."""
    foreign = {key for entry in NORMS.values() for key in entry.options} - set(norm_options(settings["model.norm"]))
    return settings | {f"model.{key}": getattr(ModelConfig, key) for key in foreign}


def _reference(levels: Any, cells: tuple[Cell, ...], factors: Mapping[str, Mapping[str, Any]]) -> str:
    """The named cell; without a name the last level of the first factor and the first of the others is no choice."""
    if not isinstance(levels, Mapping):
        raise InputError(f"reference is {levels!r}; name a level of each factor, which the others are held against")
    for factor in factors:
        if _label(levels.get(factor)) not in factors[factor]:
            known = ", ".join(factors[factor])
            raise InputError(f"reference names no level of factor '{factor}' ({levels.get(factor)}); one of {known}")
    require_known("reference", levels, tuple(factors))
    wanted = {factor: _label(levels[factor]) for factor in factors}
    return next(cell.name for cell in cells if cell.levels == wanted)
