"""The ways a command can end early; how an unknown name, and what the operating system refuses, is reported."""

import errno
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple


class InputError(ValueError):
    """The call or the data is wrong (exit code 2). The message says what came, what is allowed, what to do."""


class AgreedError(InputError):
    """An InputError that every process of a group raises in the same words, whichever of them met it."""


class DataChangedError(InputError):
    """A file of the data is not what it was when it was checked; nothing that was made of it can be kept."""


class WorkFailedError(RuntimeError):
    """The work itself failed, a diverged training for example (exit code 1)."""


class DivergedError(WorkFailedError):
    """A training diverged; `step` is the number of optimizer steps it had done.

    A pickle, such as one from a worker process, brings `step` back after the construction, hence the default.
    """

    def __init__(self, message: str, step: int = 0) -> None:
        super().__init__(message)
        self.step = step


class Stopped(Exception):
    """The work was asked to stop, has saved its state and can be resumed (exit code 75).

    `went_on` is False where it had hardly begun: to start it again in the same way would lead no further.
    """

    def __init__(self, message: str, went_on: bool = True) -> None:
        super().__init__(message)
        self.went_on = went_on


class ProcessesFailed(Exception):
    """Processes that were started for a command failed; `code` is the exit code of the first one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'group'?"` when one of `known` is close to `name`, else an empty string."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, name: object, known: Iterable[str], hint: str = "") -> InputError:
    """The error for a name that is not in a table; `hint` says what else is accepted."""
    known = list(known)
    text = f"unknown {kind} '{name}'{did_you_mean(str(name), known) or '.'} Known: {', '.join(known)}."
    return InputError(f"{text} {hint}".rstrip())


# ---- word what the operating system refuses in one line: which path or resource, why, and what to do


class _Refusal(NamedTuple):
    error: type[InputError] | type[WorkFailedError]  # the call is wrong, or the work failed
    why: str
    advice: str


_AGAIN = "see to the disk or its server, then give the same command again"
_ELSEWHERE = "choose another place (-o, --output)"
_ROOM = "make room, then give the same command again"
_OF_PATHS = {
    errno.EROFS: _Refusal(InputError, "is on a read-only file system", f"make it writable, or {_ELSEWHERE}"),
    errno.EACCES: _Refusal(InputError, "permission denied", f"change its rights (chmod), or {_ELSEWHERE}"),
    errno.EPERM: _Refusal(InputError, "not permitted", f"change its rights, or {_ELSEWHERE}"),
    errno.ENAMETOOLONG: _Refusal(InputError, "the name is too long", "choose a shorter one"),
    errno.ENOENT: _Refusal(InputError, "does not exist", "make it, or give another path"),
    errno.ENOTDIR: _Refusal(InputError, "a part of this path is no folder", "give another path"),
    errno.EISDIR: _Refusal(InputError, "is a folder", "give the path of a file"),
    errno.EEXIST: _Refusal(InputError, "is there already, as something else", f"move it away, or {_ELSEWHERE}"),
    errno.ENOTEMPTY: _Refusal(InputError, "is not empty", f"move it away, or {_ELSEWHERE}"),
    errno.ELOOP: _Refusal(InputError, "its links lead in a circle", "mend the link, or give another path"),
    errno.ENOSPC: _Refusal(WorkFailedError, "the disk is full", _ROOM),
    errno.EDQUOT: _Refusal(WorkFailedError, "the disk quota is used up", _ROOM),
    errno.EFBIG: _Refusal(WorkFailedError, "the file is larger than allowed", "see ulimit -f, or use another disk"),
    errno.EIO: _Refusal(WorkFailedError, "the disk gives an error", _AGAIN),
    errno.ESTALE: _Refusal(WorkFailedError, "the file server has lost it (stale handle)", _AGAIN),
    errno.ENOTCONN: _Refusal(WorkFailedError, "the file server is not connected", _AGAIN),
    errno.ETIMEDOUT: _Refusal(WorkFailedError, "the file server does not answer", _AGAIN),
    errno.EBUSY: _Refusal(WorkFailedError, "is in use", f"wait, or {_ELSEWHERE}"),
    errno.ETXTBSY: _Refusal(WorkFailedError, "is in use", f"wait, or {_ELSEWHERE}"),
}
LOCKING = "HDF5_USE_FILE_LOCKING"  # HDF5's own variable; it wins over what a program asks for
_TEMPORARY = re.compile(r"(?<![^/])\.([^/]+?)(?:\.\d+)?\.tmp(?![^/])")  # what is being written, file or folder
_HDF5_ERRNO = re.compile(r"errno = (\d+)")
_HDF5_NAME = re.compile(r"name = '([^']+)'")
_WORKER_DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (?P<signal>[^.]+))?")
_SHARED_MEMORY = re.compile(r"shared memory object|shared memory\(shm\)|</?torch_\d+")
_AMPLE = 2**33  # bytes of address space; torch alone was seen to take 3.1 GiB
_NOT_MAPPED = re.compile(r"(?i)failed to map segment|cannot allocate memory|cannot enable executable stack")
_NO_MEMORY = re.compile(r"(?i)can't allocate memory|cannot allocate memory")


def explained(error: BaseException) -> InputError | WorkFailedError | None:
    """Word an error of the system, whoever raised it; None: it is another kind of error."""
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, OSError | RuntimeError) and _NO_MEMORY.search(text)):
        return WorkFailedError(f"there is no memory left{_limited()}; free some, or lower --batch-size or --workers")
    if isinstance(error, ImportError) and _NOT_MAPPED.search(text):
        return WorkFailedError(f"there is no memory left to load a library ({text.partition(':')[0]}){_limited()}")
    number = system_number(error)
    if number in (errno.EMFILE, errno.ENFILE):
        return WorkFailedError(few_files())
    if isinstance(error, RuntimeError):
        return _of_workers(text)
    if not isinstance(error, OSError) or number is None:
        return None
    path = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else _found(_HDF5_NAME, text)
    refusal = _OF_PATHS.get(number)
    if not path:
        if refusal is None or refusal.error is not WorkFailedError:  # no disk's or server's fault
            return None
        return WorkFailedError(f"{refusal.why}; {refusal.advice}")
    if refusal is None:
        return WorkFailedError(f"{_lasting(path)}: {error.strerror or os.strerror(number)}")
    return refusal.error(f"{_lasting(path)}: {refusal.why}; {refusal.advice}")


def why_unread(error: BaseException) -> str:
    """Word why the system refused to open or read a file, and what to do; empty: it did not refuse."""
    text = str(error)
    if "unable to lock file" in text:
        locking = system_number(error) or errno.ENOLCK
        return (
            f"cannot be locked (error {locking}, {os.strerror(locking)}) and need not be, as it is only read; "
            f"set {LOCKING}=FALSE (it is {os.environ.get(LOCKING, 'not set')})"
        )
    if "already open for write" in text:
        return "another process writes it, or died while it did; wait for its end, or clear the mark (h5clear -s FILE)"
    number = system_number(error)
    if number in (errno.EMFILE, errno.ENFILE):
        return few_files()
    refusal = _OF_PATHS.get(number or 0)
    return f"{refusal.why}; {refusal.advice}" if refusal else ""


def system_number(error: BaseException) -> int | None:
    """The system's error number, also where HDF5 or torch wrap it in words of their own."""
    text = str(error)
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, OSError | RuntimeError):
        if "Too many open files" in text:
            return errno.EMFILE
        wrapped = _found(_HDF5_ERRNO, text)
        return int(wrapped) if wrapped else None
    return None


def require_room_for_torch() -> None:
    """Find out in a child whether torch can be loaded under a tight limit of memory (ulimit -v), where it may abort.

    Raises:
        WorkFailedError: It cannot.
    """
    import resource
    import subprocess
    import sys

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or limit > _AMPLE:
        return
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode:
        raise WorkFailedError(f"torch cannot be loaded: there is no memory left{_limited()}")


def _limited() -> str:
    """That a process has a limit of its own, where it has."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"; a process may have {limit / 2**30:.1f} GiB (ulimit -v): raise that limit"


def few_files(needed: str = "") -> str:
    """Word that a process may not open more files; `needed` says for what."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"a process may have {limit} files open (ulimit -n), too few{needed}; "
        "raise the limit (ulimit -n 4096) or lower --workers"
    )


def full_shared_memory() -> str:
    """Word that processes cannot hand over anything in shared memory."""
    return (
        f"/dev/shm, through which worker processes hand over their batches, is full{_size_of('/dev/shm')}; "
        "enlarge it (docker run --shm-size 8g), or lower --workers or --batch-size"
    )


def _of_workers(text: str) -> WorkFailedError | None:
    died = _WORKER_DIED.match(text)
    if _SHARED_MEMORY.search(text) or (died and died["signal"] == "Bus error"):
        return WorkFailedError(full_shared_memory())
    if died:
        how = f"was killed ({died['signal']})" if died["signal"] else "ended by itself"
        return WorkFailedError(
            f"a worker process, which reads data, {how}; if memory was short, lower --workers or --batch-size"
        )
    return None


def _size_of(folder: str) -> str:
    try:
        room = os.statvfs(folder)
    except OSError:
        return ""
    return f": it has {room.f_blocks * room.f_frsize / 2**20:.0f} MiB"


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _lasting(path: str | bytes | os.PathLike[str]) -> str:
    """The path that a temporary one stands for."""
    return _TEMPORARY.sub(r"\1", os.fsdecode(path))
