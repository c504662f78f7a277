"""Tables of a study's page: the leaderboard, costs, times to the targets, comparisons of each family, and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.report.figures.study import comparison_names, verdict_of
from mrirecon.report.figures.study_curves import lr_of, time_to
from mrirecon.report.pages.html import Bar, Column, Entry, Table, bars, counted, measured, scored
from mrirecon.report.words import NONE, duration, how_many, interval, number, p_value, percent, size, tuned
from mrirecon.tables.metrics import METRICS, digits_of, heading_of, label_of

Cells = Sequence[Mapping[str, Any]]
_LEADERS = (
    Column("cell"),
    Column("test SSIM", True, "mean over seeds and volumes, 95 % interval"),
    Column("interval", True, "the same interval on one scale; the tick is the mean"),
)
_BEHIND = (  # the other metrics
    Column("best SSIM", True, "highest validation SSIM of a run, mean over seeds"),
    Column("area", True, "mean validation loss over the steps: lower is faster and better"),
    Column("tuned", True, "values of the first tuning draw's winner"),
    Column("tuning", True, "trials, their time, and how many of them diverged"),
    Column("seeds", True, "reruns, and how many of them diverged"),
)


def leaderboard(study: Mapping[str, Any], cells: Cells, name: str = "leaderboard") -> Table:
    """Return a table of all cells, the highest test SSIM first, and the zero-filled image below."""
    order = sorted(cells, key=lambda cell: (_is_rest(study, cell), _by_ssim(cell)))
    several = list(next((cell["by_acceleration"] for cell in cells if cell.get("by_acceleration")), {}))
    found = [(cell.get("final") or {}).get("ssim") for cell in order]
    zero_filled = study.get("zero_filled") or {}
    scored_by = {key for cell in cells for key in cell.get("final") or ()} | set(zero_filled)
    others = [metric for metric in METRICS if metric in scored_by and metric != "ssim"]
    rows = [_leader(study, cell, bar, several, others) for cell, bar in zip(order, bars(found), strict=True)]
    if zero_filled:
        first, *behind = (counted(zero_filled.get(metric), digits_of(metric)) for metric in ("ssim", *others))
        gap = [Entry("")] * len(_BEHIND)
        apart = [Entry("")] * len(several)
        rows.append([Entry("zero-filled", kind="plain"), first, Entry(""), *apart, *behind, *gap])
    marked = [i for i, cell in enumerate(order) if cell["cell"] == study["reference"]]
    apart_columns = [Column(f"SSIM at {at}", True, "95 % interval below") for at in several]
    columns = [*_LEADERS, *apart_columns, *(Column(heading_of(metric), True) for metric in others), *_BEHIND]
    if several:
        columns[1] = Column(f"test SSIM, mean of {' and '.join(several)}", True, _LEADERS[1].hint)
    return Table(name, columns, rows, marked=marked)


def _is_rest(study: Mapping[str, Any], cell: Mapping[str, Any]) -> bool:
    """Tell whether a cell has no rank, since its diverged reruns are excluded."""
    return study.get("diverged") == "exclude" and bool(cell.get("n_diverged"))


def _by_ssim(cell: Mapping[str, Any]) -> tuple[bool, float]:
    mean = ((cell.get("final") or {}).get("ssim") or {}).get("mean")
    return mean is None, -(mean or 0.0)


def _leader(
    study: Mapping[str, Any], cell: Mapping[str, Any], bar: Bar | None, several: Sequence[str], others: Sequence[str]
) -> list[Entry]:
    final, tuning = cell.get("final") or {}, cell.get("tuning") or {}
    notes = ["reference"] if cell["cell"] == study["reference"] else []
    notes += ["failed"] if cell.get("error") else []
    notes += ["not ranked: the runs that did not diverge"] if _is_rest(study, cell) else []
    apart = cell.get("by_acceleration") or {}
    ssim = final.get("ssim")
    # how many reruns diverged with the exact interval of their share; empty where none did
    said, share = _diverged(cell.get("n_diverged")), cell.get("divergence") or {}
    known = said and share.get("low") is not None
    return [
        Entry(cell["cell"], note=", ".join(notes), kind="name"),
        scored(ssim, "ssim"),
        Entry("", (ssim or {}).get("mean"), bar=bar),
        *(scored((apart.get(at) or {}).get("ssim"), "ssim") for at in several),
        *(scored(final.get(metric), metric) for metric in others),
        scored(cell.get("best_ssim"), "ssim"),
        measured(cell.get("area"), ".4f"),
        Entry(tuned(cell.get("values") or {}), lr_of(cell.get("values") or {}), _range_note(cell)),
        _tuning_cost(tuning),
        Entry(
            number(cell.get("n_seeds"), "d"),
            cell.get("n_seeds"),
            f"{said} (95 % interval {100 * share['low']:.0f} to {100 * share['high']:.0f} %)" if known else said,
        ),
    ]


def _tuning_cost(tuning: Mapping[str, Any]) -> Entry:
    n, seconds = tuning.get("n_trials"), tuning.get("seconds")
    if not n:
        return Entry(NONE)
    n_replaced = n - (tuning.get("n_chosen_from") or n)
    notes = [f"{n_replaced} of them chose the range"] * (n_replaced > 0) + [_diverged(tuning.get("n_diverged"))]
    return Entry(f"{n} in {duration(seconds)}", seconds, ", ".join(filter(None, notes)))


def _range_note(cell: Mapping[str, Any]) -> str:
    """Return a note on the tuned range; an edge, at which the cell may be tuned badly, stands in every table."""
    if cell.get("edge"):
        return f"edge: {cell['edge']}"
    return "range widened" if cell.get("widened") else ""


def _diverged(n: int | None) -> str:
    return f"{n} diverged" if n else ""


_COSTS = (
    Column("cell"),
    Column("step", True, "median time of one optimizer step, measured apart"),
    Column("peak memory", True),
    Column("optimizer state", True),
    Column("parameters", True),
    Column("tuning runs", True),
    Column("diverged", True, "tuning runs"),
    Column("tuning time", True),
    Column("good rates", True, "learning rates around the winner that keep nearly all of its gain over zero-filled"),
    Column("diverges from", True, "lowest learning rate of the sweep that diverged"),
)


def cost_table(cells: Cells) -> Table:
    """Return the cost of each cell in time, memory and tuning."""
    return Table("costs", _COSTS, [_cost(cell) for cell in cells])


def _cost(cell: Mapping[str, Any]) -> list[Entry]:
    tuning, sweep = cell.get("tuning") or {}, cell.get("sweep") or {}
    low, high, wall = (sweep.get(key) for key in ("good_low", "good_high", "lr_diverged"))
    width = None if not low or not high else high / low
    n_parameters = cell.get("n_parameters")
    seconds, memory, state = (cell.get(key) for key in ("step_seconds", "peak_memory", "optimizer_bytes"))
    memory, n_parameters = memory or None, n_parameters or None  # 0: no run yet
    state = state if n_parameters else None  # an optimizer without state has 0 bytes
    spent = tuning.get("seconds") if tuning.get("n_trials") else None
    return [
        Entry(cell["cell"], note=_range_note(cell), kind="name"),
        Entry(duration(seconds), seconds),
        Entry(size(memory), memory),
        Entry(size(state), state),
        Entry(number(n_parameters, ","), n_parameters),
        counted(tuning.get("n_trials")),
        counted(tuning.get("n_diverged")),
        Entry(duration(spent), spent),
        Entry(NONE, None) if width is None else Entry(f"{width:.3g}-fold", width, f"{low:.2g} to {high:.2g}"),
        Entry(NONE if wall is None else f"{wall:.2g}", wall),
    ]


def time_table(study: Mapping[str, Any], cells: Cells) -> Table:
    """Return steps to each target, a seed that misses it counted at the horizon, and how many seeds reached it."""
    shares = [target["share"] for target in study.get("targets") or ()]
    columns = [Column("cell")]
    for share in shares:
        columns += [Column(f"steps to {percent(share)}", True), Column("reached", True, "seeds")]
    rows = [[Entry(cell["cell"], note=_range_note(cell), kind="name"), *_times(cell, shares)] for cell in cells]
    return Table("times", columns, rows)


def _times(cell: Mapping[str, Any], shares: Sequence[float]) -> list[Entry]:
    entries = []
    for share in shares:
        time = time_to(cell, share)
        steps = time.get("steps") or {}
        n, of = time.get("n_reached"), time.get("n_seeds")
        if of and not n:
            entries += [
                Entry("not reached", time["horizon"], f"in {time['horizon']:g} steps"),
                Entry(f"0 of {of}", 0.0),
            ]
            continue
        note = "\n".join(text for text in (interval(steps, ".0f"), _in_other_units(time)) if text)
        reached = Entry(f"{n} of {of}", n / of) if of else Entry(NONE)
        entries += [Entry(number(steps.get("mean"), ".0f"), steps.get("mean"), note), reached]
    return entries


def _in_other_units(time: Mapping[str, Any]) -> str:
    samples, seconds = ((time.get(key) or {}).get("mean") for key in ("samples", "seconds"))
    found = [] if samples is None else [f"{samples:,.0f} samples"]
    return ", ".join(found if seconds is None else [*found, duration(seconds)])


NOT_TESTED = "NOT TESTED"
_COMPARISONS = (
    Column("comparison", hint="first minus second"),
    Column("verdict"),
    Column("effect", True, "with the interval that holds for all comparisons of the family at once"),
    Column("p", True, "of the same interval: at most 0.05 exactly where 0 lies outside of one at 95 %"),
    Column("P(better)", True, "probability that a new run of the first beats one of the second on a new patient"),
    Column("p on these patients", True, "sign flips over seeds, other patients left out: a check that decides nothing"),
    Column("would always decide", True, "designs whose interval is no wider than the margin: seeds x patients"),
)
_CLAIMS = (
    Column("claim"),
    Column("verdict"),
    Column("effect", True, "with the family-adjusted interval"),
    Column("margin", True),
    Column("measure"),
    Column("cells"),
    Column("command"),
)


def family_table(family: Mapping[str, Any], name: str) -> Table:
    """Return the comparisons of one family; what all of them stand on is said once, as the caption.

    Intervals, p values and verdicts are of one rule: see `mrirecon.evaluation.stats.judge`.
    """
    bases = [_base(item) for item in family["comparisons"]]
    shared = bases[0] if len(set(bases)) == 1 else ""
    rows = [
        _comparison(item, title, "" if shared else base)
        for item, title, base in zip(family["comparisons"], comparison_names(family), bases, strict=True)
    ]
    return Table(name, _COMPARISONS, rows, caption=f"{shared}." if shared else "")


def _comparison(item: Mapping[str, Any], title: str, base: str) -> list[Entry]:
    digits = digits_of(item.get("metric", ""), ".1f")
    designs = [f"{seeds} x {patients}" for seeds, patients in item.get("designs") or ()]
    note = item.get("size") or item.get("refused") or ""
    return [
        Entry(title, note=base, kind="name long"),
        verdict(verdict_of(item), note),
        Entry(number(item.get("effect"), f"+{digits}"), item.get("effect"), interval(item, f"+{digits}")),
        Entry(p_value(item.get("p")), item.get("p")),
        counted(item.get("superiority"), ".2f"),
        Entry(p_value(item.get("p_these_patients")), item.get("p_these_patients")),
        Entry("\n".join(designs) or NONE),
    ]


def _base(item: Mapping[str, Any]) -> str:
    """Return metric, counts and reach of a comparison, on which its numbers stand."""
    metric = str(item.get("metric", ""))
    counts = [how_many(item[key], noun) for key, noun in _COUNTS.items() if item.get(key)]
    counts = counts if metric in METRICS else []  # steps are of runs, not of volumes
    over = f"speaks about {item['over']}" if item.get("over") else ""
    return "; ".join(
        text for text in (label_of(metric), ", ".join([str(item.get("runs") or ""), *counts]), over) if text
    )


_COUNTS = {"n_volumes": "volume", "n_patients": "patient"}


def claims_table(claims: Sequence[Mapping[str, Any]], tested: bool) -> Table:
    """Return the claims that the study has cells for, or those it has not with what they would need."""
    shown = [claim for claim in claims if (claim["verdict"] != NOT_TESTED) == tested]
    if tested:
        return Table("claims", _CLAIMS, [_claim(claim) for claim in shown])
    rows = [[_text(claim), Entry(claim.get("measure") or NONE), _command(claim)] for claim in shown]
    return Table("claims-not-tested", [_CLAIMS[0], _CLAIMS[4], _CLAIMS[6]], rows)


def _claim(claim: Mapping[str, Any]) -> list[Entry]:
    limits = interval(claim, "+.3g")
    unit = f" {claim['unit']}" if claim.get("unit") else ""
    effect, margin = claim.get("effect"), claim.get("margin")
    return [
        _text(claim),
        verdict(claim["verdict"]),
        Entry(NONE if effect is None else f"{number(effect, '+.3g')}{unit}", effect, limits),
        Entry(NONE if margin is None else f"{number(margin, '.3g')}{unit}", margin),
        Entry(claim.get("measure") or NONE),
        Entry(", ".join(claim.get("cells") or ()) or NONE, kind="middle"),
        _command(claim),
    ]


def _text(claim: Mapping[str, Any]) -> Entry:
    return Entry(f"{claim['claim']}: {claim['text']}", note=claim.get("words") or "", kind="wide")


def _command(claim: Mapping[str, Any]) -> Entry:
    return Entry(claim.get("command") or NONE, kind="code")


def verdict(word: str, note: str = "") -> Entry:
    """Return a verdict as an entry with its colour."""
    return Entry(word, note=note, kind=f"verdict {word.lower().replace(' ', '-')}")


_VARIANCES = (
    Column("source", hint="of the variance of test SSIM: what methods share cancels in paired differences"),
    Column("standard deviation", True),
)


def variance_tables(study: Mapping[str, Any]) -> list[Table]:
    """Return where the variance comes from, a table for each acceleration, with what pairing takes away."""
    tables = []
    for i, found in enumerate(study.get("variances") or (), 1):
        rows = [[Entry(source), counted(sd, ".5f")] for source, sd in found["sd"].items()]
        correlation = found.get("correlation") or {}
        said = [f"{number(correlation[key], '.2f')} over {key}" for key in correlation if correlation[key] is not None]
        at = f"{found['at']}; " if found.get("at") else ""
        paired = f"Correlation of two methods' scores: {', '.join(said)}. " if said else ""
        shape = f"{len(found['cells'])} cells, {found['n_seeds']} seeds, {found['n_patients']} patients"
        tables.append(Table(f"variances-{i}", _VARIANCES, rows, caption=f"{paired}{at}{shape}."))
    return tables
