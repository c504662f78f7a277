"""The terminal table of scores inside boxes."""

from collections.abc import Mapping
from typing import Any

from mrirecon.evaluation.regions import METRICS_INSIDE
from mrirecon.evaluation.summary import LEVEL
from mrirecon.report.numbers import how_many
from mrirecon.report.text.evaluation_table import lines_by_group


def region_table(labels: Mapping[str, Mapping[str, Any]], reconstructor: str) -> str:
    """Return means over the boxes of each label, as text.

    Args:
        labels: From `means_by_label`.
        reconstructor: Its name.
    """
    if not labels:
        return "regions: no box lies in a scored slice"
    groups, notes = {}, []
    for label, values in labels.items():
        n_boxes, n_without = values["n_boxes"], values["n_boxes"] - values["n_ssim"]
        counted = f"{n_boxes:,} box{'es' * (n_boxes != 1)}, {how_many(values['n_patients'], 'patient')}"
        groups[f"{label or '(no label)'}: {counted}"] = values
        if n_without:
            notes.append(f"no SSIM of {n_without} of these boxes ({label}): they lie within 3 pixels of the edge")
    lines = lines_by_group(groups, METRICS_INSIDE, reconstructor != "zero-filled", reconstructor)
    percent = f"{100 * LEVEL:g} %"
    interval = f"SD over boxes; in brackets the {percent} interval of the mean over patients (needs at least 5)"
    return "\n".join(["inside the regions", *lines, *notes, interval])
