"""Images from k-space, with a method or a trained run; no reference is needed."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.cluster.join import joined
from mrirecon.cluster.requeue import coming_back
from mrirecon.config import ReconstructConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.dataset import SliceDataset
from mrirecon.data.folders.check import check_layout, check_volumes
from mrirecon.data.folders.manifest import require_same_contents, require_same_files
from mrirecon.data.hdf5.opening import close
from mrirecon.data.loading.loaders import cut_units, load_units, share_whole
from mrirecon.data.mask_choice import stored_mask
from mrirecon.data.samples import Sample, to_device
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError, Stopped, unknown_name
from mrirecon.models.device import autocast, choose_device, inference
from mrirecon.progress import progress, say
from mrirecon.reconstruct.base import Reconstructor
from mrirecon.reconstruct.find import check_method, find_reconstructor
from mrirecon.reconstruct.options import read_method
from mrirecon.reconstruct.spread import spread_of
from mrirecon.termination import StopRequest, listening
from mrirecon.workflows.outputs.reconstructions import (
    FORMATS,
    Facts,
    OutputFiles,
    facts_of,
    require_writable,
    sampling_facts,
)
from mrirecon.workflows.scoring.loop import VolumeByVolume, Watcher, WholeVolumes
from mrirecon.workflows.setup.several_reconstructions import read_spread
from mrirecon.workflows.setup.source_files import list_sources, other_sampling


@dataclass(frozen=True)
class Reconstructed:
    """The result of a call: folder and counts of volumes and slices."""

    folder: Path
    n_volumes: int
    n_slices: int
    n_left: int  # volumes that were there already
    seconds: float


def reconstruct(
    config: ReconstructConfig, method_or_run: str, files: Sequence[str | os.PathLike[str]]
) -> Reconstructed:
    """Reconstruct every slice of `files`; each file of the output folder appears when its volume is done.

    K-space is used as it stands, but for a file's own mask. Files of an earlier call that say they were made from the
    same by the same are left, so an interrupted call goes on when it is repeated. Several processes share the volumes;
    each calls this.

    Args:
        config: Where to write, what, and how the network is used.
        method_or_run: A name of `METHODS`, a run folder, or a file of weights.
        files: `.h5` files, or folders of them, flat or split.

    Raises:
        InputError: The call or a file is wrong, or something is in the way; nothing was written. Or images are not
            finite; finished volumes are kept.
        WorkFailedError: Something could not be written; finished volumes are kept.
        DataChangedError: A file changed after it was checked; finished volumes are kept.
        Stopped: A signal came; finished volumes are kept.
    """
    _check_keys(config, method_or_run)
    with joined(config), coming_back(Path(config.output) / "slurm"):
        return _reconstruct(config, method_or_run, files)


def _reconstruct(
    config: ReconstructConfig, method_or_run: str, files: Sequence[str | os.PathLike[str]]
) -> Reconstructed:
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    autocast(device, config.precision)  # knows the precisions
    folder = Path(config.output)
    with ranks.agreeing():
        require_writable(folder)
        volumes = list_sources(files)
        require_same_files({volume.name: volume.path for volume in volumes}, "the files given")
        check_layout(volumes)

        def find(word: str) -> Reconstructor:
            return find_reconstructor(word, config, device)

        reconstructor = read_spread(config).of(find(method_or_run), method_or_run, find)
        _check_sizes(volumes, reconstructor)
        outputs = OutputFiles(
            folder, config.format, lambda volume: facts_of(volume, reconstructor, config.batch_size), _sampling
        )
        names = ranks.from_first(lambda: [volume.name for volume in outputs.missing(volumes, config.overwrite)])
        missing = [volume for volume in volumes if volume.name in names]
        notes = check_volumes(missing, config.check)
        require_same_contents(missing, "the files given")
    for note in notes:
        say(f"note: {note}")
    if note := other_sampling(volumes, reconstructor):
        say(f"note: {note}")
    start = time.perf_counter()
    with listening() as stop:
        # whole volumes, whose files nobody else writes
        owners = share_whole([math.prod(volume.shape) for volume in missing], ranks.world_size())
        own = [volume for volume, owner in zip(missing, owners, strict=True) if owner == ranks.rank()]
        n_done = _work(config, own, reconstructor, outputs, stop)
        _end_together(stop, n_done, len(missing))
    n_slices = sum(volume.n_slices for volume in missing)
    seconds = time.perf_counter() - start
    return Reconstructed(folder, len(missing), n_slices, len(volumes) - len(missing), seconds)


def _end_together(stop: StopRequest, n_own: int, n_all: int) -> None:
    """All processes wait for each other; where one was stopped, all say so."""
    stop.agree()
    n_done = int(ranks.sum_of([n_own])[0])
    if stop.agreed and n_done < n_all:
        raise Stopped(
            f"stopped by {stop.agreed.name} after {n_done} of {n_all} volumes, which are kept; "
            "go on with the same command",
            went_on=n_done > 0,
        )


def check_call(config: ReconstructConfig, method_or_run: str, files: Sequence[str | os.PathLike[str]]) -> None:
    """Raise an InputError where a call cannot work, as far as that is known without reading a file."""
    _check_keys(config, method_or_run)
    list_sources(files)


def _check_keys(config: ReconstructConfig, method_or_run: str) -> None:
    if not config.output:
        raise InputError("no output folder given; name one that gets the reconstructions (-o OUT)")
    if not config.format:
        raise InputError(f"--format is empty; give {' or '.join(FORMATS)}, or both")
    for name in config.format:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    require_ranges(config)
    if method := read_method(method_or_run, config.method):
        check_method(method, may_be_open=False)
    read_spread(config)


def _check_sizes(volumes: Sequence[Volume], reconstructor: Reconstructor) -> None:
    for volume in volumes:
        try:
            reconstructor.check_image_size(volume.image_shape)
        except InputError as error:
            raise InputError(f"{volume.name}: {error}") from None


def _sampling(volume: Volume) -> Facts:
    """Return the facts about undersampling, by the file's mask or by the gaps in its samples."""
    sampling = volume.sampling
    kind = ", not the same in all slices" if sampling.uneven_slice >= 0 else ", of rows and columns" * sampling.is_2d
    mask = "none" if volume.own_mask is None else f"own{kind}"
    return sampling_facts(mask, stored_mask(volume))


def _work(
    config: ReconstructConfig,
    volumes: Sequence[Volume],
    reconstructor: Reconstructor,
    outputs: OutputFiles,
    stop: StopRequest,
) -> int:
    """One plain loop over units of one volume, in order; the images of one volume are in memory.

    Returns:
        Volumes done: all, or fewer where it was asked to stop.
    """
    n_done = 0
    if not volumes:
        return n_done
    dataset = SliceDataset(volumes, mask=None, needs=reconstructor.needs, targets=False)
    spread = spread_of(reconstructor)
    sds: dict[str, np.ndarray] = {}  # (slices, height, width) of the volume in hand, where there are several

    def finish(volume: Volume, images: np.ndarray) -> None:
        """Write the images (slices, height, width) of a volume whose file is still the same, and count it."""
        nonlocal n_done
        volume.require_unchanged()
        close(volume.path)
        outputs.write(volume, images, sds.pop(volume.name, None))
        n_done += 1

    def keep_sd(volume: Volume, values: np.ndarray) -> None:
        """Keep the deviations (slices, height, width) of a volume until its images are written."""
        sds[volume.name] = values

    whole = WholeVolumes(dataset.volumes, dataset.items, finish)
    whole_sd = WholeVolumes(dataset.volumes, dataset.items, keep_sd)

    def collect(sample: Sample, images: Tensor) -> None:
        """Take a batch of images (batch, height, width), after their deviations."""
        if spread:
            whole_sd(sample, spread.sd)
        whole(sample, images)

    slices = _slices(dataset, reconstructor, collect, config)
    with inference(reconstructor.device):
        for _ in progress(slices, reconstructor.name, len(dataset), "slices"):
            if stop.signal:
                break
    return n_done


def _slices(
    dataset: SliceDataset,
    reconstructor: Reconstructor,
    collect: Watcher,
    config: ReconstructConfig,
) -> Iterator[None]:
    """Reconstruct batch by batch; yields once for each slice."""
    units = cut_units(dataset.items, config.batch_size)
    with closing(load_units(VolumeByVolume(dataset), units, config.workers)) as batches:
        for batch in batches:
            sample = to_device(batch, reconstructor.device)
            images = reconstructor(sample)
            collect(sample, images)
            yield from (None for _ in images)
