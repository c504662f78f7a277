"""Hold the spread of several reconstructions against their errors while they are scored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import scored_target
from mrirecon.data.volume import Volume
from mrirecon.evaluation import FASTMRI_V1, Protocol
from mrirecon.evaluation.calibration import N_SD, calibration
from mrirecon.evaluation.metrics import Target
from mrirecon.reconstruct.spread import Spread


class CalibrationCounts:
    """Counts the pixels of objects whose error is within two deviations; a watcher of `score_dataset`.

    Args:
        spread: What reconstructs.
        volumes: All that are scored; their mask draws count together.
        protocol: How scores are taken.
    """

    def __init__(self, spread: Spread, volumes: Sequence[Volume], protocol: Protocol = FASTMRI_V1) -> None:
        self.spread, self.protocol = spread, protocol
        self._patients = {volume.name: volume.patient for volume in volumes}
        self._within = dict.fromkeys(self._patients, 0)
        self._n = dict.fromkeys(self._patients, 0)

    def __call__(self, sample: Sample, images: Tensor) -> None:
        """Count in the mean images `(batch, h, w)` of the reconstructor's last call."""
        targets = scored_target(sample, self.protocol.clamps_target)
        masks = sample.object_mask if len(sample.object_mask[0]) else [None] * len(images)
        ranges = torch.as_tensor(sample.data_range).tolist()
        is_within = ((images - targets).abs() <= N_SD * self.spread.sd.to(images)).cpu().numpy()
        for k, name in enumerate(sample.volume):
            mask = masks[k]
            stored = mask.cpu().numpy() if isinstance(mask, Tensor) else None
            inside = Target(targets[k].cpu().numpy().astype(np.float64), ranges[k], stored).object_mask
            self._within[name] += int(np.count_nonzero(is_within[k] & inside))
            self._n[name] += int(np.count_nonzero(inside))

    def results(self, seed: int) -> dict[str, Any]:
        """Describe what all processes counted; every process must call it."""
        within, n = (ranks.sum_of([float(c) for c in counts.values()]) for counts in (self._within, self._n))
        pairs = [(int(a), int(b)) for a, b in zip(within, n, strict=True)]
        return calibration(pairs, list(self._patients.values()), self.spread.n, seed)
