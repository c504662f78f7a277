"""Hand slices to a network: a resumable stream for training, fixed units shared between processes for scoring.

A network's output differs in the last digits with its batch, so equal tables need equal units: they are cut by a rule
that knows no number of processes. How units are shared is a rule that every process works out for itself, with the same
result. Worker processes may read ahead: a fault of one is told as this process would, and none outlives its loader.
"""

import multiprocessing
import os
import pickle
import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import accumulate
from math import inf, prod
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.samples import Sample, collate, to_device
from mrirecon.data.volume import Volume
from mrirecon.errors import WorkFailedError, few_files, full_shared_memory
from mrirecon.files import is_disk_full
from mrirecon.termination import STOP_SIGNALS

Batches = Generator[Any, None, None]  # closing it ends the workers behind it

_FILES, _FILES_PER_WORKER = 32, 8  # that a process opens while it hands over batches; measured with 1 to 8 workers
_MEMORY_PER_WORKER = 100 * 2**20  # about what one takes that reads volumes of several coils
_LOCKS, _LOCKS_PER_WORKER = 8, 3  # of torch's loader: one queue and an event, and a queue per worker
_MEM_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)
_LOOK_S = 1.0  # a worker looks so often whether its parent is still there


def cut_units(items: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Cut `(volume, slice)` items into lists of at most `batch_size` positions, each of one volume, in order.

    The slices of a volume have one shape, of image, k-space and mask, so a unit is a batch whatever it carries.
    """
    units: list[list[int]] = []
    for position, (volume, _) in enumerate(items):
        if units and len(units[-1]) < batch_size and items[units[-1][0]][0] == volume:
            units[-1].append(position)
        else:
            units.append([position])
    return units


def unit_costs(
    units: Sequence[Sequence[int]], items: Sequence[tuple[int, int]], volumes: Sequence[Volume]
) -> list[int]:
    """Slices x coils x pixels of each unit.

    Args:
        units: Lists of positions in `items`, each of one volume.
        items: (volume, slice) of every slice.
        volumes: The volumes.
    """
    return [len(unit) * prod(volumes[items[unit[0]][0]].shape[1:]) for unit in units]


def share_neighbours(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work, 0 to n - 1; neighbours stay together, so few volumes are divided.

    The line of all costs is cut into `n` equal lengths and a piece goes where its middle lies: nobody has more than
    one piece's cost above the mean.
    """
    ends = list(accumulate(costs))
    return [min(int((end - cost / 2) / ends[-1] * n), n - 1) for end, cost in zip(ends, costs, strict=True)]


def share_whole(costs: Sequence[float], n: int) -> list[int]:
    """Owner of each piece of work that cannot be cut, 0 to n - 1: the costliest first, each to the least busy.

    Graham's rule (1969): the busiest has at most 4/3 of the work that the best division would leave it.
    """
    loads, owners = [0.0] * n, [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += costs[i]
    return owners


class StreamLoader:
    """Loads a `BatchStream`; its state is the number of batches the training loop has finished.

    Workers read ahead, so the loop itself reports what is done (`batches_done`); on resume the stream
    starts there. Each iteration has its own random generator: the global one is left alone.

    `waited_s` is the time that the training loop was held up in asking for its batches: reading them, or waiting for
    the workers that do. A GPU goes on with what it was given meanwhile, so there it says at most how long the GPU had
    nothing to do for want of data.

    With `for_gpu` batches are handed over on the GPU, see `GpuCopy`.
    """

    def __init__(self, dataset: Dataset, stream: BatchStream, workers: int = 0) -> None:
        self.dataset, self.stream, self.workers = dataset, stream, workers
        self.batches_done, self.waited_s, self.for_gpu = 0, 0.0, False
        self.sampler = stream  # where Lightning looks for set_epoch
        self._batches: Batches | None = None

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Batches:
        self.stream.start = self.batches_done
        self._batches = self._timed(load_batches(self.dataset, self.stream, self.workers, self.stream.seed))
        return self._batches

    def _timed(self, batches: Batches) -> Batches:
        copied = GpuCopy() if self.for_gpu else None
        with closing(batches):
            while True:
                began = time.monotonic()
                try:
                    batch = next(batches, None)
                    if copied and batch is not None:
                        batch = copied(batch)
                finally:
                    self.waited_s += time.monotonic() - began
                if batch is None:
                    return
                yield batch

    def close(self) -> None:
        """End the workers of the last iteration."""
        if self._batches is not None:
            self._batches.close()

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches that are done; Lightning saves it with the state of its loop."""
        return {"batches_done": self.batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were done."""
        self.batches_done = state["batches_done"]


class GpuCopy:
    """Copies batches to the GPU of this process while it works on the steps before them.

    A training loop that does not wait for its GPU asks for a batch before the last step is done. In the order of that
    step's work the copy would come after it, so it has a stream of its own, and page-locked memory to read from: a copy
    from any other waits (https://docs.pytorch.org/docs/stable/notes/cuda.html, "Use pinned memory buffers").
    """

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.stream = torch.cuda.Stream(self.device)

    def __call__(self, batch: Sample) -> Sample:
        """Return the batch with its tensors on the GPU; what is asked of them from now on waits for the copy."""
        with torch.cuda.stream(self.stream):
            copied = to_device(pin_memory(batch), self.device, non_blocking=True)
        working = torch.cuda.current_stream(self.device)
        working.wait_stream(self.stream)
        # Memory of the one stream is given out again by that one, unless it is told who still reads it.
        for value in copied:
            if isinstance(value, torch.Tensor):
                value.record_stream(working)
        return copied


def load_units(dataset: Dataset, units: Sequence[Sequence[int]], workers: int = 0) -> Batches:
    """Load `units` (lists of dataset indices, one shape each) in their order, one batch per unit."""
    return load_batches(dataset, [list(unit) for unit in units], workers, seed=0)


class UnitLoader:
    """Loads the part of `units` that is this process's, at least one; parts are neighbours, of about equal cost.

    A process without any repeats one, so that all take part in what is computed together; count slices by their
    (volume, slice). It is no `DataLoader`, so that no Trainer hands out its units a second time.

    Args:
        dataset, units, workers: As for `load_units`.
        costs: Of each unit, in any measure.
        rank, world_size: Which of how many processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        units: Sequence[Sequence[int]],
        workers: int = 0,
        costs: Sequence[float] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset, self.workers = dataset, workers
        owners = share_neighbours(costs or [1.0] * len(units), world_size)
        shares = [[unit for unit, owner in zip(units, owners, strict=True) if owner == r] for r in range(world_size)]
        self.units = shares[rank] or list(units[:1])
        self.n_rounds = max(len(self.units), *map(len, shares))

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Batches:
        return load_units(self.dataset, self.units, self.workers)


def load_batches(dataset: Dataset, batches: Iterable[Any], workers: int, seed: int) -> Batches:
    """Collate each of `batches` (lists of indices of `dataset`) in turn; closing the iterator ends its workers.

    Args:
        dataset: Map-style (https://docs.pytorch.org/docs/stable/data.html).
        batches: May be long; it is read as far as workers read ahead.
        workers: Processes that read ahead; 0: this one reads.
        seed: Of the workers' global random generators.

    Raises:
        WorkFailedError: A worker process ended by itself.
        Exception: What a worker met, as it would be raised here; its traceback is the cause.
    """
    loader = DataLoader(
        _Batches(dataset),
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=partial(_heed_only_the_parent, os.getpid()),
        generator=torch.Generator().manual_seed(seed),
    )
    if not workers:
        yield from loader
        return
    _require_files(workers)
    _require_memory(workers)
    _require_shared_memory(workers)
    with _signals_wait():
        arriving: Any = iter(loader)
    packed: Any = None
    try:
        for packed in arriving:
            if isinstance(packed, _Failure):
                raise packed.error from _InWorkerError(packed.where)
            yield _unpacked(packed)
    except RuntimeError as error:
        # torch says that a worker ended, but of which signal only where it had been told of that first
        killed = [(worker.pid, -worker.exitcode) for worker in arriving._workers if (worker.exitcode or 0) < 0]
        if killed:
            pid, number = killed[0]
            raise RuntimeError(
                f"DataLoader worker (pid {pid}) is killed by signal: {signal.strsignal(number)}."
            ) from error
        raise
    finally:
        arriving._shutdown_workers()
        # The traceback of an error in it would hold this frame, and with it torch's iterator, in a circle. Python would
        # undo that at any time later, and lose in the iterator's __del__ what torch says there of the next loader.
        packed = None


class _InWorkerError(Exception):
    """The traceback of a worker process, as the cause of the same error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Failure(NamedTuple):
    """An error of a worker, handed over in place of a batch."""

    error: Exception
    where: str  # the traceback


class _Batches(Dataset[Any]):
    """Whole batches by their lists of indices; from a worker as bytes.

    A worker packs its tensors itself. torch would do it in another thread of the worker, where an error (no room in
    /dev/shm, no free file descriptor) is printed, and the batch is waited for for ever.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, batch: Any) -> Any:
        if get_worker_info() is None:
            return collate([self.dataset[i] for i in batch])
        try:
            return bytes(ForkingPickler.dumps(collate([self.dataset[i] for i in batch])))
        except Exception as error:
            return _Failure(_picklable(error), traceback.format_exc())


def _as_it_is(batch: Any) -> Any:
    return batch


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # a class of its own, or with other arguments than its text
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _unpacked(packed: bytes) -> Any:
    """The batch; its tensors stay where they are, in memory shared with the worker."""
    try:
        return ForkingPickler.loads(packed)
    except (EOFError, ConnectionError, FileNotFoundError) as error:
        time.sleep(_LOOK_S)  # if the worker died, torch's handler of SIGCHLD says here of what
        if _files_left() < _FILES:
            raise WorkFailedError(few_files(" for its worker processes")) from error
        raise WorkFailedError("a worker process, which reads data, ended while it handed over a batch") from error
    except RuntimeError as error:
        if "items of ancdata" in str(error):  # a file descriptor that was sent found no place here
            raise WorkFailedError(few_files(" for its worker processes")) from error
        raise


def _require_files(workers: int) -> None:
    """Require room for the files of workers now: in the middle of work, threads of multiprocessing print a page."""
    needed = _FILES + _FILES_PER_WORKER * workers
    if (left := _files_left()) < needed:
        raise WorkFailedError(few_files(f" for {workers} worker processes: {left} are left, about {needed} are needed"))


def _require_memory(workers: int) -> None:
    """Require memory for the workers now: where it runs out later, the system kills any process, this one or another's.

    What is left is Linux's own estimate (MemAvailable, proc(5)); elsewhere nothing is required.
    """
    try:
        left = int(_MEM_AVAILABLE.findall(Path("/proc/meminfo").read_text())[0]) * 2**10
    except (OSError, IndexError):
        return
    if left < (needed := workers * _MEMORY_PER_WORKER):
        raise WorkFailedError(
            f"{left / 2**30:,.1f} GiB of memory are left, too little for {workers:,} worker processes (about "
            f"{needed / 2**30:,.1f} GiB); lower --workers (one per CPU core is enough), or free memory"
        )


def _require_shared_memory(workers: int) -> None:
    """Require shared memory for the locks of the workers' queues: a half-made loader prints a page as it dies."""
    try:
        locks = [multiprocessing.Semaphore() for _ in range(_LOCKS + _LOCKS_PER_WORKER * workers)]
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise WorkFailedError(full_shared_memory()) from error
    del locks


def _files_left() -> float:
    """Return the number of files that this process may still open; infinity where it is not known."""
    limit, here = resource.getrlimit(resource.RLIMIT_NOFILE)[0], Path("/proc/self/fd")
    if limit == resource.RLIM_INFINITY or not here.is_dir():
        return inf
    return limit - sum(1 for _ in here.iterdir())


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold signals back, so that a process born meanwhile gets none before it knows what to do with them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heed_only_the_parent(parent: int, _worker: int) -> None:
    """In a worker: end when the parent says so (SIGTERM) or is gone; leave everybody else's signals to it.

    Ctrl-C and a scheduler's signals reach every process of a job. A worker that died of one would end a training
    before its state is saved.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    tells_sender = {signal.SIGTERM} if hasattr(signal, "sigtimedwait") else set()  # it is not there on macOS
    if tells_sender:
        signal.pthread_sigmask(signal.SIG_BLOCK, tells_sender)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, set(STOP_SIGNALS) - tells_sender)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        came = signal.sigtimedwait({signal.SIGTERM}, _LOOK_S)
        if came and came.si_pid == parent:
            break
    os._exit(0)
