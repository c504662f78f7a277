"""How far a study is: done, running, failed, waiting, and when it will be finished."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from mrirecon.ablation.study.folder import Study
from mrirecon.ablation.study.plan import RunSpec
from mrirecon.ablation.study.records import STAGES
from mrirecon.cluster.jobs import GONE, job_states
from mrirecon.errors import WorkFailedError
from mrirecon.leases import Leases


@dataclass(frozen=True)
class Counts:
    """Runs of a study, or of a cell."""

    done: int
    running: int
    failed: int
    waiting: int  # known, and nobody is at it
    expected: int  # in all, with those that only later results will name
    diverged: int = 0
    stage: str = ""  # of a cell: what it is at

    @property
    def is_complete(self) -> bool:
        """Say whether everything that can be done is done."""
        return not (self.running or self.failed or self.waiting)


def count(study: Study) -> Counts:
    """Count the runs of a whole study."""
    return _sum(_by_cell(study).values())


def status_table(study: Study) -> str:
    """One line per cell and one for all; the first line of the error of failed runs; the time that is left."""
    cells = _by_cell(study)
    width = max(len(name) for name in cells) + 2
    lines = [f"{'cell':<{width}}{'done':>9}{'running':>9}{'failed':>8}{'waiting':>9}{'diverged':>10}  stage"]
    lines += [f"{name:<{width}}{_row(counts)}  {counts.stage}" for name, counts in cells.items()]
    total = _sum(cells.values())
    lines.append(f"{'all':<{width}}{_row(total)}  {_left(study, total)}")
    state = _State(study)
    lines += [f"failed: {entry['label']}: {entry['error'].splitlines()[0]}" for entry in state.failed.values()]
    lines += _unclear(state)
    return "\n".join(lines + _jobs(study))


def _unclear(state: "_State") -> list[str]:
    """Leases whose dates are no use: a look of some minutes tells whether they change, which workers take."""
    if not state.unclear:
        return []
    ahead = -min(state.unclear.values())
    dates = f"dated {_duration(ahead)} in the future" if ahead > 0 else "not touched for long"
    n = len(state.unclear)
    return [
        f"leases: {n} {dates}, and not counted as running: the worker is gone or its host's clock is wrong; "
        f"other workers take over what they see unchanged for {state.limit:.0f} s"
    ]


def _jobs(study: Study) -> list[str]:
    """The states of submitted jobs that SLURM still knows, the dead ones among them."""
    try:
        states = job_states(study.folder.jobs())
    except WorkFailedError as error:
        return [f"jobs: {error}"]
    known = {job: state for job, state in states.items() if state != GONE}
    by_state = {state: [job for job in known if known[job] == state] for state in dict.fromkeys(known.values())}
    return [f"jobs {state}: {', '.join(jobs)}" for state, jobs in by_state.items()]


def progress_line(now: Counts, n_new: int, seconds: float) -> str:
    """Return the line that is shown while workers run: runs done, running, failed, and the time left."""
    left = max(now.expected - now.done - now.failed, 0)
    eta = f", about {_duration(seconds / n_new * left)} left" if n_new > 1 and left else ""
    failed = f", {now.failed} failed" if now.failed else ""
    return f"{now.done}/{max(now.expected, now.done)} runs done, {now.running} running{failed}{eta}"


class _State:
    """One look at a study folder."""

    def __init__(self, study: Study) -> None:
        folder = study.folder
        self.done = folder.records()
        self.specs = study.plan.runs(self.done)
        self.failed = {run: entry for run, entry in folder.failed().items() if run not in self.done}
        leases = Leases(folder.leases, study.manifest["options"]["lease"])
        names = {path.name for path in folder.leases.iterdir()} if folder.leases.is_dir() else set()
        wanted = {spec.id for spec in self.specs} - set(self.done)
        self.live = {name for name in names & wanted if leases.seems_live(name)}
        # of other hosts, and not seeming to be: whether they are a worker finds out, and a single look cannot
        self.unclear = {name: leases.age(name) for name in names & wanted - self.live if not leases.is_dead(name)}
        self.limit = leases.limit


def _by_cell(study: Study) -> dict[str, Counts]:
    state = _State(study)
    least = study.plan.least() // len(study.grid.cells)
    own: dict[str, list[RunSpec]] = {cell.name: [] for cell in study.grid.cells}
    for spec in state.specs:
        own[spec.cell.name].append(spec)
    return {name: _count(specs, state, least) for name, specs in own.items()}


def _count(specs: list[RunSpec], state: _State, least: int) -> Counts:
    ids = {spec.id: spec for spec in specs}
    open_ids = [run for run in ids if run not in state.done]
    running = sum(run in state.live for run in open_ids)
    failed = sum(run in state.failed and run not in state.live for run in open_ids)
    diverged = sum(state.done[run].diverged_at is not None for run in ids if run in state.done)
    # until the winner is known its sweep and its reruns are not
    further = sum(spec.widened for spec in specs) if open_ids and not _has_reruns(specs) else 0
    expected = max(least + further, len(ids)) if open_ids and not _has_reruns(specs) else len(ids)
    waiting = len(open_ids) - running - failed
    return Counts(len(ids) - len(open_ids), running, failed, waiting, expected, diverged, _stage(specs, open_ids))


def _stage(specs: list[RunSpec], open_ids: list[str]) -> str:
    stages = {spec.stage for spec in specs if spec.id in set(open_ids)}
    if stages:
        return next(stage for stage in STAGES if stage in stages)
    return "complete" if _has_reruns(specs) else "no trial converged"


def _has_reruns(specs: list[RunSpec]) -> bool:
    return any(spec.stage == "rerun" for spec in specs)


def _sum(cells: Iterable[Counts]) -> Counts:
    numbers = [(c.done, c.running, c.failed, c.waiting, c.expected, c.diverged) for c in cells]
    return Counts(*(sum(column) for column in zip(*numbers, strict=True)))


def _row(counts: Counts) -> str:
    shown = f"{counts.done}/{counts.expected}"
    return f"{shown:>9}{counts.running:>9}{counts.failed:>8}{counts.waiting:>9}{counts.diverged:>10}"


def _left(study: Study, counts: Counts) -> str:
    seconds = [record.timing.seconds for record in study.folder.records().values()]
    left = counts.expected - counts.done - counts.failed
    if not left:
        return "complete" if counts.is_complete else "some failed: mrirecon ablate run tries them again"
    if not seconds or not counts.running:
        return f"nobody works on it: mrirecon ablate run {study.folder.path}"
    return f"about {_duration(fmean(seconds) * left / counts.running)} left with {counts.running} at work"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
