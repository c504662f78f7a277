import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from mrirecon.leases import Leases

NAMES = [f"run{i}" for i in range(20)]


def take_all(folder, won, barrier):
    leases = Leases(folder, 60)
    barrier.wait()
    for name in NAMES:
        if leases.take(name):
            won.put((name, os.getpid()))
    time.sleep(1.0)  # alive while the others look


def test_each_run_goes_to_one_of_many_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    won, barrier = context.Queue(), context.Barrier(4)
    processes = [context.Process(target=take_all, args=(tmp_path, won, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    taken = [won.get(timeout=20) for _ in NAMES]
    for process in processes:
        process.join()
    assert sorted(name for name, _ in taken) == sorted(NAMES)
    assert won.empty()


def test_a_lease_is_free_again_when_it_is_given_back(tmp_path):
    one, two = Leases(tmp_path, 60), Leases(tmp_path, 60)
    assert one.take("a")
    assert not two.take("a")
    with one.held("a"):
        assert two.seems_live("a")
    assert two.take("a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_lease_of_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mrirecon.leases import Leases; "
        "Leases(Path(sys.argv[1]), 60).take('a')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "a").exists()
    mine = Leases(tmp_path, 60)
    assert mine.is_dead("a")
    assert mine.take("a")
    assert json.loads((tmp_path / "a").read_text())["pid"] == os.getpid()


def test_a_process_number_used_again_is_not_the_old_process(tmp_path):
    leases = Leases(tmp_path, 60)
    assert leases.take("a")
    content = json.loads((tmp_path / "a").read_text())
    (tmp_path / "a").write_text(json.dumps(content | {"born": "1"}))
    assert leases.is_dead("a")


def dies_of_silence(leases, name, seconds):
    """Whether a lease is taken over within so many seconds of looking."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if leases.take(name):
            return True
        time.sleep(0.02)
    return False


def test_a_process_of_this_host_that_hangs_is_taken_over_too(tmp_path):
    assert Leases(tmp_path, 60).take("a")  # this process, which lives, but does not touch the file
    other = Leases(tmp_path, 0.3)
    assert not other.take("a")
    assert dies_of_silence(other, "a", 5)


def test_who_lost_a_lease_does_not_keep_its_successors_alive(tmp_path):
    old, new = Leases(tmp_path, 0.6), Leases(tmp_path, 0.6)
    assert old.take("a")
    with old.held("a"):
        (tmp_path / "a").unlink()
        assert new.take("a")
        os.utime(tmp_path / "a", (1, 1))
        time.sleep(0.4)
        assert (tmp_path / "a").stat().st_mtime == 1
    assert (tmp_path / "a").exists()


def foreign(tmp_path, age):
    """A lease of another host, touched `age` seconds ago by the clock of the file system."""
    path = tmp_path / "a"
    path.write_text(json.dumps({"host": "elsewhere", "space": "", "pid": 1, "born": "1", "token": "t"}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


YEAR = 365 * 86400


@pytest.mark.parametrize("age", [0, 3600, -3600, -YEAR])
def test_the_lease_of_another_host_dies_of_silence_whatever_its_date(tmp_path, age):
    """Clocks of hosts and servers may be wrong by hours, in both directions."""
    foreign(tmp_path, age)
    leases = Leases(tmp_path, 0.3)
    assert not leases.is_dead("a")
    assert not leases.take("a")
    assert dies_of_silence(leases, "a", 5)


@pytest.mark.parametrize("age", [0, 3600, -3600])
def test_a_lease_that_changes_is_never_taken_over_whatever_its_date(tmp_path, age):
    foreign(tmp_path, age)
    leases, path = Leases(tmp_path, 0.3), tmp_path / "a"
    date = path.stat().st_mtime
    for beat in range(40):  # of a holder whose clock is wrong, for four times the limit
        os.utime(path, (date + beat, date + beat))
        assert not leases.take("a")
        time.sleep(0.03)
    assert leases.is_beating("a")


def test_a_stall_of_who_looks_is_no_silence_of_the_holder(tmp_path, monkeypatch):
    """The file server was away for an hour: neither could do anything meanwhile."""
    foreign(tmp_path, 5)
    leases = Leases(tmp_path, 60)
    assert not leases.take("a")
    later = time.monotonic() + 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not leases.take("a")


@pytest.mark.parametrize(("age", "seems"), [(5, True), (59, True), (61, False), (-5, True), (-3600, False)])
def test_for_a_table_a_single_look_at_the_date_has_to_do(tmp_path, age, seems):
    foreign(tmp_path, age)
    assert Leases(tmp_path, 60).seems_live("a") == seems


def test_the_date_is_compared_with_the_clock_of_the_files_not_of_this_machine(tmp_path, monkeypatch):
    foreign(tmp_path, 5)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert Leases(tmp_path, 60).seems_live("a")


def test_who_lost_a_lease_is_told(tmp_path):
    old, new = Leases(tmp_path, 0.3), Leases(tmp_path, 60)
    assert old.take("a")
    with old.held("a"):
        time.sleep(0.2)
        assert not old.lost.is_set()
        (tmp_path / "a").unlink()
        assert new.take("a")
        assert old.lost.wait(5)


def no_link(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_link)
    one, two = Leases(tmp_path, 60), Leases(tmp_path, 60)
    assert one.take("a")
    assert not two.take("a")
    one.release("a")
    assert two.take("a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_held_leases_are_touched(tmp_path):
    leases = Leases(tmp_path, 0.6)
    assert leases.take("a")
    os.utime(tmp_path / "a", (1, 1))
    with leases.held("a"):
        time.sleep(0.4)
        assert (tmp_path / "a").stat().st_mtime > 1
    assert not (tmp_path / "a").exists()


def gone(tmp_path):
    """A lease that a dead process of this host left."""
    assert Leases(tmp_path, 60).take("a")
    content = json.loads((tmp_path / "a").read_text())
    (tmp_path / "a").write_text(json.dumps(content | {"born": "1", "token": "t"}))


def test_a_dead_lease_is_removed_by_one_worker_only(tmp_path):
    gone(tmp_path)
    one, two = Leases(tmp_path, 60), Leases(tmp_path, 60)
    assert one.take("a")
    assert not two.take("a")
    assert json.loads((tmp_path / "a").read_text())["token"] == one.token


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_lease_survives_a_worker_that_came_late(tmp_path, monkeypatch, has_links):
    """Two workers find the same dead lease; the second acts on what it read before the first took over."""
    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    gone(tmp_path)
    late, quick = Leases(tmp_path, 60), Leases(tmp_path, 60)
    real = late._remove

    def slowly(path, dead):
        assert quick.take("a")
        return real(path, dead)

    late._remove = slowly
    assert not late.take("a")
    assert json.loads((tmp_path / "a").read_text())["token"] == quick.token
