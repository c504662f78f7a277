"""Scores per volume, the protocol behind them and how sure they are.

Names are loaded when they are first used, so that importing this package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers and editors (tested)
    from mrirecon.evaluation.metrics import SliceScore, VolumeScore, combine_slices, nmse, psnr, score_slice, ssim
    from mrirecon.evaluation.protocol import ALGOPERF_V1, FASTMRI_V1, Protocol, find_protocol
    from mrirecon.evaluation.slice_rows import mean_score
    from mrirecon.evaluation.stats import Comparison, Interval, bootstrap_ci, paired_comparison
    from mrirecon.evaluation.volume_metrics import VolumeMetrics

_HOMES = {
    "ALGOPERF_V1": "protocol",
    "Comparison": "stats",
    "FASTMRI_V1": "protocol",
    "Interval": "stats",
    "Protocol": "protocol",
    "SliceScore": "metrics",
    "VolumeMetrics": "volume_metrics",
    "VolumeScore": "metrics",
    "bootstrap_ci": "stats",
    "combine_slices": "metrics",
    "find_protocol": "protocol",
    "mean_score": "slice_rows",
    "nmse": "metrics",
    "paired_comparison": "stats",
    "psnr": "metrics",
    "score_slice": "metrics",
    "ssim": "metrics",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
