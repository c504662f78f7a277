"""The scores of several tables, volume by volume.

Two scores are a pair when they are of one volume at one acceleration under one mask draw. What has no partner is
refused with the difference in words: a mean over other volumes or other masks says nothing about the methods.

Tables that must not be compared, of other protocols, kinds of mask, origins or splits, are refused before.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from mrirecon.errors import InputError
from mrirecon.evaluation.protocol import PROTOCOLS
from mrirecon.evaluation.results import UNDECLARED, Fault, VolumeResult
from mrirecon.tables.metrics import METRICS, OBJECT_MASK, label_of


@dataclass(frozen=True)
class Table:
    """The rows of one evaluation; facts of its summary are empty where nothing is known."""

    name: str  # in messages
    rows: Sequence[VolumeResult]
    split: str = ""
    slices: str = ""  # "all", or which
    faults: Sequence[Fault] = ()  # rows that cannot be used
    file: str = ""  # in messages about rows

    def values(self, field: str) -> list[Any]:
        """The different values of a column, sorted."""
        return sorted({getattr(row, field) for row in self.rows})

    @property
    def undeclared(self) -> str:
        """The undeclared properties of its masks: `mask`, `acceleration`, both joined by `or`, or an empty text."""
        parts = ["mask"] * bool({UNDECLARED, ""} & set(self.values("mask")))
        parts += ["acceleration"] * any(math.isnan(row.acceleration) for row in self.rows)
        return " or ".join(parts)


def of_origin(table: Table, origin: str) -> Table:
    """The rows of one origin.

    Raises:
        InputError: There are none.
    """
    rows = [row for row in table.rows if row.origin == origin]
    if not rows:
        raise InputError(
            f"{table.name} has no volumes of the origin '{origin}', but of {', '.join(table.values('origin'))}"
        )
    return replace(table, rows=rows)


def require_comparable(tables: Sequence[Table], allow_undeclared: bool = False) -> None:
    """Refuse tables that must not be mixed.

    Raises:
        InputError: The message names the first difference and who differs.
    """
    for table in tables:
        _require_one_kind(table)
    for table in tables:
        if table.undeclared and not allow_undeclared and not all(map(_is_bare, tables)):
            how = (
                "columns mask and acceleration"
                if _is_bare(table)
                else "mrirecon score ... --mask NAME --acceleration R"
            )
            raise InputError(
                f"{table.name} declares no {table.undeclared}; declare it ({how}), or add --allow-undeclared"
            )
    for what, (fact, advice) in _FACTS.items():
        known = [(table.name, fact(table)) for table in tables if fact(table)]
        for name, value in known[1:]:
            if value != known[0][1]:
                raise InputError(f"different {what}: {known[0][1]} in {known[0][0]}, {value} in {name}; {advice}")


def _is_bare(table: Table) -> bool:
    """Say whether a table has no column of masks; where none has, there is nothing that could be mixed."""
    return table.values("mask") == [""]


def _require_one_kind(table: Table) -> None:
    """Within a table there is one of everything but volumes, draws and accelerations."""
    if not table.rows:
        raise InputError(f"{table.name} has no rows; evaluate again")
    for field, advice in _ONE_OF_EACH.items():
        values = table.values(field)
        if len(values) > 1:
            raise InputError(f"{table.name} mixes {field}s ({', '.join(values)}), which no mean may do; {advice}")


def _accelerations(table: Table) -> str:
    known = {row.acceleration for row in table.rows if not math.isnan(row.acceleration)}
    return ", ".join(f"{value:g}x" for value in sorted(known))


_ONE_OF_EACH = {
    "protocol": "keep the rows of one",
    "mask": "keep the rows of one",
    "origin": "choose one with --origin",
    "reconstructor": "give each its own table",
    "checkpoint": "give each its own table",
}
_FACTS: dict[str, tuple[Callable[[Table], str], str]] = {
    "protocols": (lambda t: t.rows[0].protocol, "evaluate all with one --protocol (foreign images: one --crop)"),
    "masks": (lambda t: t.rows[0].mask.replace(UNDECLARED, ""), "evaluate all with one --mask"),
    "accelerations": (_accelerations, "evaluate all at one --acceleration"),
    "origins": (lambda t: t.rows[0].origin, "measured and simulated k-space are never mixed; compare each on its own"),
    "splits": (lambda t: t.split, "evaluate all on one --split"),
    "slices": (lambda t: t.slices, "evaluate all with the same --slices"),
}


_SAME_ZERO_FILLED = 1e-4  # relative: threads and versions change less, other samples more
Key = tuple[str, float, int]  # volume, nominal acceleration, mask draw
Rows = Mapping[Key, VolumeResult]
_FIELDS = {
    "patient": ("patients", "the tables are of different files; evaluate all on the same data"),
    "n_slices": ("numbers of scored slices", "evaluate all with the same --slices"),
    "mask_id": ("masks", "evaluate all with one --mask, --center-fraction and --protocol"),
}


class Excluded(NamedTuple):
    """A volume that is compared in no table, since a row of one cannot be used."""

    volume: str
    table: str  # file
    row: int  # as a spreadsheet numbers it
    why: str


@dataclass(frozen=True)
class Pairs:
    """Scores of all tables on the same units: a unit is a volume at one acceleration, the mean over its mask draws."""

    volumes: tuple[str, ...]  # (n_units,)
    patients: tuple[str, ...]  # (n_units,)
    accelerations: tuple[float, ...]  # (n_units,), nominal; NaN: undeclared
    n_slices: tuple[int, ...]  # (n_units,)
    n_draws: int
    protocol: str
    mask: str
    acceleration_true: float  # mean; NaN where no table knows it
    origin: str
    split: str  # empty: not known
    undeclared: tuple[str, ...]  # tables of which mask or acceleration are not declared
    unchecked: tuple[str, ...]  # tables that declare a mask by name, without the columns
    scores: Mapping[str, np.ndarray]  # metric -> (n_tables, n_units)
    zero_filled: Mapping[str, np.ndarray]  # metric -> (n_units,); NaN where no table knows it
    left_out: Mapping[str, str]  # metric that some tables have -> why it cannot be compared
    excluded: tuple[Excluded, ...] = ()
    no_patients: tuple[str, ...] = ()  # volumes of which no table says whose they are: each a patient of its own

    @property
    def weights(self) -> np.ndarray:
        """Weight of each unit in a mean, (n_units,): its slices under a protocol per slice, else 1.

        AlgoPerf (Dahl et al. 2023) averages over slices, fastMRI over volumes.
        """
        protocol = PROTOCOLS.get(self.protocol)
        per_slice = protocol is not None and protocol.per_slice
        return np.array(self.n_slices if per_slice else [1] * len(self.n_slices), dtype=float)


def pair(tables: Sequence[Table], allow_undeclared: bool = False) -> Pairs:
    """The scores of `tables` on their common units.

    Args:
        tables: One or more.
        allow_undeclared: Take images of unknown mask or acceleration, too; `Pairs.undeclared` names them.

    Raises:
        InputError: Tables that must not be mixed; the message names the first difference.
    """
    require_comparable(tables, allow_undeclared)
    keyed, excluded = _without_faults(tables, *_keyed(tables))
    for table, rows in zip(tables[1:], keyed[1:], strict=True):
        _require_same_keys(tables[0], keyed[0], table, rows)
        _require_same_fields(tables[0], keyed[0], table, rows)
    left_out = _left_out(tables, keyed)
    metrics = [name for name in tables[0].rows[0].scores if name not in left_out]
    if not metrics:
        reasons = "; ".join(left_out.values())
        raise InputError(f"no metric that all tables have ({reasons}); evaluate all with the same --metrics")
    zero_filled = _zero_filled(tables, keyed, metrics)
    of_unit = {key[:2]: key for key in sorted(keyed[0], reverse=True)}  # its first draw
    units = sorted(of_unit)
    first = [of_unit[unit] for unit in units]
    known = [table for table in tables if not table.undeclared] or [tables[0]]
    patients, n_slices = ([_known(keyed, key, field) for key in first] for field in ("patient", "n_slices"))
    protocol = _known(keyed, first[0], "protocol")
    if protocol in PROTOCOLS and PROTOCOLS[protocol].per_slice and not all(n_slices):
        raise InputError(f"no table has n_slices, and the means of {protocol} are over slices; add the column")
    return Pairs(
        volumes=tuple(unit[0] for unit in units),
        patients=tuple(patient or unit[0] for patient, unit in zip(patients, units, strict=True)),
        accelerations=tuple(unit[1] or math.nan for unit in units),
        n_slices=tuple(n_slices),
        n_draws=len({key[2] for key in keyed[0]}),
        protocol=protocol or "unknown",
        mask=known[0].rows[0].mask or UNDECLARED,
        acceleration_true=_true_acceleration(keyed),
        origin=_known(keyed, first[0], "origin") or "unknown origin",
        split=next((table.split for table in tables if table.split), ""),
        undeclared=tuple(table.name for table in tables if table.undeclared),
        unchecked=tuple(t.name for t in tables if not t.undeclared and not all(row.mask_id for row in t.rows)),
        scores={m: np.array([_over_draws(units, keyed_rows, _own(m)) for keyed_rows in keyed]) for m in metrics},
        zero_filled={m: _over_draws(units, zero_filled, _reference(m)) for m in metrics},
        left_out=left_out,
        excluded=excluded,
        no_patients=tuple(unit[0] for patient, unit in zip(patients, units, strict=True) if not patient),
    )


def _known(keyed: Sequence[Rows], key: Key, field: str) -> Any:
    """A fact of a row as the first table tells it that knows it; empty or 0: none does."""
    return next((value for rows in keyed if (value := getattr(rows[key], field))), getattr(keyed[0][key], field))


def _without_faults(
    tables: Sequence[Table], keyed: Sequence[Rows], use_bare: bool
) -> tuple[list[Rows], tuple[Excluded, ...]]:
    """The rows without the volumes of which some table has a row that cannot be used, and these.

    Raises:
        InputError: No volume is left.
    """
    excluded = [Excluded(f.volume, table.file or table.name, f.row, f.why) for table in tables for f in table.faults]
    lost = {_bare(one.volume) if use_bare else one.volume for one in excluded}
    kept: list[Rows] = [{key: row for key, row in rows.items() if key[0] not in lost} for rows in keyed]
    if excluded and not all(kept):
        volume, table, row, why = excluded[0]
        raise InputError(f"no volume is left: each has a row that cannot be used ({table}, {volume}, row {row}: {why})")
    return kept, tuple(excluded)


def _keyed(tables: Sequence[Table]) -> tuple[list[Rows], bool]:
    """The rows of each table by what pairs them, and whether volumes go by their bare names.

    Paths are relative to the folder that was given, DIR or DIR/val, so bare names pair where paths do not.
    """
    paths = [set(table.values("volume")) | {fault.volume for fault in table.faults} for table in tables]
    bare = [{_bare(path) for path in volumes} for volumes in paths]
    are_unique = all(len(names) == len(volumes) for names, volumes in zip(bare, paths, strict=True))
    use_bare = are_unique and any(volumes != paths[0] for volumes in paths)
    declared = sorted({r.acceleration for table in tables for r in table.rows if not math.isnan(r.acceleration)})
    return [_by_key(table, use_bare, declared) for table in tables], use_bare


def _by_key(table: Table, use_bare: bool, declared: Sequence[float]) -> Rows:
    rows: dict[Key, VolumeResult] = {}
    for row in table.rows:
        name = _bare(row.volume) if use_bare else row.volume
        key = (name, _acceleration(table, row, declared), row.mask_draw)
        if key in rows:
            raise InputError(f"{table.name} has two rows of {row.volume}, draw {row.mask_draw}; evaluate again")
        patient = name if row.patient == row.volume else row.patient  # files without an id go by their path
        rows[key] = replace(row, volume=name, patient=patient)
    return rows


def _bare(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _acceleration(table: Table, row: VolumeResult, declared: Sequence[float]) -> float:
    """Return the acceleration that tables declare, which counts for those that declare none; 0 if none does."""
    if not math.isnan(row.acceleration):
        return row.acceleration
    if len(declared) > 1:
        several = ", ".join(f"{value:g}x" for value in declared)
        raise InputError(
            f"{table.name} declares no acceleration and the others have several ({several}), so nothing says which "
            "scores are pairs; declare it (mrirecon score ... --acceleration R)"
        )
    return declared[0] if declared else 0.0


def _require_same_keys(first: Table, mine: Rows, second: Table, theirs: Rows) -> None:
    for a, rows, b, others in ((first, mine, second, theirs), (second, theirs, first, mine)):
        volumes = {key[0] for key in rows}
        if missing := sorted(volumes - {key[0] for key in others}):
            raise InputError(
                f"different volumes: {b.name} has no {missing[0]} ({len(missing)} of the {len(volumes)} of {a.name}); "
                "evaluate all on the same (a flat folder is split by --split-seed, else by the run's seed)"
            )
    for volume in sorted({key[0] for key in mine}):
        draws, others_draws = _draws(mine, volume), _draws(theirs, volume)
        if draws != others_draws:
            raise InputError(
                f"different mask draws of {volume}: {draws} in {first.name}, {others_draws} in {second.name}; "
                "evaluate all with the same --mask-draws"
            )


def _draws(rows: Rows, volume: str) -> str:
    return ", ".join(f"{draw} at {acceleration:g}x" for name, acceleration, draw in sorted(rows) if name == volume)


def _require_same_fields(first: Table, mine: Rows, second: Table, theirs: Rows) -> None:
    """Require that what is known on both sides of a pair agrees."""
    for field, (what, advice) in _FIELDS.items():
        pairs = [(key, getattr(mine[key], field), getattr(theirs[key], field)) for key in sorted(mine)]
        wrong = [(key[0], a, b) for key, a, b in pairs if a and b and a != b]
        if wrong:
            volume, a, b = wrong[0]
            raise InputError(
                f"different {what} of {volume}: {a} in {first.name}, {b} in {second.name} "
                f"({len(wrong)} of {len(pairs)} pairs); {advice}"
            )


def _left_out(tables: Sequence[Table], keyed: Sequence[Rows]) -> dict[str, str]:
    """The metrics that some tables have and not all, or that look at other objects, each with the reason."""
    left_out: dict[str, str] = {}
    for name in METRICS:
        lacking = [table.name for table in tables if not all(name in row.scores for row in table.rows)]
        if lacking and len(lacking) < len(tables):
            left_out[name] = f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no {label_of(name)}"
        elif not lacking and OBJECT_MASK in METRICS[name].needs and (other := _other_object(tables, keyed)):
            left_out[name] = f"no {label_of(name)}, as the object of {other}"
    return left_out


def _other_object(tables: Sequence[Table], keyed: Sequence[Rows]) -> str:
    """Word the first volume whose object is not the same in all tables, as far as they tell; empty: there is none."""
    for key in sorted(keyed[0]):
        (first, own), *others = rows = [(t.name, of_table[key]) for t, of_table in zip(tables, keyed, strict=True)]
        if elsewhere := [name for name, row in others if row.object != own.object]:
            return f"{key[0]} is from {own.object or 'nowhere'} in {first} and from elsewhere in {elsewhere[0]}"
        sizes = [(row.n_object_windows, name) for name, row in rows if row.n_object_windows is not None]
        if differing := [size for size in sizes if size[0] != sizes[0][0]]:
            (n, first), (other_n, second) = sizes[0], differing[0]
            return f"{key[0]} has {n} windows in {first} and {other_n} in {second}: they had different masks of it"
    return ""


def _zero_filled(tables: Sequence[Table], keyed: Sequence[Rows], metrics: Sequence[str]) -> Rows:
    """The rows of the first table that knows the zero-filled scores; all that do must agree."""
    known = [(t, rows) for t, rows in zip(tables, keyed, strict=True) if all(map(_has_zero_filled, rows.values()))]
    if not known:
        return keyed[0]
    first, mine = known[0]
    error = next((m for m in metrics if not METRICS[m].higher_is_better), metrics[0])  # small changes move it most
    for table, rows in known[1:]:
        for key, row in mine.items():
            a, b = row.zero_filled[error], rows[key].zero_filled[error]
            if not math.isclose(a, b, rel_tol=_SAME_ZERO_FILLED):
                raise InputError(
                    f"different samples of {key[0]}: its zero-filled image has an {label_of(error)} of {a:.5g} in "
                    f"{first.name}, of {b:.5g} in {table.name}; the files changed in between, evaluate all on the "
                    "same data"
                )
    return mine


def _has_zero_filled(row: VolumeResult) -> bool:
    return not all(map(math.isnan, row.zero_filled.values()))  # a volume without an object has no score of one


def _true_acceleration(keyed: Sequence[Rows]) -> float:
    for rows in keyed:
        values = [row.acceleration_true for row in rows.values()]
        if not any(map(math.isnan, values)):
            return fmean(values)
    return math.nan


def _own(metric: str) -> Callable[[VolumeResult], float]:
    return lambda row: row.scores[metric]


def _reference(metric: str) -> Callable[[VolumeResult], float]:
    return lambda row: row.zero_filled[metric]


def _over_draws(units: Iterable[tuple[str, float]], rows: Rows, value: Callable[[VolumeResult], float]) -> np.ndarray:
    """Mean over the draws of each unit."""
    values: dict[tuple[str, float], list[float]] = {}
    for key in sorted(rows):
        values.setdefault(key[:2], []).append(value(rows[key]))
    return np.array([np.mean(values[unit]) for unit in units])
