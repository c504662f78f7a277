"""Score several methods, runs and files of weights on the same masks: one table, paired differences, one picture."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrirecon import ranks
from mrirecon.cluster.join import joined
from mrirecon.config import CompareConfig, EvaluateConfig
from mrirecon.data.folders.stage import staging
from mrirecon.errors import InputError
from mrirecon.files import write_json
from mrirecon.progress import warn
from mrirecon.report.text.comparison import comparison_text
from mrirecon.report.text.several_table import several_rows, several_table
from mrirecon.runs import RunFolder
from mrirecon.tables.metrics import chosen_metrics
from mrirecon.workflows.compare.compare_tables import compared
from mrirecon.workflows.evaluate import evaluate_pass, further_tables
from mrirecon.workflows.outputs.new_folder import require_free, shared_folder
from mrirecon.workflows.scoring.watchers import FiguresOfSeveral
from mrirecon.workflows.setup.evaluations import Evaluation, below, prepare, read_call

TABLE, _COMPARISON = "table.csv", "comparison.json"
_TOGETHER = "together"  # its folder below --output
_LONGEST_NAME = 120  # of a folder, of at most 255 bytes


def evaluate_several(config: EvaluateConfig, words: Sequence[str]) -> list[Path]:
    """Score each of the things that `words` name as `evaluate` does, then print them beside each other.

    Each has the folders that it has alone; below `config.output` each has one of its name. For each acceleration a
    further folder holds `table.csv` (a row each), `comparison.json` (the paired differences from the first, as
    `mrirecon compare` writes them) and `figures/` with the images and errors of all.

    Args:
        config: As for `evaluate`; options of methods go to those that have them.
        words: Two or more names of `METHODS`, run folders or files of weights; the first is the reference.

    Returns:
        Those further folders, in the order of the accelerations.

    Raises:
        InputError: The call or the data is wrong, or results are there already; nothing was computed.
        DataChangedError: A file changed after it was checked; tables that are complete are kept.
    """
    call = read_call(config, words)
    with joined(config), staging(config.data.stage):
        found = prepare(call)
        names = _names(found)
        places = _places(call.output, found, names)
        with ranks.agreeing():
            for place in places:
                require_free(place, TABLE, call.overwrite)
        for i, place in enumerate(places):
            _evaluate_pass(found, names, i, place)
        return places


def _evaluate_pass(found: Sequence[Evaluation], names: Sequence[str], i: int, place: Path) -> None:
    folders, first, scoring = [one.passes[i].folder for one in found], found[0].passes[i], found[0].scoring
    with shared_folder(place) as folder:
        figures = FiguresOfSeveral(
            folder / "figures", first.pictured, "", first.mask, scoring.protocol, scoring.metrics
        )
        summaries = []
        for one, name, own in zip(found, names, folders, strict=True):
            _, summary = evaluate_pass(one, one.passes[i], [figures.of(name)])
            summaries.append(summary)
            if ranks.is_first():
                print(*further_tables(summary), f"tables: {own}", sep="\n\n", flush=True)
        figures.draw()
        if ranks.is_first():
            named = list(zip(names, summaries, strict=True))
            _write_table(folder / TABLE, several_rows(named))
            text = _compared(found[0], names, folders, folder, several_table(named))
    if ranks.is_first():
        print(f"\n{text}\n\ntogether: {place}\n", flush=True)


def _compared(one: Evaluation, names: Sequence[str], folders: Sequence[Path], folder: Path, table: str) -> str:
    """The table with the paired differences, which are written to `folder`; or with the reason why there are none."""
    metrics = chosen_metrics(one.scoring.metrics)
    metric = "ssim" if "ssim" in metrics else metrics[0]
    asked = CompareConfig(metric=metric, seed=one.seed)
    try:
        result = compared(asked, [str(path) for path in folders], names)
    except InputError as error:  # trainings that differ in their seed alone, for example
        warn(f"note: not compared: {error}")
        return table
    write_json(folder / _COMPARISON, result)
    return comparison_text(result, table)


def _names(found: Sequence[Evaluation]) -> list[str]:
    """What the things are called in tables and pictures; of equal names none tells which: what was typed does."""
    names = [one.reconstructor.name for one in found]
    return [one.word if names.count(name) > 1 else name for one, name in zip(found, names, strict=True)]


def _places(output: str, found: Sequence[Evaluation], names: Sequence[str]) -> list[Path]:
    """The folders of what all share: below --output, else below runs/, named by all of them."""
    passes = found[0].passes
    if output:
        taken = {one.output for one in found}
        place = Path(output) / _TOGETHER
        while str(place) in taken:
            place = place.with_name(f"{place.name}_")
        return [below(str(place), one, len(passes)) for one in passes]
    name = re.sub(r"[^\w.+-]+", "_", "+".join(names))[:_LONGEST_NAME]
    return [Path("runs") / name / one.place(RunFolder(Path())).name for one in passes]


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
