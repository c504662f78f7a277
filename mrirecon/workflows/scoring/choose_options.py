"""Choose what a call leaves open of a method, such as the weight of total variation, and never on what is reported.

The best value is that of the lowest NMSE, the mean over a few volumes of another split under masks of the same kind.
NMSE is what the least-squares problem itself measures, in its units, and the noise of the air, which references have
and good reconstructions have not, hardly weighs in it. In the SSIM of a whole image that air weighs most, so that it
prefers noise: on two measured brains it takes the smallest weight of the grid, NMSE and the SSIM inside the object
take 0.002. The latter depends on a rule that finds the object, and has no value where there is none.

Where the best value is the smallest or the largest one of its grid, one beyond it is tried, as far away (as a factor)
as its neighbour, until the best one lies inside or `N_BEYOND` have been tried.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from mrirecon.config import DataConfig
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.folder import open_folder, select
from mrirecon.data.folders.manifest import require_unchanged
from mrirecon.data.mask_choice import MaskSpec, check_masks, evaluation_mask, uses_own
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import Protocol
from mrirecon.models.device import inference
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.workflows.scoring.loop import Scoring, score_dataset

METRIC = "nmse"
N_SLICES = 6  # of at most so many volumes, as few as this since each value of the grid reconstructs them all
N_BEYOND = 4  # values beyond the grid, at most
_SPLITS = ("val", "train")  # the first one that is not reported


@dataclass(frozen=True)
class Elsewhere:
    """A few checked volumes of a split that is not reported."""

    split: str
    volumes: list[Volume]
    needed_by: str  # in errors: who looks at them
    option: str  # in errors: what can be given instead

    def of_pass(self, spec: MaskSpec, own: bool, acceleration: float | None) -> list[Volume]:
        """The volumes that are undersampled as those of a pass.

        Args:
            spec: The masks of the pass.
            own: They are those of the files.
            acceleration: Nominal; of files that differ None, which any will do for.

        Raises:
            InputError: There are none, or masks do not fit.
        """
        with_own = [volume for volume in self.volumes if uses_own(volume, spec)]
        found = with_own if own else [volume for volume in self.volumes if volume not in with_own]
        if own and acceleration is not None:
            found = [v for v in found if round(evaluation_mask(v, spec).acceleration) == acceleration]
        if not found:
            times = "" if acceleration is None else f" of {acceleration:g}x"
            have = f"masks{times} of their own" if own else "k-space to draw masks for"
            raise InputError(
                f"{self.needed_by}, and no volume of the split '{self.split}' has {have}: {_advice(self.option)}"
            )
        check_masks(found, spec)
        return found


@dataclass(frozen=True)
class Choice:
    """The values that were chosen, and all that were tried, each with its score."""

    values: Mapping[str, Any]
    tried: Sequence[tuple[Mapping[str, Any], float]]
    n_beyond: int  # of these, so many are beyond the grid
    split: str
    volumes: Sequence[str]
    n_slices: int

    @property
    def at_edge(self) -> list[str]:
        """Options of which the smallest or the largest value tried is the best: a better one may lie beyond."""
        return _at_edge(self.values, self.tried)

    def facts(self) -> dict[str, Any]:
        """Return the part of summary.json about it."""
        return {
            "values": dict(self.values),
            "metric": METRIC,
            "split": self.split,
            "volumes": list(self.volumes),
            "n_slices": self.n_slices,
            "tried": [{**values, METRIC: score if math.isfinite(score) else None} for values, score in self.tried],
            "n_beyond_grid": self.n_beyond,
            "at_edge": self.at_edge,
        }

    def line(self, name: str, times: str) -> str:
        """Say in one line what was chosen for the method `name`, on what, and what was tried.

        Args:
            name: Of the method.
            times: The acceleration in words.
        """
        chosen = ", ".join(f"{option} {value:g}" for option, value in self.values.items())
        tried = ", ".join(f"{' '.join(f'{v:g}' for v in values.values())}: {score:.4g}" for values, score in self.tried)
        n = len(self.volumes)
        text = (
            f"{name} at {times}: {chosen}, chosen by the NMSE of {self.n_slices} slices of {n} "
            f"{'volume' if n == 1 else 'volumes'} of {self.split} ({tried})"
        )
        if self.n_beyond:
            text += f"; the best value of the grid was at its edge, and {self.n_beyond} beyond it were tried"
        if edge := self.at_edge:
            text += (
                f"; {' and '.join(edge)} is at the edge of what was tried, and a better value may lie beyond: see "
                f"--method.{edge[0]}"
            )
        return text


def _at_edge(values: Mapping[str, Any], tried: Sequence[tuple[Mapping[str, Any], float]]) -> list[str]:
    edges = {name: (min(v[name] for v, _ in tried), max(v[name] for v, _ in tried)) for name in values}
    return [name for name, value in values.items() if value in edges[name] and edges[name][0] < edges[name][1]]


def _beyond(values: Mapping[str, Any], tried: Sequence[tuple[Mapping[str, Any], float]]) -> dict[str, Any] | None:
    """The next values to try where the best ones are at an edge; None: they are not, or nothing lies beyond."""
    for name in _at_edge(values, tried):
        nearest, next_one, *_ = sorted({v[name] for v, _ in tried}, key=lambda value: abs(value - values[name]))
        if isinstance(nearest, float) and nearest * next_one > 0:  # whole numbers and 0 have no such factor
            further = float(f"{nearest**2 / next_one:.2g}")
            if abs(further - nearest) > 0 and (further > nearest) == (nearest > next_one):
                return {**values, name: further}
    return None


def open_elsewhere(data: DataConfig, reported: str, seed: int, protocol: Protocol, name: str, option: str) -> Elsewhere:
    """A few checked volumes of the split on which what `name` leaves open is chosen, drawn by the seed.

    Args:
        data: Folder and selection.
        reported: The split that is scored.
        seed: Seed.
        protocol: That of the evaluation.
        name: Of the method.
        option: One that is open.

    Raises:
        InputError: There is no other split, or it cannot be used.
    """
    why = f"{option} of {name} is not set, and is chosen on another split than the one scored"
    if reported not in ("train", "val", "test"):
        raise InputError(f"{why}, but --split {reported} leaves none: {_advice(option)}")
    folder = open_folder(data, seed, protocol.halves_val)
    split = next((split for split in _SPLITS if split != reported and split in folder.splits), "")
    if not split:
        raise InputError(
            f"{why}, but {folder.root} has no {' or '.join(s for s in _SPLITS if s != reported)}: {_advice(option)}"
        )
    try:
        volumes, _ = select(folder, data, split, seed, N_SLICES)
    except InputError as error:
        raise InputError(f"{why}, '{split}', where {error}; or {_advice(option)}") from None
    return Elsewhere(split, volumes, why, option)


def choose(
    candidates: Sequence[Mapping[str, Any]],
    make: Callable[[Mapping[str, Any]], Reconstructor],
    scoring: Scoring,
    volumes: Sequence[Volume],
    spec: MaskSpec,
    split: str,
) -> Choice:
    """Try each of the candidates on the middle slices of volumes, and some beyond them where the best is at an edge.

    Several processes share the slices, and all return the same.

    Args:
        candidates: Values by option.
        make: Makes the method with some of them.
        scoring: That of the evaluation.
        volumes: Of `Elsewhere.of_pass`.
        spec: Their masks.
        split: Theirs.

    Raises:
        InputError: No candidate has a finite score.
    """
    dataset = SliceDataset(
        volumes,
        mask=spec,
        needs=(*make(candidates[0]).needs, "image"),
        slices=scoring.slices,
        protocol=scoring.protocol,
    )
    dataset.items = _middle(dataset.items, max(1, N_SLICES // len(volumes)))

    def score(reconstructor: Reconstructor, values: Mapping[str, Any]) -> float:
        words = " ".join(f"{option} {value:g}" for option, value in values.items())
        with inference(reconstructor.device):
            results = score_dataset(
                dataset,
                replace(reconstructor, name=f"{reconstructor.name} {words}"),
                spec.name,
                metrics=[METRIC],
                protocol=scoring.protocol,
                batch_size=scoring.batch_size,
                workers=scoring.workers,
            )
        return fmean(result.scores[METRIC] for result in results)

    tried = [(values, score(make(values), values)) for values in candidates]
    while True:
        finite = [(values, score) for values, score in tried if math.isfinite(score)]
        if not finite:
            raise InputError(
                f"no {METRIC} of {volumes[0].name} and others of {split} is finite: {_advice(*list(candidates[0])[:1])}"
            )
        best, _ = min(finite, key=lambda pair: pair[1])
        further = _beyond(best, tried)
        if further is None or len(tried) == len(candidates) + N_BEYOND:
            break
        try:
            reconstructor = make(further)
        except InputError:  # the method takes no such value
            break
        tried.append((further, score(reconstructor, further)))
    require_unchanged(volumes)
    n_beyond = len(tried) - len(candidates)
    if len(best) == 1:
        tried.sort(key=lambda pair: [*pair[0].values()])
    return Choice(best, tried, n_beyond, split, [volume.name for volume in volumes], len(dataset.items))


def _middle(items: Sequence[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """The `n` middle slices of each volume, of (volume, slice) pairs."""
    of_volume: dict[int, list[tuple[int, int]]] = {}
    for item in items:
        of_volume.setdefault(item[0], []).append(item)
    kept = []
    for own in of_volume.values():
        start = max(0, (len(own) - n + 1) // 2)
        kept += own[start : start + n]
    return kept


def _advice(option: str) -> str:
    return f"give --method.{option} VALUE"
