"""Several reconstructions of one sample, their mean and how far they lie apart, held against their errors.

By dropout at inference (Gal and Ghahramani, ICML 2016), or by networks that were trained alike from several seeds
(Lakshminarayanan et al., NeurIPS 2017). The spread of networks is not that of the error: what all of them get wrong
in the same way it does not show, so it has to be held against errors.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mrirecon import ranks
from mrirecon.data.samples import Sample
from mrirecon.data.transforms import scored_target
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.evaluation import FASTMRI_V1, Protocol
from mrirecon.evaluation.metrics import Target
from mrirecon.evaluation.spread_calibration import N_SD, calibration
from mrirecon.reconstruct.base import Reconstructor

Members = Callable[[Sample], Iterable[Tensor]]  # several reconstructions (batch, h, w) of a batch


class Spread:
    """The mean of several reconstructions as a reconstruction; `sd` is their spread.

    Args:
        members: Gives them, two or more.
        n: How many.
    """

    def __init__(self, members: Members, n: int) -> None:
        self.members, self.n = members, n
        self.sd = torch.empty(0)  # (batch, h, w) of the batch of the last call, unbiased, in the units of the target

    def __call__(self, sample: Sample) -> Tensor:
        """Return the means `(batch, height, width)`."""
        mean = squares = torch.zeros(())
        n = 0
        for n, image in enumerate(self.members(sample), 1):  # Welford 1962: one pass, no cancellation
            values = image.double()
            step = values - mean.to(values)
            mean = mean.to(values) + step / n
            squares = squares.to(values) + step * (values - mean)
        self.sd = (squares / (n - 1)).sqrt().float()
        return mean.float()


def spread_of(reconstructor: Reconstructor) -> Spread | None:
    """Return where the SD of its images is, or None for one image alone."""
    return reconstructor.reconstruct if isinstance(reconstructor.reconstruct, Spread) else None


def of_dropout(reconstructor: Reconstructor, n: int, seed: int, batch_size: int) -> Reconstructor:
    """Make a reconstructor of the mean over `n` passes with dropout, whose `reconstruct` is a `Spread`.

    This is Monte Carlo dropout (Gal and Ghahramani 2016). All other layers work as without. What is dropped follows
    from `seed`, the file's bare name, the slice with which the batch begins and the number of the pass alone, on one
    kind of device.

    Args:
        reconstructor: A network that was trained with dropout.
        n: Passes, two or more.
        seed: Seed.
        batch_size: Slices per pass, on which the draws depend.

    Raises:
        InputError: It has no dropout.
    """
    network = reconstructor.reconstruct
    modules = network.modules() if isinstance(network, nn.Module) else ()
    layers = [module for module in modules if isinstance(module, _DropoutNd) and module.p > 0]
    if not isinstance(network, nn.Module) or not layers:
        what = "has no dropout (model.dropout is 0)" if reconstructor.checkpoint else "is a method, no network"
        raise InputError(
            f"--samples {n} draws by dropout, but {reconstructor.name} {what}; give a network that was trained with "
            "--dropout, or runs of several seeds (--ensemble)"
        )
    options = {**reconstructor.options, "samples": n, "samples_seed": seed, "samples_batch_size": batch_size}
    members = partial(_passes, network, layers, n=n, seed=seed)
    return replace(reconstructor, reconstruct=Spread(members, n), options=options)


def of_networks(reconstructors: Sequence[Reconstructor]) -> Reconstructor:
    """Make a reconstructor of the mean over several, which need the same; by the name of the first one.

    Of networks that differ in their seeds, it is a deep ensemble (Lakshminarayanan et al. 2017).
    """
    first = reconstructors[0]
    options = {**first.options, "ensemble": [one.weights_sha256 for one in reconstructors]}
    members = partial(_of_each, [one.reconstruct for one in reconstructors])
    return replace(first, reconstruct=Spread(members, len(reconstructors)), options=options)


def _of_each(networks: Sequence[Callable[[Sample], Tensor]], sample: Sample) -> Iterator[Tensor]:
    return (network(sample) for network in networks)


def _passes(network: nn.Module, layers: Sequence[nn.Module], sample: Sample, *, n: int, seed: int) -> Iterator[Tensor]:
    name, first = PurePosixPath(sample.volume[0]).name, int(torch.as_tensor(sample.slice_idx)[0])
    for k in range(n):
        digest = sha256(f"{seed} {name} {first} {k}".encode()).digest()
        with _dropping(layers), torch.random.fork_rng([sample.image.device] if sample.image.is_cuda else []):
            torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            image: Tensor = network(sample)
        yield image


@contextmanager
def _dropping(layers: Sequence[nn.Module]) -> Iterator[None]:
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


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
