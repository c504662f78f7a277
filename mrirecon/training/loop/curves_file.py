"""curves.csv: loss, learning rate and validation scores over steps; rows of a repeated step are replaced."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mrirecon.errors import InputError
from mrirecon.files import naming, read_table, replacing
from mrirecon.tables.metrics import METRICS, chosen_metrics, in_files

_FIRST, _LAST = (
    ("step", "epoch", "lr", "train_loss", "val_loss"),
    ("grad_norm", "update_ratio", "slices_per_s", "seconds"),
)


def columns(metrics: Iterable[str] | None = None) -> list[str]:
    """The columns of a training that scores `metrics` (None: the default ones), later ones behind all others."""
    names = in_files(chosen_metrics(metrics))
    first = [f"val_{name}" for name in names if not METRICS[name].appended]
    return [*_FIRST, *first, *_LAST, *(f"val_{name}" for name in names if METRICS[name].appended)]


class Journal:
    """Appends rows to a CSV file; columns that a row lacks stay empty.

    Args:
        path: Of the file.
        metrics: What validations score; None: the default ones.
    """

    def __init__(self, path: Path, metrics: Iterable[str] | None = None) -> None:
        self.path, self.columns = path, columns(metrics)
        self._began = -1  # step

    def begin(self, step: int) -> None:
        """Start at `step`: rows after it belong to work that will be done again and go."""
        self._began = step
        self._write([row for row in self.rows() if int(row["step"]) <= step] if step else [])

    def add(self, **values: Any) -> None:
        """Append one row."""
        if values["step"] == self._began and "val_ssim" in values:
            # A stop left this validation; it may have been done before in a part of the run that was lost.
            self._write([row for row in self.rows() if int(row["step"]) < self._began or not row["val_ssim"]])
        shown = {key: _text(value) for key, value in values.items() if value is not None}
        with naming(self.path), self.path.open("a", newline="") as handle:
            csv.DictWriter(handle, self.columns).writerow(shown)

    def _write(self, rows: list[dict[str, str]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def rows(self) -> list[dict[str, str]]:
        """All rows; a row cut short by a crash is left out.

        Raises:
            InputError: The file is no table of a training.
        """
        try:
            rows = [row for row in read_table(self.path)[1] if row["step"] and row["seconds"]]
            for row in rows:
                int(row["step"])
        except FileNotFoundError:
            return []
        except (KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path} is not a table of a training ({error}); restore it, or delete it") from None
        return rows


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
