"""A whole train/val/test set of simulated volumes in the fastMRI layout."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrirecon import configfile, progress
from mrirecon.config import SimulateConfig
from mrirecon.configfile import require_ranges
from mrirecon.data.hdf5.write import write_volume
from mrirecon.errors import InputError, unknown_name
from mrirecon.files import new_folder, require_free
from mrirecon.simulate.head.contrast import CONTRASTS
from mrirecon.simulate.head.measured_head import MagnitudeHead, cut_slabs
from mrirecon.simulate.head.nifti import MagnitudeSource, load_magnitude
from mrirecon.simulate.head.phantom import Phantom
from mrirecon.simulate.plane import ORIENTATIONS
from mrirecon.simulate.scanner.acquisition import ScanObject, SimulatedVolume, scan
from mrirecon.simulate.scanner.geometry import Geometry, Stack

MARKER = "simulation.yaml"  # the resolved configuration; only folders that have it are ever replaced
SPLITS = ("train", "val", "test")
_PREFIX = {"axial": "AX", "coronal": "COR", "sagittal": "SAG"}
_TILT_RAD = np.deg2rad(9)
_LEAST_VOXELS_PER_PIXEL = 1.5
_PHANTOM_SPACING_MM = (3.5, 9.0)


@dataclass(frozen=True)
class _Job:
    split: str
    index: int
    config: SimulateConfig
    slabs: dict[str, MagnitudeSource] | None

    def rng(self) -> np.random.Generator:
        """Each volume has its own generator, so that it does not depend on how many others there are."""
        return np.random.default_rng(np.random.SeedSequence((self.config.seed, SPLITS.index(self.split), self.index)))


def simulate_dataset(config: SimulateConfig) -> Path:
    """Write `config.output` with train/ val/ test/; it appears whole or not at all.

    Returns:
        The folder.

    Raises:
        InputError: A setting is not possible, the source cannot be read, or the folder has content.
    """
    _check(config)
    output = Path(config.output)
    require_free(output, MARKER, config.overwrite)
    slabs = None if config.source == "phantom" else _slabs(config)
    jobs = [_Job(split, i, config, slabs) for split in SPLITS for i in range(getattr(config, split))]
    with new_folder(output) as folder, ThreadPoolExecutor(_n_threads()) as pool:
        configfile.save(replace(config, output="", overwrite=False), folder / MARKER)
        done = pool.map(lambda job: _write(job, folder), jobs)
        try:
            for _ in progress.progress(done, "simulating", total=len(jobs), unit="volumes"):
                pass
        except BaseException:  # Ctrl-C too: do not finish what nobody waits for
            pool.shutdown(cancel_futures=True)
            raise
    return output


def simulate_volume(config: SimulateConfig, split: str, index: int) -> SimulatedVolume:
    """The phantom volume number `index` of a split, as `simulate_dataset` writes it."""
    _check(config)
    return _simulate(_Job(split, index, config, None))[0]


def _slabs(config: SimulateConfig) -> dict[str, MagnitudeSource]:
    source = load_magnitude(config.source, config.frame)
    for note in source.notes:
        _note(note)
    pixel = float((source.object_mm / max(config.matrix)).max())
    if pixel < _LEAST_VOXELS_PER_PIXEL * source.voxel_mm.max():
        _note(
            f"the voxels of {config.source} ({source.voxel_mm.max():.2g} mm) are coarse for pixels of {pixel:.2g} mm: "
            "the images will be smoother than a scanner's; a smaller --matrix avoids it"
        )
    return cut_slabs(source, config.axis, {split: getattr(config, split) for split in SPLITS}, config.slices)


def _note(line: str) -> None:
    if not progress.quiet:
        print(line, file=sys.stderr, flush=True)


def _write(job: _Job, folder: Path) -> None:
    volume, thing = _simulate(job)
    name = f"{job.split}_{job.index:04d}"
    single = job.config.coils == 1
    datasets = {"reconstruction_rss": volume.reconstruction_rss, "ground_truth": volume.ground_truth}
    datasets["object_mask"] = volume.object_mask.astype(np.uint8)
    if single:
        datasets["reconstruction_esc"] = volume.reconstruction_rss
    from_magnitude = isinstance(thing, MagnitudeHead)
    subject = thing.patient_id if isinstance(thing, MagnitudeHead) else f"phantom-{job.config.seed}-{name}"
    write_volume(
        folder / job.split / f"{name}.h5",
        kspace=volume.kspace[:, 0] if single else volume.kspace,
        header=volume.header,
        acquisition=f"{_PREFIX[job.config.axis]}SIM_{thing.contrast_name}",
        patient_id=subject,
        origin="simulated-from-magnitude" if from_magnitude else "simulated-from-phantom",
        datasets=datasets,
        attrs={"noise_sd": volume.noise_sd, "pixel_mm": volume.pixel_mm, "seed": job.config.seed},
    )


def _simulate(job: _Job) -> tuple[SimulatedVolume, ScanObject]:
    rng, config = job.rng(), job.config
    thing, stack = _phantom(rng, config) if job.slabs is None else _magnitude(rng, config, job.slabs[job.split])
    return scan(thing, stack, config, rng), thing


def _phantom(rng: np.random.Generator, config: SimulateConfig) -> tuple[ScanObject, Stack]:
    phantom = Phantom.random(rng, config.texture, config.contrast)
    geometry = _geometry(config, _TILT_RAD)
    return phantom, geometry.random_stack(rng, phantom.box, phantom.slice_range_mm(config.axis), _PHANTOM_SPACING_MM)


def _magnitude(rng: np.random.Generator, config: SimulateConfig, slab: MagnitudeSource) -> tuple[ScanObject, Stack]:
    head = MagnitudeHead.random(rng, slab, config.texture)
    geometry = _geometry(config, 0.0)  # a tilted slice would leave its slab
    return head, geometry.random_stack(rng, head.box, slab.slice_range_mm, slab.spacing_mm(config.slices))


def _geometry(config: SimulateConfig, tilt_rad: float) -> Geometry:
    height, width = config.matrix
    return Geometry(config.axis, (height, width), config.oversampling, config.slices, tilt_rad)


def _check(config: SimulateConfig) -> None:
    """Refuse what cannot be simulated before anything is written."""
    require_ranges(config)
    if config.axis not in ORIENTATIONS:
        raise unknown_name("axis", config.axis, ORIENTATIONS)
    if config.contrast and config.contrast not in CONTRASTS:
        raise unknown_name("contrast", config.contrast, CONTRASTS)
    counts, snrs = [getattr(config, split) for split in SPLITS], config.snr_range
    limits = (
        (len(config.matrix) == 2 and all(8 <= n <= 1024 for n in config.matrix), "matrix", "two sizes from 8 to 1024"),
        (1 <= config.coils <= 32, "coils", "1 to 32"),
        (1 <= config.oversampling <= 4, "oversampling", "1 to 4"),
        (np.isfinite(config.snr) and config.snr >= 0, "snr", "0 (no noise) or more"),
        (
            not snrs or (len(snrs) == 2 and 0 < snrs[0] <= snrs[1] < np.inf),
            "snr_range",
            "two positive numbers, lowest first",
        ),
        (0 <= config.noise_correlation <= 0.9, "noise_correlation", "0 to 0.9"),
        (1 <= config.slices <= 256, "slices", "1 to 256"),
        (sum(counts) > 0, "train", "0 or more volumes, at least one with val and test"),
        (config.frame is None or config.source != "phantom", "frame", "left out of phantoms (it is for --from FILE)"),
        (bool(config.output), "output", "the folder to write"),
    )
    for fine, key, allowed in limits:
        if not fine:
            raise InputError(f"{key} is {getattr(config, key)!r}; it must be {allowed}")


def _n_threads() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
