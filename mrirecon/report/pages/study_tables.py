"""Tables of a study's page: the leaderboard, costs, times to the targets, comparisons of each family, and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.report.figures.effects import comparison_names, verdict_of
from mrirecon.report.figures.study_curves import time_to
from mrirecon.report.figures.tuning import lr_of
from mrirecon.report.numbers import NONE, duration, how_many, interval, number, p_value, percent, size, tuned
from mrirecon.report.pages.html import Bar, Column, Entry, Table, bars, counted, measured, scored
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
    order = sorted(cells, key=_by_ssim)
    found = [(cell.get("final") or {}).get("ssim") for cell in order]
    zero_filled = study.get("zero_filled") or {}
    scored_by = {key for cell in cells for key in cell.get("final") or ()} | set(zero_filled)
    others = [metric for metric in METRICS if metric in scored_by and metric != "ssim"]
    rows = [_leader(study, cell, bar, others) for cell, bar in zip(order, bars(found), strict=True)]
    if zero_filled:
        first, *behind = (counted(zero_filled.get(metric), digits_of(metric)) for metric in ("ssim", *others))
        gap = [Entry("")] * len(_BEHIND)
        rows.append([Entry("zero-filled", kind="plain"), first, Entry(""), *behind, *gap])
    marked = [i for i, cell in enumerate(order) if cell["cell"] == study["reference"]]
    columns = [*_LEADERS, *(Column(heading_of(metric), True) for metric in others), *_BEHIND]
    return Table(name, columns, rows, marked=marked)


def _by_ssim(cell: Mapping[str, Any]) -> tuple[bool, float]:
    mean = ((cell.get("final") or {}).get("ssim") or {}).get("mean")
    return mean is None, -(mean or 0.0)


def _leader(study: Mapping[str, Any], cell: Mapping[str, Any], bar: Bar | None, others: Sequence[str]) -> list[Entry]:
    final, tuning = cell.get("final") or {}, cell.get("tuning") or {}
    notes = ["reference"] if cell["cell"] == study["reference"] else []
    notes += ["failed"] if cell.get("error") else []
    ssim = final.get("ssim")
    return [
        Entry(cell["cell"], note=", ".join(notes), kind="name"),
        scored(ssim, "ssim"),
        Entry("", (ssim or {}).get("mean"), bar=bar),
        *(scored(final.get(metric), metric) for metric in others),
        scored(cell.get("best_ssim"), "ssim"),
        measured(cell.get("area"), ".4f"),
        Entry(tuned(cell.get("values") or {}), lr_of(cell.get("values") or {}), _range_note(cell)),
        _tuning_cost(tuning),
        Entry(number(cell.get("n_seeds"), "d"), cell.get("n_seeds"), _diverged(cell.get("n_diverged"))),
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
    Column("effect", True, "95 % interval of its own below"),
    Column("family interval", True, "holds for all comparisons of the family at once"),
    Column("p", True, "sign flips, two-sided"),
    Column("p, family", True, "Westfall-Young step-down over the family"),
    Column("P(better)", True, "probability of superiority over paired seeds, ties half"),
    Column("TOST p", True, "two one-sided tests: small means equivalent within the margin"),
    Column("detectable", True, "smallest effect found with 80 % power"),
    Column("seeds needed", True, "to settle an inconclusive comparison"),
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

    P values of the family are those of Westfall and Young (1993), those of equivalence of Schuirmann (1987).
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
    own = {"low": item.get("low"), "high": item.get("high")}
    adjusted = {"low": item.get("low_family"), "high": item.get("high_family")}
    needed = item.get("seeds_needed")
    margin = "" if item.get("margin") is None else f"margin {item['margin']:{digits}}"
    return [
        Entry(title, note=base, kind="name long"),
        verdict(verdict_of(item)),
        Entry(number(item.get("effect"), f"+{digits}"), item.get("effect"), interval(own, f"+{digits}")),
        Entry(interval(adjusted, f"+{digits}") or NONE, adjusted["low"]),
        Entry(p_value(item.get("p")), item.get("p")),
        Entry(p_value(item.get("p_family")), item.get("p_family")),
        counted(item.get("superiority"), ".2f"),
        Entry(p_value(item.get("tost_p")), item.get("tost_p"), margin),
        counted(item.get("mde"), digits),
        Entry(NONE if needed is None else str(needed), needed),
    ]


def _base(item: Mapping[str, Any]) -> str:
    """Return metric, counts and reach of a comparison, on which its numbers stand."""
    metric = str(item.get("metric", ""))
    counts = [how_many(item[key], noun) for key, noun in _COUNTS.items() if item.get(key)]
    counts = counts if metric in METRICS else counts[:1]  # steps are counted of seeds, not of volumes
    generalizes = f"speaks about {item['generalizes']}" if item.get("generalizes") else ""
    return "; ".join(text for text in (label_of(metric), ", ".join(counts), generalizes) if text)


_COUNTS = {"n_seeds": "seed", "n_volumes": "volume", "n_patients": "patient"}


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


def verdict(word: str) -> Entry:
    """Return a verdict as an entry with its colour."""
    return Entry(word, kind=f"verdict {word.lower().replace(' ', '-')}")
