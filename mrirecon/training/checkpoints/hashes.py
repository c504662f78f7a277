"""A SHA-256 beside each checkpoint, in a file that `sha256sum -c` reads: is a checkpoint still what was written?

While a checkpoint is being replaced, its hash file names the old content and the new one.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from mrirecon.errors import InputError
from mrirecon.files import open_plain, write_text
from mrirecon.refusals import why_unread
from mrirecon.training.checkpoints.content import require_archive, require_sound

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_LONGEST = 10_000  # characters of a hash file that are looked at


class ChangedError(InputError):
    """A checkpoint is not the file that was written."""


def hash_file(checkpoint: Path) -> Path:
    """Where the hash of a checkpoint stands."""
    return checkpoint.with_name(f"{checkpoint.name}.sha256")


def listed(checkpoint: Path) -> set[str] | None:
    """The hashes that a checkpoint may have; None: it has no hash file, as in runs of earlier versions."""
    try:
        with open_plain(hash_file(checkpoint)) as handle:
            found = map(_LINE.fullmatch, handle.read(_LONGEST).decode("ascii", "replace").splitlines())
    except FileNotFoundError:
        return None
    return {match[1] for match in found if match and match[2] == checkpoint.name}


def write_listed(checkpoint: Path, digests: Iterable[str]) -> None:
    """Write the hash file."""
    write_text(hash_file(checkpoint), "".join(f"{digest}  {checkpoint.name}\n" for digest in digests))


def digest_of(handle: BufferedReader) -> str:
    """SHA-256 of what is left of a file, 64 hex digits."""
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
    """The content of a checkpoint, on the CPU; nothing in it can run code.

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
    """What is wrong with a file, in our words where torch says at length how to load a stranger's code all the same.

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
    """The hash of a checkpoint that is there and sound: matches its hash file or, where there is none, can be loaded.

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
