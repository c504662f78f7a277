"""Read a grid: YAML to cells, factors, tuning, seeds and targets, every value checked once."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from mrirecon.ablation.study.grid import EXCLUDE, ZERO_FILLED, Cell, Grid, Tuning, norm_notes, require_different
from mrirecon.ablation.study.identity import DEFAULTS, TODAY, Defaults
from mrirecon.ablation.study.records import AREA, FINAL, objectives
from mrirecon.ablation.study.tune import DIMENSIONS, WIDENINGS, apply, tuned_key, tuning_bounds, tuning_spaces
from mrirecon.config import ModelConfig, SimulateConfig, TrainConfig
from mrirecon.config.slurm import JobConfig
from mrirecon.config.train import short_name
from mrirecon.configfile import SHORT, build, find_config, flatten, keys
from mrirecon.errors import InputError, did_you_mean, unknown_name
from mrirecon.evaluation.stats import MIN_SEEDS
from mrirecon.tables.norms import NORMS, norm_options
from mrirecon.tables.optimizers import recommended_lr
from mrirecon.yamlfile import parse_yaml

_TOP = (
    *("name", "factors", "base", "seeds", "reference", "tuning", "margin", "targets", "simulate"),
    *("diverged", "looks", "all_pairs", "defaults"),
)
_TUNING = ("trials", "repeats", "dimensions", "objectives", "first_seed", "sweep", "spaces", "widening")
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


_MOST = 4096  # trials or seeds


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
    _require_known("the grid", content, _TOP)
    defaults = _read_defaults(content.get("defaults", TODAY))
    base = {**defaults.base, **_base(content.get("base") or {})}
    factors = _factors(content["factors"])
    _require_separate(factors, base)
    cells = _cells(factors, base, defaults)
    seeds = _read_seeds(content.get("seeds", 10))
    tuning = _read_tuning(content.get("tuning") or {}, cells, seeds, defaults)
    simulate = content.get("simulate") or {}
    _require_known("simulate", simulate, tuple(key.name for key in keys(SimulateConfig)))
    build(SimulateConfig, simulate)
    require_different(cells, factors)
    return Grid(
        name=_read_name(content["name"]),
        factors=factors,
        cells=cells,
        seeds=seeds,
        tuning=tuning,
        reference=_reference(content.get("reference"), cells, factors),
        **_read_margin(content.get("margin")),
        targets=_read_targets(content.get("targets", [0.9, 0.97, 0.995])),
        simulate=dict(simulate),
        diverged=_read_diverged(content.get("diverged", ZERO_FILLED)),
        looks=_read_looks(content.get("looks") or ()),
        all_pairs=_read_flag("all_pairs", content.get("all_pairs", False)),
        notes=tuple(norm_notes(cells)),
    )


def _read_defaults(number: Any) -> Defaults:
    if type(number) is not int or number not in DEFAULTS:
        known = " or ".join(map(str, DEFAULTS))
        raise InputError(f"defaults is {number!r}; give {known}, or leave it out: the defaults of today are {TODAY}")
    return DEFAULTS[number]


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
        if not prefix and not isinstance(value, Mapping):
            key = _whole(key, known)
        if key in known:
            yield key, value
        elif isinstance(value, Mapping) and any(other.startswith(f"{key}.") for other in known):
            yield from _flat(value, known, where, f"{key}.")
        else:
            raise InputError(f"unknown key '{key}' in {where}{did_you_mean(key, _names(known))}")


def _whole(name: str, known: set[str]) -> str:
    """Return the key that a short name, or the last part of one key alone, stands for; other names as they are."""
    ends = [key for key in known if key.endswith(f".{name}")]
    found = name if name in known else SHORT.get(name, ends[0] if len(ends) == 1 else name)
    return found if found in known else name


def _names(known: set[str]) -> list[str]:
    """Return all that a key may be called, for suggestions."""
    parts = sorted(key.rsplit(".")[-1] for key in known)
    return [*known, *SHORT, *(part for part in parts if parts.count(part) == 1)]


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
        key = _whole(factor, known)
        if key not in known:
            short = [name for name, full in SHORT.items() if full in known and not full.startswith("data.")]
            raise InputError(
                f"unknown factor '{factor}'{did_you_mean(factor, _names(known))} Use a configuration key, the last "
                f"part of one, a short name ({', '.join(short)}), or labels with the keys they set"
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
        return short_name(value)
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


def _cells(
    factors: Mapping[str, Mapping[str, Mapping[str, Any]]], base: Mapping[str, Any], defaults: Defaults
) -> tuple[Cell, ...]:
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
        if settings["model.residual"] == "auto" and not settings["weights"]:  # else their file decides
            settings["model.residual"] = ModelConfig(name=settings["model.name"]).with_residual(True).residual
        # group sizes of the base are for the cells that have groups
        foreign = {key for entry in NORMS.values() for key in entry.options} - set(norm_options(settings["model.norm"]))
        own = settings | {f"model.{key}": getattr(ModelConfig, key) for key in foreign}
        cells.append(Cell("/".join(labels), chosen, own, defaults))
    return tuple(cells)


def _build(values: Mapping[str, Any], where: str) -> TrainConfig:
    try:
        return build(TrainConfig, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _reference(levels: Any, cells: tuple[Cell, ...], factors: Mapping[str, Mapping[str, Any]]) -> str:
    """The named cell; without a name the last level of the first factor and the first of the others is no choice."""
    if not isinstance(levels, Mapping):
        raise InputError(f"reference is {levels!r}; name a level of each factor, which the others are held against")
    for factor in factors:
        if _label(levels.get(factor)) not in factors[factor]:
            known = ", ".join(factors[factor])
            raise InputError(f"reference names no level of factor '{factor}' ({levels.get(factor)}); one of {known}")
    _require_known("reference", levels, tuple(factors))
    wanted = {factor: _label(levels[factor]) for factor in factors}
    return next(cell.name for cell in cells if cell.levels == wanted)


def _read_tuning(
    content: Mapping[str, Any], cells: tuple[Cell, ...], seeds: tuple[int, ...], defaults: Defaults
) -> Tuning:
    """Read how the cells are tuned; `content` is the grid's section."""
    _require_known("tuning", content, _TUNING)
    numbers = {name: content.get(name, getattr(Tuning, name)) for name in ("trials", "repeats", "first_seed", "sweep")}
    for name, value in numbers.items():
        if type(value) is not int or value < (0 if name in ("first_seed", "sweep") else 1):
            raise InputError(f"tuning.{name} is {value!r}; it must be a whole number from 1 on (sweep: from 0)")
    if numbers["trials"] & (numbers["trials"] - 1) or numbers["trials"] > _MOST:
        raise InputError(
            f"tuning.trials is {numbers['trials']}; Sobol points need a power of two: 4, 8, 16, 32 (at most {_MOST})"
        )
    dimensions = content.get("dimensions", ["lr"])
    dimensions = [dimensions] if isinstance(dimensions, str) else dimensions
    if not isinstance(dimensions, list) or "lr" not in dimensions:
        raise InputError(
            f"tuning.dimensions is {dimensions}; it must hold lr (and may hold {', '.join(DIMENSIONS[1:])})"
        )
    own = content.get("spaces") or {}
    # names that a range may be given for: optimizers, levels and cells
    names = [name for c in cells for name in (str(c.settings["optimizer.name"]), *c.levels.values(), c.name)]
    _require_known("tuning.spaces", own, tuple(dict.fromkeys(names)))
    spaces = {cell.name: tuning_spaces(cell, dimensions, own, defaults.spaces) for cell in cells}
    _require_untuned(cells, dimensions)
    widening = content.get("widening", Tuning.widening)
    if widening not in WIDENINGS:
        raise unknown_name("tuning.widening", widening, WIDENINGS)
    tuning = Tuning(
        **numbers,
        widening=widening,
        dimensions=tuple(tuned_key(name) for name in dimensions),
        objectives=_objectives(content.get("objectives", "final")),
        spaces=spaces,
        bounds={cell.name: tuning_bounds(cell, dimensions) for cell in cells},
    )
    if shared := set(tuning.seeds) & set(seeds):
        raise InputError(f"seed {min(shared)} is of the tuning and of the reruns; move tuning.first_seed")
    return tuning


def _require_untuned(cells: tuple[Cell, ...], dimensions: list[str]) -> None:
    """Refuse cells that differ in tuned keys alone: the trials would write over these, and two cells be one."""
    seen: dict[str, str] = {}
    for cell in cells:
        tuned = apply({tuned_key(name): 0.5 for name in dimensions}, cell.settings)
        same = seen.setdefault(repr(sorted(tuned.items())), cell.name)
        if same != cell.name:
            raise InputError(
                f"cells {same} and {cell.name} are the same once {', '.join(dimensions)} is tuned; "
                "leave one out, or do not tune what they differ in"
            )


def _objectives(name: Any) -> tuple[str, ...]:
    known = {name: (name,) for name in objectives()} | {"loss": (FINAL,), "both": (FINAL, AREA)}
    if not isinstance(name, str) or name not in known:
        raise unknown_name("objective", name, known)
    return known[name]


def _read_name(name: Any) -> str:
    """The name of a study, which is that of its folder too."""
    text = name if isinstance(name, str) else ""
    if not text or text != Path(text).name or text.startswith("."):
        raise InputError(f"name {name!r} of the grid names a folder; use letters, digits, - and _")
    return text


def _read_seeds(content: Any) -> tuple[int, ...]:
    """The seeds of the reruns, given by their number or one by one."""
    if isinstance(content, int) and content > _MOST:
        raise InputError(f"seeds is {content}; at most {_MOST}")
    seeds = list(range(content)) if isinstance(content, int) and not isinstance(content, bool) else content
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise InputError(f"seeds is {content!r}; give their number, or a list of numbers from 0 on")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {seeds} holds one twice")
    return tuple(seeds)


def _read_targets(content: Any) -> tuple[float, ...]:
    """Shares of the gap that times are taken to."""
    if not isinstance(content, list):
        raise InputError(f"targets is {content!r}; give a list of shares, such as [0.9, 0.97]")
    return tuple(_share("targets", value) for value in content)


def _read_margin(content: Any) -> dict[str, Any]:
    """The margin of equivalence: a share of the gap, or `{ssim: 0.0005}`, a difference in SSIM; None: the default."""
    if not isinstance(content, Mapping):
        share = _share("margin", Grid.margin if content is None else content)
        return {"margin": share, "has_margin": content is not None}
    _require_known("margin", content, ("ssim",))
    return {"margin_ssim": _share("margin.ssim", content.get("ssim")), "has_margin": True}


def _read_diverged(content: Any) -> str:
    if content not in (ZERO_FILLED, EXCLUDE):
        raise InputError(f"diverged is {content!r}; give {ZERO_FILLED} (a diverged rerun scores as that) or {EXCLUDE}")
    return str(content)


def _read_looks(content: Any) -> dict[int, float]:
    """Numbers of seeds at which verdicts are read, with their shares of alpha; of a list all shares are equal.

    Later ones may be more than the seeds of now: `--seeds` adds them.
    """
    known = isinstance(content, list | tuple | Mapping)
    numbers = list(content) if known else []
    known = known and all(type(n) is int and n >= MIN_SEEDS for n in numbers) and numbers == sorted(set(numbers))
    if not known:
        raise InputError(
            f"looks is {content!r}; give numbers of seeds that rise, from {MIN_SEEDS} on, such as [6, 12, 20]"
        )
    if not isinstance(content, Mapping):
        return {n: 1 / len(numbers) for n in numbers}
    read = {n: _share(f"looks.{n}", share) for n, share in content.items()}
    if not math.isclose(math.fsum(read.values()), 1):
        raise InputError(f"looks {content}: the shares of alpha add up to {math.fsum(read.values()):g}; they must to 1")
    return read


def _read_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; it must be true or false")
    return value


def _share(name: str, value: Any) -> float:
    """A number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"{name} {value!r}; it must be a number above 0 and at most 1")
    return float(value)


def _require_known(where: str, content: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse what is no mapping, or has a key that is not known."""
    if not isinstance(content, Mapping):
        raise InputError(f"{where} is {content!r}; it must map {', '.join(known)} to values")
    for name in content:
        if name not in known:
            hint = did_you_mean(str(name), known) or "."
            raise InputError(f"unknown key '{name}' in {where}{hint} Known: {', '.join(known)}")
