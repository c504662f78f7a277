"""Who works on what: one file per run, taken by exclusive creation and kept alive by touching it. No torch here.

A lease is taken over when its process is dead on the same host, or when it was not touched for longer than the limit,
by the clock of the file server. A worker that was stalled for so long may find its run done twice; it cannot do harm,
because results are published by a hard link, which succeeds once.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BEATS_PER_LIMIT = 6


class Leases:
    """The leases of one study, as one worker sees them.

    Args:
        folder: Where the files are, on a file system that all workers share.
        limit: Seconds without a touch after which a lease is dead.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.token = uuid.uuid4().hex[:12]
        self.me = {"host": socket.gethostname(), "space": _pid_space(), "pid": os.getpid(), "born": _born(os.getpid())}

    def take(self, name: str) -> bool:
        """Get the lease of a run, if it is free or dead."""
        path = self.folder / name
        if self._create(path):
            return True
        holder = _read(path)
        return self.is_dead(name) and self._remove(path, holder.get("token")) and self._create(path)

    def release(self, name: str) -> None:
        """Give a lease back, if it is still ours."""
        path = self.folder / name
        if _read(path).get("token") == self.token:
            path.unlink(missing_ok=True)

    def is_live(self, name: str) -> bool:
        """Somebody works on the run."""
        return (self.folder / name).exists() and not self.is_dead(name)

    def is_dead(self, name: str) -> bool:
        """The lease is there, and its holder is not."""
        path = self.folder / name
        try:
            touched = path.stat().st_mtime
        except FileNotFoundError:
            return False
        holder = _read(path)
        is_here = holder.get("host") == self.me["host"] and holder.get("space") == self.me["space"]
        if is_here and _born(int(holder.get("pid", 0))) != holder.get("born"):
            return True
        return self._now() - touched > self.limit

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep a lease alive while work is done, and give it back."""
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(self.folder / name, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            self.release(name)

    def _beat(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(self.limit / _BEATS_PER_LIMIT):
            with suppress(OSError):  # taken over, or the server is away: the next beat tries again
                if _read(path).get("token") == self.token:
                    os.utime(path)

    def _create(self, path: Path) -> bool:
        """Whole from the start: written apart and linked, for a file is read while it is written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f".{self.token}.{path.name}")
        try:
            own.write_text(json.dumps({**self.me, "token": self.token}), encoding="utf-8")
            os.link(own, path)
        except FileExistsError:
            return False
        finally:
            own.unlink(missing_ok=True)
        return True

    def _remove(self, path: Path, dead: str | None) -> bool:
        """Of several workers that find the same dead lease, one removes it: renaming succeeds once."""
        aside = path.with_name(f".dead.{self.token}.{path.name}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        ours = _read(aside).get("token") == dead
        if not ours:  # another worker was quicker, and this is its new lease
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)
        return ours

    def _now(self) -> float:
        """The file server's clock."""
        probe = self.folder / f".clock.{self.token}"
        try:
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink(missing_ok=True)
        except OSError:  # a study that one may only look at
            now = time.time()
        return now


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
        return ""
    return "" if fields[0] in "ZX" else fields[19]
