"""The report's tables for wandb: one run beside those of the study, in the same group."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrirecon.tables.metrics import in_files

_LEADERBOARD = ("cell", "n_seeds", "n_diverged", "edge")
_COMPARISON = ("name", "metric", "effect", "low_family", "high_family", "p_family", "verdict", "words")
_CLAIM = ("claim", "text", "verdict", "effect", "low", "high", "margin", "unit", "words")


def log_study(name: str, folder: Path, study: Mapping[str, Any]) -> None:
    """Log leaderboard, comparisons and claims; offline where wandb's server cannot be used (see `start_wandb`).

    Args:
        name: Group of the study's runs.
        folder: The study's; wandb's files go there.
        study: The analysed study.
    """
    from mrirecon.training.loop.loggers import start_wandb, wandb_in

    with wandb_in(folder):
        import wandb

        run = start_wandb(folder, project="mrirecon", group=name, job_type="report", name=f"{name} report")
        for title, (columns, rows) in tables(study).items():
            run.log({title: wandb.Table(columns=columns, data=rows)})


def tables(study: Mapping[str, Any]) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
    """Columns and rows by title."""
    metrics = in_files({name for cell in study["cells"] for name in cell["final"] or ()})
    leaders = [
        [*(cell[key] for key in _LEADERBOARD), *((cell["final"] or {}).get(m, {}).get("mean") for m in metrics)]
        for cell in study["cells"]
    ]
    comparisons = [
        [family["name"], *(entry.get(key) for key in _COMPARISON)]
        for family in study["families"]
        for entry in family["comparisons"]
    ]
    claims = [[claim.get(key) for key in _CLAIM] for claim in study["claims"]]
    return {
        "leaderboard": ([*_LEADERBOARD, *metrics], leaders),
        "comparisons": (["family", *_COMPARISON], comparisons),
        "claims": (list(_CLAIM), claims),
    }
