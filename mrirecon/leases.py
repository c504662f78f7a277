"""Lease pieces of work to processes: a file for each, taken by exclusive creation and kept alive by touching it.

A lease is taken over when its process is dead on the same host, or when whoever wants it has seen no change of it for
longer than the limit. Its date is never compared with a clock: hosts, and file servers, may disagree about the time.
A holder that was stalled for so long may find its work done twice: the runs of a study are published by a hard link,
which succeeds once, and who writes a run folder looks whether the lease is still its own.
"""

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrirecon.files import open_plain

_BEATS_PER_LIMIT = 6
_MOST_BYTES = 10_000
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # file systems without hard links


@dataclass
class _Watched:
    """The state in which a process last saw somebody's lease."""

    stamp: tuple[Any, ...]
    looked: float  # by the monotonic clock
    unchanged: float = 0.0  # seconds
    changes: int = 0


class Leases:
    """The leases of one folder, as one process sees them.

    Args:
        folder: Where the files are, on a file system that all processes share.
        limit: Seconds without a change after which a lease is dead.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.token = uuid.uuid4().hex[:12]
        self.me = {"host": socket.gethostname(), "space": _pid_space(), "pid": os.getpid(), "born": _born(os.getpid())}
        self.lost = threading.Event()  # somebody else has what is held here
        self._watched: dict[str, _Watched] = {}

    def take(self, name: str) -> bool:
        """Get a lease, if it is free or dead; who asks again and again finds out whether it is dead."""
        path = self.folder / name
        if self._create(path):
            return True
        dead = self.holder(name).get("token")
        return self.is_dead(name) and self._remove(path, dead) and self._create(path)

    def release(self, name: str) -> None:
        """Give a lease back, if it is still ours."""
        if self.holder(name).get("token") == self.token:
            (self.folder / name).unlink(missing_ok=True)

    def holder(self, name: str) -> dict[str, Any]:
        """Return the holder of a lease: host, pid, token; empty where nobody has it, or it does not say."""
        return _look(self.folder / name)[0]

    def lives_here(self, name: str) -> bool:
        """The holder is a process of this host, and there."""
        holder = self.holder(name)
        return self._is_here(holder) and self._is_there(holder, name)

    def is_dead(self, name: str) -> bool:
        """The lease is there, and its holder is not; of another host that is known after some looks."""
        holder, stamp = _look(self.folder / name)
        if not stamp:
            return False
        if self._is_here(holder) and not self._is_there(holder, name):
            return True
        return self._watch(name, stamp).unchanged > self.limit

    def is_beating(self, name: str) -> bool:
        """A change of the lease was seen."""
        _, stamp = _look(self.folder / name)
        return bool(stamp) and self._watch(name, stamp).changes > 0

    def seems_live(self, name: str) -> bool:
        """Somebody works on it, as far as a single look tells: not for sure, as dates of other hosts may be wrong."""
        holder, stamp = _look(self.folder / name)
        if not stamp or (self._is_here(holder) and not self._is_there(holder, name)):
            return False
        return abs(self.age(name)) <= self.limit

    def age(self, name: str) -> float:
        """Seconds since a lease was touched, by the file server's clock; negative: it has a date in the future."""
        try:
            touched = (self.folder / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0
        # the file server's clock
        probe = self.folder / f".clock.{self.token}.tmp"
        try:
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink(missing_ok=True)
        except OSError:  # a study that one may only look at
            now = time.time()
        return now - touched

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep a lease alive while work is done, and give it back.

        One that is not kept alive ends after its limit, as the leases of Gray and Cheriton (1989) do.
        """
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(name, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            self.release(name)

    def _beat(self, name: str, ended: threading.Event) -> None:
        while not ended.wait(self.limit / _BEATS_PER_LIMIT):
            with suppress(OSError):  # the server is away: the next beat tries again
                holder, stamp = _look(self.folder / name)
                if holder.get("token") == self.token:
                    os.utime(self.folder / name)
                elif stamp:
                    self.lost.set()

    def _watch(self, name: str, stamp: tuple[Any, ...]) -> _Watched:
        """Note a look. Of a long time between two looks little counts: then the server, or this process, was stalled.

        Looks that come as often as the holder's beats are counted whole.
        """
        now = time.monotonic()
        seen = self._watched.setdefault(name, _Watched(stamp, now))
        if seen.stamp == stamp:
            seen.unchanged += min(now - seen.looked, self.limit / _BEATS_PER_LIMIT)
        else:
            seen.stamp, seen.unchanged, seen.changes = stamp, 0.0, seen.changes + 1
        seen.looked = now
        return seen

    def _is_here(self, holder: dict[str, Any]) -> bool:
        return holder.get("host") == self.me["host"] and holder.get("space") == self.me["space"]

    def _is_there(self, holder: dict[str, Any], name: str) -> bool:
        """Return whether a process of this host is still the one that took a lease, and took it in this folder.

        Who copies a folder in use copies the lease, which nobody holds there.
        """
        pid, born, file = holder.get("pid"), holder.get("born"), str(holder.get("file"))
        if not (isinstance(pid, int) and pid > 0 and born and _born(pid) == born):
            return False
        is_copy = file != str((self.folder / name).resolve()) and _look(Path(file))[0].get("token") == holder.get(
            "token"
        )
        return not is_copy

    def _create(self, path: Path) -> bool:
        """Whole from the start: written apart and linked, for a file is read while it is written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{path.name}.{self.token}.tmp")
        content = json.dumps({**self.me, "token": self.token, "file": str(path.resolve())})
        try:
            own.write_text(content, encoding="utf-8")
            os.link(own, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS or not own.is_file():
                raise
            return _create_alone(path, content)
        finally:
            own.unlink(missing_ok=True)
        return True

    def _remove(self, path: Path, dead: str | None) -> bool:
        """Remove a dead lease; of several that find the same one, one does: renaming succeeds once."""
        aside = path.with_name(f".dead.{path.name}.{self.token}.tmp")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        ours = _look(aside)[0].get("token") == dead
        if not ours:  # another one was quicker, and this is its new lease
            try:
                os.link(aside, path)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _create_alone(path, aside.read_text(encoding="utf-8"))
        aside.unlink(missing_ok=True)
        return ours


def _look(path: Path) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Read what a lease says, and what changes with each touch and each holder; both empty where there is none.

    The file is opened, since network file systems then ask the server for its date, which they remember otherwise.
    """
    try:
        with open_plain(path) as handle:
            facts = os.fstat(handle.fileno())
            content = handle.read(_MOST_BYTES)
    except FileNotFoundError:
        return {}, ()
    except OSError:  # there, and not to be read
        return {}, (str(path),)
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = {}
    holder = said if isinstance(said, dict) else {}
    return holder, (facts.st_mtime_ns, facts.st_ino, str(holder.get("token")))


def _create_alone(path: Path, content: str) -> bool:
    """Create a lease where there are no hard links; who reads it half-written finds no holder named, and waits."""
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(content)
    except FileExistsError:
        return False
    return True


def _pid_space() -> str:
    """Containers of one host name may have process numbers of their own."""
    try:
        return f"{Path('/proc/self/ns/pid').readlink()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process began, so that a number used again is not taken for it; empty where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _without_proc(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _without_proc(pid: int) -> str:
    """On macOS a number used again is not told from the old process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "there"
