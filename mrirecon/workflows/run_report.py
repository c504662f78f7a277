"""The page of a run, written into its folder."""

from pathlib import Path

from mrirecon.errors import InputError
from mrirecon.report.pages.run_page import write_run_page
from mrirecon.runs import open_run


def run_report(run: str | Path, output: str | Path = "") -> Path:
    """Write one offline HTML page of a run; one that is there is replaced, since it only repeats the run's files.

    Args:
        run: The run folder.
        output: The page; empty: report.html in the run folder.

    Returns:
        The page.

    Raises:
        InputError: No run folder.
        OSError: The page cannot be written there.
    """
    folder = open_run(run)
    path = Path(output) if output else folder.report
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file such as {path / folder.report.name} (--output)")
    write_run_page(folder, path)
    return path
