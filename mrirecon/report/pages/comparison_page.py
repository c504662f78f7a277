"""The page of a comparison: what `mrirecon evaluate` of several things, or `mrirecon compare --output`, has written."""

from pathlib import Path

from jinja2 import TemplateError

from mrirecon.errors import InputError
from mrirecon.files import write_text
from mrirecon.report.pages.html import Column, Entry, Table, pictures, render
from mrirecon.report.run_files import COMPARISON, TABLE, read_json, read_rows
from mrirecon.report.text.comparison import comparison_text
from mrirecon.tables.metrics import METRICS, heading_of


def write_comparison_page(folder: Path, path: Path) -> None:
    """Write the page: the table of all with seconds per slice, paired differences with intervals, pictures.

    Args:
        folder: With `comparison.json`, `table.csv`, or both.
        path: The HTML file.

    Raises:
        InputError: They are of something else.
    """
    result, rows = read_json(folder / COMPARISON), read_rows(folder / TABLE)
    try:
        text = comparison_text(result) if result else ""
    except (AttributeError, KeyError, TypeError, ValueError, TemplateError) as error:  # as a stranger wrote it
        raise InputError(
            f"{folder / COMPARISON} is not of `mrirecon evaluate` or `mrirecon compare` ({error}); compare again"
        ) from None
    columns = [Column(_title(name), name != "name") for name in (rows[0] if rows else ())]
    table = Table("together", columns, [[_entry(name, value) for name, value in row.items()] for row in rows])
    drawings = pictures(sorted(folder.glob("figures/*.png")))
    write_text(path, render("comparison.html", name=folder.name, table=table, text=text, pictures=drawings))


def _title(column: str) -> str:
    """The head of a column of `table.csv`; an SD stands beside its mean."""
    if column in METRICS:
        return heading_of(column)
    return {"seconds_per_slice": "s per slice", "seconds_per_slice_p90": "90 %"}.get(
        column, "SD" if column.endswith("_sd") else column
    )


def _entry(name: str, value: str) -> Entry:
    if name == "name":
        return Entry(value, kind="name")
    try:
        number = float(value or "nan")
    except ValueError:
        return Entry(value)
    return Entry(f"{number:.4g}" if value else "", number if value else None)
