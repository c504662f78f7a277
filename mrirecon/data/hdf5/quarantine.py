"""Look at files from strangers in a forked child first: HDF5 itself crashes, hangs or fills the memory on some.

This is no sandbox: the child has all rights of this process. It keeps the process alive, so that the damaged file
can be named and the others be looked at. What it found comes back as JSON, one line per file.
"""

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from mrirecon import ranks
from mrirecon.data.hdf5.limits import GIB
from mrirecon.data.hdf5.opening import forget_those_of_the_parent
from mrirecon.errors import InputError, WorkFailedError

Found = dict[str, Any]
Alive = Callable[[], None]


class Patience(NamedTuple):
    """After how long without a sign of life a file counts as damaged."""

    computing_s: float  # of the processor's time
    waiting_s: float  # on the wall, for a disk that is slow


_MOST_CHILDREN, _MOST_BYTES, _JOBS_WORTH_A_CHILD = 4, 8 * GIB, 32
STRUCTURE = Patience(5, 30)
SAMPLES = Patience(60, 60)


@dataclass(frozen=True)
class Job:
    """One file to look at.

    Args:
        label: Starts every error about it.
        look: Runs in the child, reads with h5py and numpy only (nothing else survives a fork), calls its argument
            after each slice, and returns what JSON can hold; or raises an InputError.
        patience: How long without a sign of life.
        memory_bytes: What it may take beside what this process has.
    """

    label: str
    look: Callable[[Alive], Found]
    patience: Patience = STRUCTURE
    memory_bytes: int = GIB


def examine(jobs: Sequence[Job]) -> Generator[Found | InputError, None, None]:
    """Yield the findings, or the fault, of each job in order.

    One child does all of them, after its death the next one goes on. Many jobs are dealt out to a few children that
    work at the same time, as a file server takes longer to answer than HDF5 to read.

    Raises:
        WorkFailedError: No process can be started.
    """
    # more than one where that is worth its start and all may take the memory they are allowed
    room = _MOST_BYTES // max((job.memory_bytes for job in jobs), default=1)
    n = max(1, min(_MOST_CHILDREN // ranks.world_size(), room, len(jobs) // _JOBS_WORTH_A_CHILD))
    with ExitStack() as stack:
        children = [stack.enter_context(closing(_one_by_one(jobs[k::n]))) for k in range(n)]
        for i in range(len(jobs)):
            yield next(children[i % n])


def _one_by_one(jobs: Sequence[Job]) -> Generator[Found | InputError, None, None]:
    done = 0
    while done < len(jobs):
        with _child(jobs[done:]) as (process, answers):
            for line in answers:
                if not line.endswith(b"\n"):
                    break
                yield _understood(json.loads(line))
                done += 1
            status = process.wait()
        if done < len(jobs):
            yield InputError(f"{jobs[done].label}: {_cause_of_death(status, jobs[done].patience)}")
            done += 1


def _understood(answer: Found) -> Found | InputError:
    if "error" in answer:
        raise RuntimeError(f"while a file was examined: {answer['error']}")
    return InputError(answer["fault"]) if "fault" in answer else answer["found"]


def _cause_of_death(status: int, patience: Patience) -> str:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGALRM:
        return f"no answer for {patience.waiting_s:g} s; damaged, or on a disk that does not answer: copy it again"
    if number == signal.SIGPROF:
        return f"damaged, reading it did not end within {patience.computing_s:g} s of computing; copy it again"
    name = signal.Signals(number).name if number else f"exit code {os.waitstatus_to_exitcode(status)}"
    return f"damaged, reading it ended a test process with {name}; copy it again"


class _Process:
    """A child that is waited for once."""

    def __init__(self, pid: int) -> None:
        self.pid, self._status = pid, -1

    def wait(self) -> int:
        if self._status < 0:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status

    def end(self) -> None:
        if self._status < 0:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


@contextmanager
def _child(jobs: Sequence[Job]) -> Iterator[tuple[_Process, BinaryIO]]:
    source, sink = os.pipe()
    pid = _fork()
    if pid == 0:
        _work(jobs, source, sink)
    os.close(sink)
    process = _Process(pid)
    try:
        with os.fdopen(source, "rb") as answers:
            yield process, answers
    finally:
        process.end()


def _fork() -> int:
    with warnings.catch_warnings():  # threads of this process do not exist in the child, which needs none of them
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return os.fork()
        except OSError as error:
            raise WorkFailedError(f"no process can be started to check files ({error.strerror}); free memory") from None


def _work(jobs: Sequence[Job], source: int, sink: int) -> NoReturn:
    """The child's whole life; it never returns into the caller's code, nor flushes what the caller had printed."""
    try:
        os.close(source)  # so that writing fails once the parent, and children born later, are gone
        _prepare()
        forget_those_of_the_parent()
        used = _data_bytes()
        for job in jobs:
            answer = json.dumps(_answer(job, used)).encode() + b"\n"
            while answer:
                answer = answer[os.write(sink, answer) :]
        os._exit(0)
    finally:
        os._exit(1)


def _answer(job: Job, used: int) -> Found:
    def alive() -> None:
        signal.setitimer(signal.ITIMER_PROF, job.patience.computing_s)
        signal.setitimer(signal.ITIMER_REAL, job.patience.waiting_s)

    try:
        _limit_data(used + job.memory_bytes)
        alive()
        return {"found": job.look(alive)}
    except InputError as error:
        return {"fault": str(error)}
    except BaseException:
        return {"error": traceback.format_exc()}
    finally:  # the parent may be slow to take the answer
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _prepare() -> None:
    """Die silently, alone and at once."""
    import faulthandler
    import gc
    import resource

    gc.disable()  # it would free the parent's objects, a GPU's tensors among them
    faulthandler.disable()
    for number in (signal.SIGALRM, signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C, a lost terminal and a scheduler's request reach the parent too, which ends this child or goes on with it
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # the C library reports a broken heap there
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _data_bytes() -> int:
    """Private memory of this process, as RLIMIT_DATA counts it; 0 where it is not told."""
    if sys.platform != "linux":
        return 0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


def _limit_data(size: int) -> None:
    import resource

    if sys.platform != "linux":  # elsewhere the limit counts something else
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
