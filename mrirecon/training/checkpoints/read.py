"""Read checkpoints: is one still what was written, is its content sound, and which one does a run go on from?

Beside each checkpoint stands its SHA-256, in a file that `sha256sum -c` reads. While a checkpoint is being replaced,
that file names the old content and the new one.
"""

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mrirecon import ranks
from mrirecon.errors import InputError, why_unread
from mrirecon.files import open_plain, write_text
from mrirecon.progress import warn
from mrirecon.runs import RunFolder

_WEIGHTS = ("state_dict", "training_weights")


def require_archive(handle: BinaryIO, has_hash: bool) -> None:
    """Check that the file is an archive as torch writes it, whose content is not larger than the file.

    A ZIP file without compression: https://docs.pytorch.org/docs/stable/notes/serialization.html.

    Args:
        handle: The file, at its start; and again there afterwards.
        has_hash: A hash of the whole file was checked; else the archive's own checksums are, which torch ignores.

    Raises:
        ValueError: It is compressed, claims more than it holds, or a member was changed.
    """
    with zipfile.ZipFile(handle) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which a checkpoint never is")
        if sum(member.file_size for member in members) > handle.seek(0, io.SEEK_END):
            raise ValueError("its members claim more than the file holds")
        if not has_hash and (bad := archive.testzip()):
            raise ValueError(f"{bad} in it was changed")
    handle.seek(0)


def require_sound(state: Any) -> None:
    """Check the tensors of a loaded checkpoint.

    Raises:
        TypeError: It is no dictionary.
        ValueError: A tensor is not plain, or claims more than it holds; weights that are complex or not finite.
    """
    if not isinstance(state, dict):
        raise TypeError(f"it holds a {type(state).__name__}")
    for tensor in _tensors(state):
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"it holds a tensor of another kind ({tensor.layout}, {tensor.dtype})")
        if tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} claims more than it holds")
    for name in _WEIGHTS:
        require_weights(name, state.get(name))


def require_weights(name: str, content: Any) -> None:
    """Raise a ValueError for complex numbers, NaN or infinity among tensors that are called `name`."""
    for tensor in _tensors(content):
        if tensor.is_complex():
            raise ValueError(f"{name} has complex numbers, which no network here has")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} has NaN or infinity, which no training saves")


def _tensors(content: Any) -> Iterator[Tensor]:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_LONGEST = 10_000  # characters of a hash file that are looked at


class ChangedError(InputError):
    """A checkpoint is not the file that was written."""


def hash_file(checkpoint: Path) -> Path:
    """Return the path of the file that holds the hash of a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def listed(checkpoint: Path) -> set[str] | None:
    """Read the hashes that a checkpoint may have; None: it has no hash file, as in runs of earlier versions."""
    try:
        with open_plain(hash_file(checkpoint)) as handle:
            found = map(_LINE.fullmatch, handle.read(_LONGEST).decode("ascii", "replace").splitlines())
    except FileNotFoundError:
        return None
    return {match[1] for match in found if match and match[2] == checkpoint.name}


def write_listed(checkpoint: Path, digests: Iterable[str]) -> None:
    """Write the hash file, in lines that `sha256sum -c` checks (GNU coreutils, https://www.gnu.org/software/coreutils/)."""
    write_text(hash_file(checkpoint), "".join(f"{digest}  {checkpoint.name}\n" for digest in digests))


def digest_of(handle: BufferedReader) -> str:
    """Compute the SHA-256 of what is left of a file, 64 hex digits."""
    return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def opened(checkpoint: Path) -> Iterator[BufferedReader]:
    """Open a checkpoint that is what its hash file says, if it has one.

    Raises:
        ChangedError: It is not.
    """
    accepted = listed(checkpoint)
    with open_plain(checkpoint) as handle:
        if accepted is not None:
            # A training may replace both files meanwhile: at any time one of the two readings names what was opened.
            if digest_of(handle) not in accepted | (listed(checkpoint) or set()):
                raise ChangedError(
                    f"{checkpoint} does not match its SHA-256 in {hash_file(checkpoint).name}; restore it or train "
                    "again (or, if you changed it yourself, delete that file)"
                )
            handle.seek(0)
        yield handle


def load_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Read the content of a checkpoint to the CPU; nothing in it can run code.

    Of `weights_only` see https://docs.pytorch.org/docs/stable/generated/torch.load.html.

    Raises:
        ChangedError: It does not match its hash.
        InputError: It is missing, damaged, or holds more than plain values and tensors.
    """
    try:
        with opened(checkpoint) as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused below
            require_archive(handle, has_hash=listed(checkpoint) is not None)
            state = torch.load(handle, map_location="cpu", weights_only=True)
        require_sound(state)
    except InputError:
        raise
    except Exception as error:
        if refused := why_unread(error):
            raise InputError(f"{checkpoint}: {refused}") from None
        advice = "take the weights.safetensors of the run, or train again"
        raise InputError(f"{checkpoint} {why_not(error, 'no checkpoint of a training', advice)}") from None
    return state


def why_not(error: Exception, else_it_is: str, advice: str) -> str:
    """Say what is wrong with a file; not in torch's words, which explain how to load a stranger's code all the same.

    Args:
        error: What came when it was opened.
        else_it_is: What it is if it is not damaged.
        advice: What to do where it holds more than plain values and tensors.
    """
    reason = " ".join(str(error).split())[:200]
    if type(error).__name__ == "UnpicklingError":  # of a module that nothing here imports
        if foreign := re.search(r"\bGLOBAL (\S+)", str(error)):
            return (
                f"holds {foreign[1]}, not tensors and plain values alone: it may run code and was not loaded; {advice}"
            )
        reason = "no pickle of tensors and plain values"
    if "TorchScript" in reason:
        reason = "a program of TorchScript"
    return f"is damaged or {else_it_is} ({type(error).__name__}: {reason})"


def sound_digest(checkpoint: Path) -> str | None:
    """Return the hash of a checkpoint that matches its hash file or, where there is none, can be loaded.

    None: it is absent or damaged.
    """
    accepted = listed(checkpoint)
    try:
        if accepted is None:
            load_checkpoint(checkpoint)
        with open_plain(checkpoint) as handle:
            found = digest_of(handle)
    except PermissionError:  # it may be sound
        raise
    except (InputError, OSError):
        return None
    return found if accepted is None or found in accepted else None


_ORDER = ("last", "previous")


def resumable(run: RunFolder) -> Path:
    """Find the newest sound checkpoint of a run; all processes get the same one.

    Raises:
        InputError: There is none.
    """
    choice, line = ranks.from_first(lambda: _choose(run))
    if choice is None:
        raise InputError(line)
    if line:
        warn(f"warning: {line}")
    return run.checkpoint(choice)


def what_is_kept(run: RunFolder) -> str:
    """Say, as the end of a sentence, which checkpoint a training that broke off has left and how to go on from it."""
    try:
        step = load_checkpoint(run.checkpoint("last"))["global_step"]
    except (InputError, KeyError):
        return f"there is no checkpoint yet: start again with mrirecon train -c {run.config}"
    return f"the checkpoint of step {step} is kept: go on with mrirecon train --resume {run.path}"


def _choose(run: RunFolder) -> list[str | None]:
    """Choose a name, with what to warn of; or None, with the error."""
    bad: list[str] = []
    for name in _ORDER:
        path = run.checkpoint(name)
        if sound_digest(path):
            warning = f"in {path.parent}; the run goes on from {path.name}, the checkpoint before it"
            return [name, f"{bad[0]} {warning}" if bad else None]
        bad.append(f"{path.name} is {'damaged' if path.is_file() else 'missing'}")
    if not any(run.checkpoint(name).is_file() for name in _ORDER):
        return [None, f"{run.path} has no checkpoint yet; start again: mrirecon train -c {run.config}"]
    return [None, f"{run.path} cannot go on: {' and '.join(bad)}; start again: mrirecon train -c {run.config}"]
