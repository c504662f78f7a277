"""A comparison as text: tables of scores and differences, and a paragraph that can stand in a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrirecon.report.text.evaluation_table import align
from mrirecon.report.words import environment, how_many, p_value
from mrirecon.tables.metrics import digits_of, label_of, unit_of

_TEMPLATES = Path(__file__).parent / "templates"
_NONE = "-"
_MANY = 4  # differing keys that a sentence can name


def comparison_text(result: Mapping[str, Any], scores: str = "") -> str:
    """Return everything that `mrirecon compare` prints.

    Args:
        result: The content of comparison.json.
        scores: A table of the scores, with what it shows, in place of the usual one.
    """
    return _render("comparison.txt", result, scores=scores or _score_table(result), is_usual=not scores).removesuffix(
        "\n"
    )


def paragraph(result: Mapping[str, Any]) -> str:
    """Return one paragraph: what was compared on what, the findings, what they rest on and what they leave open.

    Args:
        result: The content of comparison.json without the paragraph.
    """
    trained = [item for item in result["items"] if item["settings"]]
    keys = list(trained[0]["settings"]) if trained else []
    apart = [f"{key} ({'; '.join(str(item['settings'][key]) for item in trained)})" for key in keys]
    if len(keys) > _MANY:
        apart = [f"{len(keys)} keys of their configurations"]
    budgets = {item["name"]: item["budget"] for item in result["items"] if item["budget"]}
    sentences = _render("paragraph.txt", result, apart=apart, budgets=budgets).split("\n")
    return " ".join(filter(None, sentences))


def _render(template: str, result: Mapping[str, Any], **further: Any) -> str:
    functions = (difference_table, how_many, label_of, listed, score, spoken_of, times, unit_of)
    made = environment(_TEMPLATES, escape=False, filters={function.__name__: function for function in functions})
    return made.get_template(template).render(
        **result,
        **further,
        has_seeds=any(len(item["seeds"]) > 1 for item in result["items"]),
    )


def _score_table(result: Mapping[str, Any]) -> str:
    metrics = list(result["better"])
    rows = [["", "seeds", *map(label_of, metrics), "runs or tables"]]
    for i, item in enumerate(result["items"]):
        name = item["name"] + " (reference)" * (i == 0)
        seeds = ", ".join(map(str, item["seeds"])) or _NONE
        rows.append([name, seeds, *(score(item[metric], metric) for metric in metrics), ", ".join(item["paths"])])
    if result["zero_filled"]:
        rows.append(["zero-filled", _NONE, *(score(result["zero_filled"][m], m) for m in metrics), ""])
    return align(_last_to_the_left(rows), left=1)


def spoken_of(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Say of which other draws the intervals of some comparisons hold: of seeds, of patients, or of both."""
    over = {c["over"] for c in comparisons}
    if len(over) > 1:
        return "what the sentence on each says"
    drawn = over.pop().split(" and ")
    return " and ".join(f"other {what}" for what in drawn) + " alone" * (len(drawn) == 1)


def difference_table(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Return the comparisons of one metric as a table."""
    level = f"{100 * (1 - comparisons[0]['alpha']):.3g} % interval"
    rows = [["", "difference", level, "p", "new run better", "p on these patients", "verdict"]]
    for c in comparisons:
        verdict = f"{c['verdict']}{', ' * bool(c['size'])}{c['size']}"
        rows.append(
            [
                c["name"],
                _digits(c["effect"], "+#.3g"),
                f"[{_digits(c['low'], '+#.3g')}, {_digits(c['high'], '+#.3g')}]",
                p_value(c["p"]),
                _NONE if c["superiority"] is None else f"{100 * c['superiority']:.0f} %",
                _NONE if c["p_these_patients"] is None else p_value(c["p_these_patients"]),
                verdict + " (undeclared mask)" * c["undeclared"],
            ]
        )
    return align(_last_to_the_left(rows), left=1)


def _last_to_the_left(rows: list[list[str]]) -> list[list[str]]:
    width = max(len(row[-1]) for row in rows)
    return [[*row[:-1], row[-1].ljust(width)] for row in rows]


def _digits(value: float, digits: str) -> str:
    """Return a number with all its significant digits, `+1.00` as well as `+0.662`; no point ends it."""
    return f"{value:{digits}}".removesuffix(".")


def times(values: float | Sequence[float | None] | None, digits: str = "g") -> str:
    """Return accelerations as `4x and 8x`; undeclared where a nominal one is not known, else a dash."""
    if isinstance(values, Sequence):
        return " and ".join("undeclared acceleration" if v is None else times(v) for v in values)
    return _NONE if values is None else f"{values:{digits}}x"


def score(values: Mapping[str, float | None], metric: str) -> str:
    """Return a mean score as `0.7084 ± 0.0860`, with the SD between seeds where there are some."""
    if values["mean"] is None:
        return _NONE
    sd = values.get("sd_seeds")
    return f"{values['mean']:{digits_of(metric)}}" + (f" ± {sd:{digits_of(metric)}}" if sd is not None else "")


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
