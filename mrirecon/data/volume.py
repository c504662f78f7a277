"""One volume of k-space in a fastMRI `.h5` file."""

import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mrirecon.data.folders.reference_check import Disagreement
from mrirecon.data.hdf5.description import Facts, Identity, as_complex, read_facts
from mrirecon.data.hdf5.opening import FileState, read_image, read_slice, read_whole, reading, require_unchanged
from mrirecon.data.hdf5.soundness import require_sound, samples_sha256, slice_hash
from mrirecon.data.header import Header
from mrirecon.data.measured_positions import Sampling, measured_positions
from mrirecon.errors import InputError
from mrirecon.tables.metrics import OBJECT_MASK

Seen = Callable[[int, np.ndarray], None]  # gets the number of a slice and its values
# Not in fingerprints: studies keep those of times before there were these facts.
_NEW_FACTS = ("has_object_mask", "object_fault")


class Volume:
    """A fastMRI file, opened when something of it is first read.

    Safe to pickle and to use after a fork: every process opens its own handle.

    Args:
        path: The file.
        root: `name` is the path relative to this folder; without it the bare file name.

    Raises (from the first access on):
        InputError: `<name>: what is wrong; what to do`.
        DataChangedError: The file is not what it was before it was first read.
    """

    def __init__(self, path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name if root is None else self.path.relative_to(root).as_posix()
        self.state = FileState.of(self.path)
        self.n_searched = 0  # slices that were searched for NaN and had none
        self.disagreement: Disagreement | None = None  # of k-space and reference, as far as a check has found one

    def __repr__(self) -> str:
        return f"Volume({self.name!r})"

    def require_unchanged(self) -> None:
        """Raise a DataChangedError where the file is not what it was, by size or time of change."""
        require_unchanged(self.path, self.name, self.state)

    @cached_property
    def facts(self) -> Facts:
        """Everything but the samples."""
        self.state = FileState.of(self.path)  # it counts from the first reading on
        return self.describe()

    def describe(self) -> Facts:
        """Read the facts of the file, at every call; takes no lock that another thread may hold at a fork."""
        return read_facts(self.path, self.name)

    def fingerprint(self) -> str:
        """SHA-256 of `facts`, but for the object mask, and of the first slice of k-space and reference as stored.

        Raises:
            InputError: They cannot be read.
        """
        plain = {key: value for key, value in self.facts.to_plain().items() if key not in _NEW_FACTS}
        digest = sha256(json.dumps(plain, sort_keys=True).encode())
        for key in filter(None, ("kspace", self.facts.target_key)):
            digest.update(self._read(key, 0).tobytes())
        return digest.hexdigest()

    @property
    def is_read(self) -> bool:
        """`facts` were read before, so the file's structure is known to be sound."""
        return "facts" in self.__dict__

    @property
    def header(self) -> Header:
        """Matrix sizes, field of view, measured columns: of the ISMRMRD header (Inati et al. 2017)."""
        return self.facts.header

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(slices, coils, height, width)` of k-space, fastMRI's order of axes; single-coil has one coil."""
        return self.facts.shape

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return self.shape[0]

    @property
    def n_coils(self) -> int:
        """Number of coils, 1 for single-coil."""
        return self.shape[1]

    @property
    def single_coil(self) -> bool:
        """The file has no coil axis (fastMRI's single-coil track)."""
        return self.facts.single_coil

    @property
    def image_shape(self) -> tuple[int, int]:
        """`(height, width)` of the reconstruction: the reference's, else the header's, limited as in fastMRI."""
        return self.facts.image_shape

    @property
    def attrs(self) -> dict[str, Any]:
        """The file's attributes as plain Python values."""
        return self.facts.attrs

    @property
    def acquisition(self) -> str:
        """Contrast (CORPD_FBK, AXT2, ...), fastMRI's attribute `acquisition`, or unknown."""
        return Identity.of(self.attrs, self.name).acquisition

    @property
    def patient(self) -> str:
        """fastMRI's attribute `patient_id`, else the file's name: what splits and intervals keep together."""
        return Identity.of(self.attrs, self.name).patient

    @property
    def origin(self) -> str:
        """measured (also where the file does not say), simulated-from-phantom or simulated-from-magnitude.

        Scores on data that were simulated from magnitude images are too good (Shimron et al. 2022).
        """
        return Identity.of(self.attrs, self.name).origin

    @property
    def mask_seed_name(self) -> str:
        """Seeds evaluation masks, as in fastMRI: the bare original file name, which copies keep as an attribute."""
        return str(self.attrs.get("mask_seed_name") or self.path.name)

    @property
    def file_mask(self) -> np.ndarray | None:
        """Columns `(width,)` kept by the data set `mask` of the file, as fastMRI's test files have it, or None."""
        return self.facts.file_mask

    @cached_property
    def sampling(self) -> Sampling:
        """The positions of k-space that hold samples; reads slices, see `search_sampling`."""
        return self.search_sampling()

    def learn(self, found: Mapping[str, Any]) -> None:
        """Take over what a check, perhaps in another process, found of the file.

        Args:
            found: Plain values by the names of attributes: `facts`, `sampling`, `data_range`, `disagreement`,
                `n_searched`, `samples_sha256`.
        """
        understand: dict[str, Callable[[Any], Any]] = {
            "facts": Facts.from_plain,
            "sampling": Sampling.from_plain,
            "disagreement": lambda plain: plain and Disagreement(*plain),
            "samples_sha256": tuple,
        }
        # where cached properties look first
        vars(self).update({key: understand.get(key, lambda value: value)(value) for key, value in found.items()})

    def search_sampling(self, seen: Seen = lambda _i, _values: None, read_all: bool = False) -> Sampling:
        """Find the positions that hold samples, from the middle slice and, where that has gaps, all others.

        One slice is enough where it has no gaps, or where the file's mask says what they are.

        Args:
            seen: Called with each slice that was read.
            read_all: Read all slices, in search of values that cannot be used and of slices that are sampled otherwise.

        Raises:
            InputError: A slice cannot be read, holds NaN, infinity or huge values, all k-space is 0, or the file's mask
                is not that of its k-space.
        """
        middle = self.n_slices // 2
        slices = dict[int, np.ndarray]()
        for i in sorted(range(self.n_slices), key=lambda i: abs(i - middle)):
            kspace = self.kspace(i)
            slices[i] = measured_positions(kspace)
            seen(i, kspace)
            has_gaps = Sampling.of(slices[i]).has_gaps
            if slices[i].any() and not read_all and (not has_gaps or self.file_mask is not None):
                break
        sampling = Sampling.of_slices(slices)
        if sampling.is_empty:
            raise InputError(f"{self.name}: its k-space is 0 everywhere; copy or export it again, or remove the file")
        self._require_own(sampling)
        return sampling

    def _require_own(self, sampling: Sampling) -> None:
        """The file's mask is that of its k-space, unless k-space is full."""
        run = sampling.measured_run
        if self.file_mask is None or not sampling.has_gaps or sampling.is_2d:
            return
        kept, measured = self.file_mask[run], sampling.columns[run]
        if (kept != measured).any():
            raise InputError(
                f"{self.name}: its data set 'mask' keeps {int((kept & ~measured).sum())} columns that k-space lacks "
                f"and drops {int((~kept & measured).sum())} that are not; write the mask of this k-space, or remove it"
            )

    @cached_property
    def samples_sha256(self) -> tuple[str, str]:
        """Hashes of k-space and reference: of the middle slice and of all, empty unless a check has read all."""
        middle = self.n_slices // 2
        targets = {middle: slice_hash(self.target(middle))} if self.has_target else {}
        return samples_sha256({middle: slice_hash(self.kspace(middle))}, targets, self.n_slices)

    @property
    def is_full(self) -> bool:
        """K-space has no gaps, whatever mask the file may hold: any mask can be applied to it."""
        return not self.sampling.has_gaps

    @property
    def own_mask(self) -> np.ndarray | None:
        """Columns `(width,)` that the file's mask keeps or, without one, that gaps in k-space leave; None: neither."""
        if self.file_mask is not None:
            return self.file_mask
        return self.sampling.columns if self.sampling.has_gaps else None

    @property
    def acquired(self) -> slice:
        """The columns that a full scan has; the others are zero padding, by the header or by their zeros.

        Of the header: fastMRI's rule, see `Header.acquired`.
        """
        acquired = self.header.acquired(self.shape[-1])
        if self.own_mask is not None:  # columns at the edge may be empty because the mask drops them
            return acquired
        run = self.sampling.measured_run
        return slice(max(acquired.start, run.start), min(acquired.stop, run.stop))

    @property
    def has_target(self) -> bool:
        """A reference image is stored: fastMRI's `reconstruction_rss` or, single-coil, `reconstruction_esc`."""
        return self.facts.target_key is not None

    @cached_property
    def data_range(self) -> float:
        """Maximum of the stored reference over all slices, whichever are selected; 0 without a reference.

        It is the range that fastMRI's evaluation takes.
        """
        if self.facts.target_key is None:
            return 0.0
        return self.search_target()

    def search_target(self, seen: Seen = lambda _i, _values: None) -> float:
        """The maximum of the reference, of which every slice is read; `seen` is called with each.

        Raises:
            InputError: It cannot be read, holds NaN, infinity or huge values, or has no positive value.
        """
        largest = 0.0
        for i in range(self.n_slices):
            target = self.target(i)
            largest = max(largest, float(target.max()))
            seen(i, target)
        if largest <= 0:
            raise InputError(f"{self.name}: {self.facts.target_key} has no positive value; write it anew or remove it")
        return largest

    def kspace(self, i: int) -> np.ndarray:
        """K-space of slice `i`, complex64 `(coils, height, width)`, in the units of fastMRI's data set `kspace`.

        Raises:
            IndexError: There is no slice `i`.
            InputError: The samples cannot be read, or hold NaN, infinity or huge values.
        """
        values = as_complex(self._read("kspace", i))
        with np.errstate(over="ignore"):  # an overflow of complex128 is found as infinity below
            values = values.astype(np.complex64, copy=False)
        with reading(self.name):
            require_sound(values, "kspace", i)
        return values[None] if self.single_coil else values

    def target(self, i: int) -> np.ndarray:
        """The reference of slice `i`, float32 `(h, w)`, as stored: neither cropped nor clamped.

        It is fastMRI's `reconstruction_rss` or, single-coil, `reconstruction_esc`.

        Raises:
            IndexError: There is no slice `i`.
            InputError: There is no reference, it cannot be read, or it holds NaN, infinity or huge values.
        """
        key = self.facts.target_key
        if key is None:
            raise InputError(f"{self.name}: has no reference image; reconstruct it, but do not train on or score it")
        self._require_slice(i)
        return read_image(self.path, self.name, key, i, self.state, np.float32)

    @property
    def has_object_mask(self) -> bool:
        """The file says where the object is, in a data set `object_mask` (slices, h, w).

        Raises:
            InputError: It is not of the image's shape, or not of whole numbers or truth values.
        """
        if self.facts.object_fault:
            raise InputError(f"{self.name}: {self.facts.object_fault}")
        return self.facts.has_object_mask

    def object_mask(self, i: int) -> np.ndarray:
        """Read where slice `i` has the object, bool `(h, w)`.

        Raises:
            IndexError: There is no slice `i`.
            InputError: It has no such mask, or it cannot be read.
        """
        inside: np.ndarray = self._read(OBJECT_MASK, i) != 0
        return inside

    def noise_covariance(self) -> np.ndarray | None:
        """Read the noise covariance of the coils, complex64 `(coils, coils)`; None where the file has none.

        It is the data set `noise_covariance`, in any units.

        Raises:
            InputError: It is of another shape or type, or cannot be read.
        """
        shape = (self.n_coils, self.n_coils)
        stored = read_whole(self.path, self.name, "noise_covariance", shape, "biufcV", self.state)
        if stored is None:
            return None
        return as_complex(stored).astype(np.complex64)

    def region_masks(self) -> np.ndarray | None:
        """Read which region each pixel is in, whole numbers `(slices, h, w)`, 0 for none; None where it is not stored.

        It is the data set `regions`.

        Raises:
            InputError: It is of another shape or type, or cannot be read.
        """
        return read_whole(self.path, self.name, "regions", (self.n_slices, *self.image_shape), "biu", self.state)

    def _read(self, key: str, i: int) -> np.ndarray:
        """Read slice `i` of the data set `key` `(slices, ...)`, as stored."""
        self._require_slice(i)
        return read_slice(self.path, self.name, key, i, self.state)

    def _require_slice(self, i: int) -> None:
        if not 0 <= i < self.n_slices:
            raise IndexError(f"{self.name} has slices 0 to {self.n_slices - 1}, not {i}")
