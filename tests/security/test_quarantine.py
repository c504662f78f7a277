"""A file whose reading crashes, hangs or fills the memory is named; the process lives and goes on with the others."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from mrirecon import progress
from mrirecon.data.folders import check
from mrirecon.data.folders.check import check_layout, check_volumes, examine_all
from mrirecon.data.hdf5 import opening
from mrirecon.data.hdf5.limits import GIB
from mrirecon.data.hdf5.opening import reading
from mrirecon.data.hdf5.quarantine import Job, Patience, examine
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError

SHORT, BRIEF = Patience(0.3, 5), Patience(5, 0.5)


def segfault(_alive):
    ctypes.string_at(0)


def by_hand(number):
    return lambda _alive: os.kill(os.getpid(), number)


def spin(_alive):
    while True:
        pass


def sleep(_alive):
    time.sleep(60)


def hoard(_alive):
    return {"n": len([np.empty(GIB // 8) for _ in range(3)])}


def refuse(_alive):
    raise InputError("b.h5: is bad; copy it again")


def fine(_alive):
    return {"pid": os.getpid()}


DEATHS = {
    "SIGSEGV": (segfault, "damaged, reading it ended a test process with SIGSEGV; copy it again"),
    "SIGABRT": (by_hand(signal.SIGABRT), "ended a test process with SIGABRT"),
    "SIGBUS": (by_hand(signal.SIGBUS), "ended a test process with SIGBUS"),
    "SIGKILL": (by_hand(signal.SIGKILL), "ended a test process with SIGKILL"),
    "exit": (lambda _alive: os._exit(3), "ended a test process with exit code 3"),
    "spinning": (spin, "did not end within 0.3 s of computing"),
    "sleeping": (sleep, "no answer for 0.5 s"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_every_death_is_one_line_and_the_next_file_is_looked_at(death):
    kill, says = DEATHS[death]
    first, bad, refused, last = examine(
        [
            Job("a.h5", fine),
            Job("x.h5", kill, BRIEF if death == "sleeping" else SHORT),
            Job("b.h5", refuse),
            Job("c.h5", fine),
        ]
    )
    assert isinstance(bad, InputError)
    assert str(bad).startswith("x.h5: ")
    assert says in str(bad)
    assert "\n" not in str(bad)
    assert str(refused) == "b.h5: is bad; copy it again"
    assert len({os.getpid(), first["pid"], last["pid"]}) == 3  # another child after the death


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_is_the_parents_to_answer_makes_no_file_a_damaged_one(number):
    """A scheduler sends its request to save to every process of a job, at any moment."""

    def asked(_alive):
        os.kill(os.getpid(), number)
        return {"pid": os.getpid()}

    first, last = examine([Job("x.h5", asked), Job("y.h5", fine)])
    assert first == last


def test_one_child_looks_at_many_files():
    found = list(examine([Job(str(i), fine) for i in range(20)]))
    assert len({answer["pid"] for answer in found}) == 1
    assert os.getpid() not in {answer["pid"] for answer in found}


def test_memory_is_limited_beside_what_the_process_has():
    held = np.ones(GIB // 32)  # the parent's own is not counted
    with pytest.raises(RuntimeError, match="MemoryError"):  # which `reading` makes one line of
        list(examine([Job("x.h5", hoard, memory_bytes=GIB)]))
    assert list(examine([Job("x.h5", hoard, memory_bytes=4 * GIB)])) == [{"n": 3}]
    assert held[0] == 1


def test_a_file_that_asks_for_too_much_memory_is_named(volume_writer, tmp_path, monkeypatch):
    volume = Volume(volume_writer(tmp_path / "v.h5"))
    check_layout([volume])
    read = Volume._read

    def greedy(self, key, i):
        with reading(self.name):
            return read(self, key, i) * (np.empty(GIB).size > 0)

    monkeypatch.setattr(Volume, "_read", greedy)
    with pytest.raises(InputError) as caught:
        check_volumes([volume])
    assert str(caught.value) == "v.h5: there is no memory to read it; free some, or copy the file again"


def test_signs_of_life_give_more_time():
    def slow(alive):
        for _ in range(4):
            time.sleep(0.3)
            alive()
        return {}

    assert list(examine([Job("a.h5", slow, BRIEF)])) == [{}]


def test_a_slow_reader_of_the_answers_is_no_time_out():
    answers = examine([Job(str(i), lambda _alive: {"text": "x" * 40_000}, BRIEF) for i in range(6)])
    for _ in answers:
        time.sleep(0.3)  # the pipe is full meanwhile


def test_what_ends_early_leaves_no_process():
    answers = examine([Job("a.h5", fine), Job("b.h5", sleep)])
    pid = next(answers)["pid"]
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_error_of_the_program_is_not_blamed_on_the_file():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(examine([Job("a.h5", lambda _alive: {"x": 1 / 0})]))


def test_threads_of_the_parent_bring_no_warning_and_no_deadlock(volume_writer, tmp_path):
    """Python 3.12 warns of a fork beside threads; h5py's own lock must be free in the child."""
    path, stop = volume_writer(tmp_path / "v.h5"), threading.Event()
    busy = Volume(path)

    def read():
        while not stop.is_set():
            busy.kspace(0)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(5):
                check_volumes([Volume(path)])
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_nothing_of_the_childs_is_printed_and_nothing_printed_twice():
    code = """
import ctypes, faulthandler, sys
from mrirecon.data.hdf5.quarantine import Job, examine
faulthandler.enable()
print("once", end="")  # in the buffer while the child is forked
def look(alive):
    print("child"); print("child", file=sys.stderr, flush=True)
    ctypes.CDLL(None).abort()
print(list(examine([Job("x.h5", look)])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("once") == 1
    assert "SIGABRT" in done.stdout
    assert "child" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_no_core_is_left():
    def limit(_alive):
        return {"core": resource.getrlimit(resource.RLIMIT_CORE)}

    assert list(examine([Job("a.h5", limit)])) == [{"core": [0, 0]}]


def test_open_files_do_not_cross_the_fork(volume_writer, tmp_path):
    path = volume_writer(tmp_path / "v.h5")
    Volume(path).kspace(0)
    assert opening._open

    def n_open(_alive):
        return {"n": len(opening._open)}

    assert list(examine([Job("a.h5", n_open)])) == [{"n": 0}]


def test_the_child_finds_what_the_process_itself_reads(volume_writer, tmp_path):
    paths = [
        volume_writer(tmp_path / "a.h5", mask=np.arange(40) % 3 == 0, attrs={"text": "ä\n", "list": [1, 2], "f": 0.1}),
        volume_writer(tmp_path / "b.h5", n_coils=1, padding=(3, 2), target=False, attrs={"nan": np.nan}),
    ]
    checked = [Volume(path) for path in paths]
    check_volumes(checked)
    for volume, alone in zip(checked, map(Volume, paths), strict=True):
        assert volume.is_read
        assert volume.n_searched == 3
        assert volume.data_range == alone.data_range
        theirs, own = volume.facts, alone.facts
        assert repr(theirs.attrs) == repr(own.attrs)
        np.testing.assert_array_equal(theirs.file_mask, own.file_mask)
        for name in ("shape", "single_coil", "header", "image_shape", "target_key", "n_bytes"):
            assert getattr(theirs, name) == getattr(own, name), name
            assert type(getattr(theirs, name)) is type(getattr(own, name)), name


def test_after_the_check_this_process_reads_no_description_again(volume_writer, tmp_path, monkeypatch):
    volume = Volume(volume_writer(tmp_path / "v.h5"))
    check_volumes([volume])
    monkeypatch.setattr("mrirecon.data.volume.read_facts", None)
    monkeypatch.setattr(Volume, "_read", None)
    assert volume.shape[0] == 3
    assert volume.data_range > 0
    check_volumes([volume])


def test_all_bad_files_are_named_among_deaths(volume_writer, tmp_path, monkeypatch):
    for name in "abc":
        volume_writer(tmp_path / f"{name}.h5", n_slices=1, matrix=(16, 16))
    read = check._describe

    def deadly(volume, alive):
        if volume.name == "b.h5":
            segfault(alive)
        return read(volume, alive)

    monkeypatch.setattr(check, "_describe", deadly)
    (tmp_path / "d.h5").write_bytes(b"x")
    volumes = [Volume(tmp_path / f"{name}.h5") for name in "abcd"]
    with pytest.raises(InputError) as caught:
        check_layout(volumes)
    first, second = str(caught.value).splitlines()
    assert first.startswith("b.h5: damaged, reading it ended a test process with SIGSEGV")
    assert second.startswith("d.h5: is not an HDF5 file")
    assert [volume.is_read for volume in volumes] == [True, False, True, False]


def test_progress_is_shown(capsys):
    progress.quiet = False
    examine_all([Job("a.h5", fine)] * 3, lambda _i, _found: None, "files", is_long=True)
    assert "checking files: 3 file" in capsys.readouterr().err


def test_many_files_are_dealt_out_to_several_children():
    bad = {7: segfault, 100: refuse, 101: by_hand(signal.SIGKILL)}
    look = [bad.get(i, lambda _alive, i=i: {"pid": os.getpid(), "i": i}) for i in range(150)]
    found = list(examine([Job(f"{i}.h5", one) for i, one in enumerate(look)]))
    assert [i for i, answer in enumerate(found) if isinstance(answer, InputError)] == sorted(bad)
    assert str(found[7]).startswith("7.h5: damaged")
    assert all(answer["i"] == i for i, answer in enumerate(found) if i not in bad)
    assert len({answer["pid"] for i, answer in enumerate(found) if i not in bad}) == 4 + 2  # after two deaths


@pytest.mark.parametrize(("memory", "n"), [(GIB, 4), (3 * GIB, 2), (9 * GIB, 1)])
def test_children_that_work_side_by_side_share_the_memory(memory, n):
    found = list(examine([Job(str(i), fine, memory_bytes=memory) for i in range(150)]))
    assert len({answer["pid"] for answer in found}) == n


def test_files_on_a_slow_server_are_waited_for_side_by_side():
    began = time.monotonic()
    assert len(list(examine([Job(str(i), lambda _alive: time.sleep(0.02) or {}) for i in range(150)]))) == 150
    assert time.monotonic() - began < 0.7 * 150 * 0.02


def test_children_go_when_nobody_wants_their_answers():
    answers = examine([Job(str(i), lambda _alive: {"pid": os.getpid(), "much": "x" * 10_000}) for i in range(150)])
    children = [next(answers)["pid"] for _ in range(5)]
    answers.close()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
