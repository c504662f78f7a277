"""What goes wrong in a worker process is told as in the main process, and no worker outlives its loader."""

import gc
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mrirecon.cli.command import run_safely
from mrirecon.data.loading.batch_order import BatchStream
from mrirecon.data.loading.loaders import StreamLoader, UnitLoader, load_batches
from mrirecon.errors import DivergedError, InputError, WorkFailedError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Strange(Exception):
    """No pickle brings it back: it is made of two things."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


ERRORS = {
    "input": (InputError("a.h5: kspace holds NaN; repair the file"), 2, "a.h5: kspace holds NaN; repair the file"),
    "two lines": (InputError("a.h5: bad\nb.h5: bad"), 2, "a.h5: bad\nb.h5: bad"),
    "work": (WorkFailedError("it did not work"), 1, "it did not work"),
    "diverged": (DivergedError("lost", step=7), 1, "lost"),
    "bug": (KeyError("gone"), 1, "KeyError: 'gone' (--debug shows where)"),
    "strange": (Strange("x", "y"), 1, "RuntimeError: Strange: x and y (--debug shows where)"),
    "memory": (MemoryError(), 1, "there is no memory left; free some, or lower --batch-size or --workers"),
    "path": (
        PermissionError(13, "Permission denied", "/data/a.h5"),
        2,
        "/data/a.h5: permission denied; change its rights (chmod), or choose another place (-o, --output)",
    ),
}


class Items(torch.utils.data.Dataset):
    """Tensors by their number; `spoil` is called with the number before."""

    def __init__(self, spoil=lambda _i: None, shape=(8, 8)):
        self.spoil, self.shape = spoil, shape

    def __getitem__(self, i):
        i = i[0] if isinstance(i, tuple) else i
        self.spoil(i)
        return torch.full(self.shape, float(i)), i, f"v{i}"


def failing(error, at=5):
    def spoil(i):
        if i == at:
            raise error

    return Items(spoil)


def numbers(batches):
    return [batch[1].tolist() for batch in batches]


def said(work, capsys):
    code = run_safely(work, debug=False)
    return code, capsys.readouterr().err


@contextmanager
def seconds_less_than(limit):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_whole_and_in_order(workers):
    batches = list(load_batches(Items(), [[3, 4], [0], [5, 2, 1]], workers, seed=0))
    assert numbers(batches) == [[3, 4], [0], [5, 2, 1]]
    assert [batch[2] for batch in batches] == [("v3", "v4"), ("v0",), ("v5", "v2", "v1")]
    assert all(torch.equal(images.amax((1, 2)), index.float()) for images, index, _ in batches)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_told_the_same_wherever_it_happened(capsys, name, workers):
    error, code, text = ERRORS[name]
    if name == "strange" and not workers:
        text = "Strange: x and y (--debug shows where)"
    dataset = failing(error)
    with seconds_less_than(10):
        assert said(lambda: list(load_batches(dataset, [[i] for i in range(9)], workers, 0)), capsys) == (
            code,
            f"mrirecon: {text}\n",
        )
    assert not multiprocessing.active_children()


def test_what_an_error_carries_comes_along():
    with pytest.raises(DivergedError) as caught:
        list(load_batches(failing(DivergedError("lost", step=7)), [[5]], 1, 0))
    assert caught.value.step == 7


def test_debug_shows_where_in_the_worker(capsys):
    assert run_safely(lambda: list(load_batches(failing(KeyError("gone")), [[5]], 1, 0)), debug=True) == 1
    err = capsys.readouterr().err
    assert "in spoil\n    raise error\n" in err
    assert err.count("mrirecon: ") == 1


def test_batches_before_the_error_are_handed_out():
    batches = load_batches(failing(InputError("x")), [[i] for i in range(9)], 2, 0)
    assert [next(batches)[1].item() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="^x$"):
        next(batches)
    assert not multiprocessing.active_children()


def test_nothing_of_a_failed_loader_waits_for_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(InputError):
            list(load_batches(failing(InputError("x")), [[i] for i in range(9)], 2, 0))
        assert not [x for x in gc.get_objects() if type(x) is _MultiProcessingDataLoaderIter]
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["stop", "error"])
def test_workers_go_when_the_reader_does(how):
    def read():
        with closing(iter(UnitLoader(Items(), [[i] for i in range(99)], 2))) as batches:
            next(batches)
            assert len(multiprocessing.active_children()) == 2
            if how == "error":
                raise WorkFailedError("elsewhere")

    with seconds_less_than(10):
        if how == "error":
            with pytest.raises(WorkFailedError):
                read()
        else:
            read()
    assert not multiprocessing.active_children()


def test_a_stream_is_closed_by_its_loader():
    loader = StreamLoader(Items(), BatchStream([(8, 8)] * 64, 2), workers=2)
    loader.close()  # before it was read
    next(iter(loader))
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert not multiprocessing.active_children()


def test_a_process_that_forgot_its_loader_ends(tmp_path):
    script = (
        "import sys, torch\n"
        "from mrirecon.data.loading.loaders import load_batches\n"
        "class Items(torch.utils.data.Dataset):\n"
        "    def __getitem__(self, i):\n"
        "        return torch.tensor(i)\n"
        "batches = load_batches(Items(), [[i] for i in range(99)], 2, 0)\n"
        "next(batches)\n"
        "import multiprocessing, json\n"
        "print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)\n"
        "sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    workers = json.loads(done.stdout)
    assert len(workers) == 2
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


class OwnNumber(torch.utils.data.Dataset):
    def __getitem__(self, _i):
        return torch.tensor(os.getpid())


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="signals do not tell who sent them here")
def test_workers_heed_nobody_but_their_parent():
    with closing(load_batches(OwnNumber(), [[i] for i in range(40)], 1, 0)) as batches:
        worker = int(next(batches))
        for number in STOPPING * 2:  # a scheduler's, or a terminal's
            subprocess.run(["kill", f"-{number.name[3:]}", str(worker)], check=True)
        time.sleep(0.2)
        assert {int(next(batches)) for _ in range(20)} == {worker}
        (process,) = multiprocessing.active_children()
        process.terminate()
        process.join(5)
        assert process.exitcode == 0


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_to_a_worker_that_is_being_born(monkeypatch, number):
    """Whoever signals the whole group at that moment does not kill it."""
    prepare = torch.utils.data._utils.signal_handling._set_worker_signal_handlers

    def prepared():
        prepare()
        subprocess.run(["kill", f"-{number.name[3:]}", str(os.getpid())], check=True)

    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_set_worker_signal_handlers", prepared)
    assert numbers(load_batches(Items(), [[i] for i in range(6)], 2, 0)) == [[i] for i in range(6)]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "a worker process, which reads data, was killed (Killed)"),
        (signal.SIGSEGV, "a worker process, which reads data, was killed (Segmentation fault)"),
        (signal.SIGBUS, "/dev/shm, through which worker processes hand over their batches, is full"),
    ],
)
def test_a_worker_that_is_killed(capfd, number, words):
    def spoil(i):
        if i == 5:
            os.kill(os.getpid(), number)

    with seconds_less_than(20):
        code = run_safely(lambda: list(load_batches(Items(spoil), [[i] for i in range(9)], 2, 0)), debug=False)
    line = capfd.readouterr().err.splitlines()[-1].strip("\0")  # with which torch ends its own line
    assert code == 1
    assert line.startswith(f"mrirecon: {words}")
    assert line.endswith("lower --workers or --batch-size")
    assert not multiprocessing.active_children()


def test_a_worker_that_exits(capfd):
    def spoil(i):
        if i == 5:
            os._exit(4)

    code = run_safely(lambda: list(load_batches(Items(spoil), [[i] for i in range(9)], 2, 0)), debug=False)
    assert code == 1
    assert capfd.readouterr().err.startswith("mrirecon: a worker process, which reads data, ended ")
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_too_few_file_descriptors(capsys):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        code, err = said(lambda: list(load_batches(Items(), [[i] for i in range(9)], 8, 0)), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert code == 1
    assert err.startswith("mrirecon: a process may have 64 files open (ulimit -n), too few for 8 worker processes")
    assert err.endswith("raise the limit (ulimit -n 4096) or lower --workers\n")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("room", [20, 26, 32])
def test_file_descriptors_that_run_out_in_between(capfd, monkeypatch, room):
    """Where they seemed enough: the last line says what was short."""
    monkeypatch.setattr("mrirecon.data.loading.loaders._FILES", 0)
    monkeypatch.setattr("mrirecon.data.loading.loaders._FILES_PER_WORKER", 0)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (here + room, before[1]))
    try:
        with seconds_less_than(20):
            kept = []
            code = run_safely(lambda: kept.extend(load_batches(Items(), [[i] for i in range(60)], 2, 0)), debug=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    line = capfd.readouterr().err.splitlines()[-1]
    assert code == 1
    assert line.startswith(f"mrirecon: a process may have {here + room} files open (ulimit -n), too few")
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 1000000 worker processes")
@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="only Linux says how much memory is left")
def test_more_workers_than_there_is_memory_for(capsys, monkeypatch):
    """None of them is started: the system would kill any process for them, perhaps somebody else's."""
    monkeypatch.setattr("mrirecon.data.loading.loaders._require_files", lambda _workers: None)
    code, err = said(lambda: list(load_batches(Items(), [[i] for i in range(9)], 10**6, 0)), capsys)
    assert code == 1
    assert re.fullmatch(
        r"mrirecon: [\d.,]+ GiB of memory are left, too little for 1,000,000 worker processes \(about 97,656.2 GiB\); "
        r"lower --workers \(one per CPU core is enough\), or free memory\n",
        err,
    )
    assert not multiprocessing.active_children()


def small_shared_memory(script, size="8m"):
    """Run Python where /dev/shm is that small."""
    mounted = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh", sys.executable]
    try:
        probe = subprocess.run([*command, "-c", ""], capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no program unshare")
    if probe.returncode:
        pytest.skip("needs the right to mount a small /dev/shm")
    return subprocess.run([*command, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_too_little_shared_memory():
    script = (
        "import sys, torch\n"
        "from mrirecon.cli.command import run_safely\n"
        "from mrirecon.data.loading.loaders import load_batches\n"
        "class Images(torch.utils.data.Dataset):\n"
        "    def __getitem__(self, i):\n"
        "        return torch.zeros(640, 320)\n"
        "batches = [list(range(16))] * 9\n"
        "sys.exit(run_safely(lambda: list(load_batches(Images(), batches, 2, 0)), debug=False))\n"
    )
    with seconds_less_than(30):
        done = small_shared_memory(script)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == (
        "mrirecon: /dev/shm, through which worker processes hand over their batches, is full: it has 8 MiB; "
        "enlarge it (docker run --shm-size 8g), or lower --workers or --batch-size"
    )


def test_no_shared_memory_for_the_locks_of_workers_is_told_in_one_line_too():
    """It is no full disk, and torch prints nothing about the half of a loader that it had made."""
    script = (
        "import sys, torch\n"
        "from mrirecon.cli.command import run_safely\n"
        "from mrirecon.data.loading.loaders import load_batches\n"
        "images = torch.utils.data.TensorDataset(torch.zeros(4, 2))\n"
        "sys.exit(run_safely(lambda: list(load_batches(images, [[0, 1]] * 2, 2, 0)), debug=False))\n"
    )
    done = small_shared_memory(script, "16k")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("mrirecon: /dev/shm, through which worker processes hand over their batches, is full")
