"""Reconstruct each slice several times where a call asks for it (`--samples`, `--ensemble`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mrirecon.config import TrainConfig
from mrirecon.configfile import flatten, load
from mrirecon.errors import InputError
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.spread import of_dropout, of_networks
from mrirecon.runs import RunFolder, run_of


class SpreadUse(Protocol):
    """The keys of a configuration that say whether there are several reconstructions."""

    @property
    def samples(self) -> int:
        """Passes with dropout; 0: one without."""

    @property
    def ensemble(self) -> list[str]:
        """Further runs."""

    @property
    def batch_size(self) -> int:
        """Slices per pass."""

    @property
    def seed(self) -> int:
        """Seed of the dropout."""


@dataclass(frozen=True)
class SpreadCall:
    """The several reconstructions of each slice that a call asks for; none of them where it asks for one."""

    samples: int  # passes with dropout; 0: none
    ensemble: tuple[str, ...]  # further runs
    seed: int  # of the dropout
    batch_size: int  # slices per pass

    @property
    def name(self) -> str:
        """A word for folders: `8samples`, `ensemble3`; empty for one image alone."""
        if self.samples:
            return f"{self.samples}samples"
        return f"ensemble{1 + len(self.ensemble)}" if self.ensemble else ""

    def facts(self) -> dict[str, Any]:
        """Return what summary.json says of it."""
        if self.samples:
            return {"samples": self.samples}
        return {"ensemble": list(self.ensemble)} if self.ensemble else {}

    def of(self, reconstructor: Reconstructor, word: str, find: Callable[[str], Reconstructor]) -> Reconstructor:
        """Return the reconstructor, or where several reconstructions are asked for that of their mean.

        Args:
            reconstructor: The one that `word` names.
            word: A run folder.
            find: Finds the further ones.

        Raises:
            InputError: A network without dropout, runs that differ in more than their seed, or in nothing.
        """
        if self.samples:
            return of_dropout(reconstructor, self.samples, self.seed, self.batch_size)
        if not self.ensemble:
            return reconstructor
        _require_seeds_alone([_run(one) for one in (word, *self.ensemble)])
        return of_networks([reconstructor, *(find(one) for one in self.ensemble)])


def read_spread(config: SpreadUse) -> SpreadCall:
    """Read whether several reconstructions are asked for.

    Raises:
        InputError: A number of samples, or a combination, that says nothing of a spread.
    """
    if config.samples == 1:
        raise InputError("--samples 1 has no spread; draw 2 or more, or leave it out")
    if config.samples and config.ensemble:
        raise InputError("--samples and --ensemble are two kinds of spread, which no number mixes; give one of them")
    return SpreadCall(config.samples, tuple(config.ensemble), config.seed, config.batch_size)


def _run(word: str) -> RunFolder:
    run = run_of(word)
    if run is None or not run.config.is_file():
        raise InputError(f"--ensemble is of runs, and {word} is none; give run folders that differ in their seed alone")
    return run


def _require_seeds_alone(runs: list[RunFolder]) -> None:
    from mrirecon.workflows.compare.items import decisive_keys

    first, *others = [flatten(load(TrainConfig, run.config)) for run in runs]
    seen: dict[int, Path] = {first["seed"]: runs[0].path}
    for run, config in zip(runs[1:], others, strict=True):
        theirs, ours = decisive_keys(config), decisive_keys(first)
        if differing := [key for key in ours if theirs[key] != ours[key]]:
            key = differing[0]
            raise InputError(
                f"{run.path} differs from {runs[0].path} in {key} ({theirs[key]}, not {ours[key]}); an ensemble is of "
                "runs that differ in their seed alone: leave it out"
            )
        if config["seed"] in seen:
            raise InputError(
                f"{run.path} and {seen[config['seed']]} have one seed ({config['seed']}), which says nothing about the "
                "spread; give one of them"
            )
        seen[config["seed"]] = run.path
