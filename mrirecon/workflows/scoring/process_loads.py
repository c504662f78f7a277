"""What each process of an evaluation had to do."""

import resource
import sys
import time

import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.data.samples import Sample


class Load:
    """Counts the slices of this process and times it, from its making on; a watcher of `score_dataset`."""

    def __init__(self) -> None:
        self.n_slices, self._began = 0, time.perf_counter()
        self.seconds = 0.0

    def __call__(self, _sample: Sample, images: Tensor) -> None:
        """A batch was reconstructed and scored."""
        self.n_slices += len(images)
        self.seconds = time.perf_counter() - self._began

    def of_all(self) -> list[dict[str, float]]:
        """Slices, seconds until the last of them, and largest resident memory in MiB, of each process."""
        own = torch.tensor([[self.n_slices, self.seconds, peak_mib()]], dtype=torch.float64)
        rows = ranks.gather_rows(own).tolist()
        return [{"slices": int(n), "seconds": seconds, "peak_mib": peak} for n, seconds, peak in rows]


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
