"""The page of a run, an evaluation or a comparison, written into its folder."""

from pathlib import Path

from mrirecon.errors import InputError
from mrirecon.report.pages.comparison_page import write_comparison_page
from mrirecon.report.pages.run_page import evaluations, write_run_page
from mrirecon.report.run_files import COMPARISON, TABLE
from mrirecon.runs import RunFolder, open_run


def run_report(folder: str | Path, output: str | Path = "") -> Path:
    """Write one offline HTML page of a folder; one that is there is replaced, since it only repeats the folder's files.

    Args:
        folder: Of a run, of a method's evaluations or of one of them, or of a comparison.
        output: The page; empty: report.html in the folder.

    Returns:
        The page.

    Raises:
        InputError: None of these.
        OSError: The page cannot be written there.
    """
    run = RunFolder(Path(folder))
    is_comparison = any((run.path / name).is_file() for name in (COMPARISON, TABLE))
    if not is_comparison and not evaluations(run):
        open_run(folder)
    path = Path(output) if output else run.report
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file such as {path / run.report.name} (--output)")
    if is_comparison:
        write_comparison_page(run.path, path)
    else:
        write_run_page(run, path)
    return path
