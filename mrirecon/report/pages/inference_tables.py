"""Tables of what follows from a study: the comparisons of each family, and the claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from mrirecon.report.pages.family_names import comparison_names, verdict_of
from mrirecon.report.pages.html_table import Column, Entry, Table, counted
from mrirecon.report.pages.numbers import NONE, interval, number, p_value
from mrirecon.tables.metrics import digits_of, label_of

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
    """The comparisons of one family; what all of them stand on is said once, as the caption."""
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
    return [
        Entry(title, note=base, kind="name"),
        verdict(verdict_of(item)),
        Entry(number(item.get("effect"), f"+{digits}"), item.get("effect"), interval(own, f"+{digits}")),
        Entry(interval(adjusted, f"+{digits}") or NONE, adjusted["low"]),
        Entry(p_value(item.get("p")), item.get("p")),
        Entry(p_value(item.get("p_family")), item.get("p_family")),
        counted(item.get("superiority"), ".2f"),
        Entry(p_value(item.get("tost_p")), item.get("tost_p"), _margin(item, digits)),
        counted(item.get("mde"), digits),
        Entry(NONE if needed is None else str(needed), needed),
    ]


def _base(item: Mapping[str, Any]) -> str:
    """What the numbers stand on."""
    counts = [f"{item[key]} {word}" for key, word in _COUNTS.items() if item.get(key)]
    generalizes = f"speaks about {item['generalizes']}" if item.get("generalizes") else ""
    metric = str(item.get("metric", ""))
    return "; ".join(text for text in (label_of(metric), ", ".join(counts), generalizes) if text)


_COUNTS = {"n_seeds": "seeds", "n_volumes": "volumes", "n_patients": "patients"}


def _margin(item: Mapping[str, Any], digits: str) -> str:
    return "" if item.get("margin") is None else f"margin {item['margin']:{digits}}"


def claims_table(claims: Sequence[Mapping[str, Any]], tested: bool) -> Table:
    """The claims ledger: those the study has cells for, or only what the others would need."""
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
        Entry(NONE if margin is None else f"{number(margin, '.2g')}{unit}", margin),
        Entry(claim.get("measure") or NONE),
        Entry(", ".join(claim.get("cells") or ()) or NONE, kind="middle"),
        _command(claim),
    ]


def _text(claim: Mapping[str, Any]) -> Entry:
    return Entry(f"{claim['claim']}: {claim['text']}", note=claim.get("words") or "", kind="wide")


def _command(claim: Mapping[str, Any]) -> Entry:
    return Entry(claim.get("command") or NONE, kind="code")


def verdict(word: str) -> Entry:
    """A verdict with its colour."""
    return Entry(word, kind=f"verdict {word.lower().replace(' ', '-')}")
