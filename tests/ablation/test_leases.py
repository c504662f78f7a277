import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from mrirecon.ablation.leases import Leases

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
        assert two.is_live("a")
    assert two.take("a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_lease_of_a_dead_process_of_this_host_is_taken_over_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mrirecon.ablation.leases import Leases; "
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


def test_a_process_of_this_host_that_hangs_is_taken_over_too(tmp_path):
    assert Leases(tmp_path, 60).take("a")  # this process, which lives, but does not touch the file
    now = (tmp_path / "a").stat().st_mtime
    other = Leases(tmp_path, 60)
    assert not other.take("a")
    os.utime(tmp_path / "a", (now - 61, now - 61))
    assert other.take("a")


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


@pytest.mark.parametrize(("age", "dead"), [(5, False), (59, False), (61, True), (600, True)])
def test_the_lease_of_another_host_dies_of_age(tmp_path, age, dead):
    foreign(tmp_path, age)
    leases = Leases(tmp_path, 60)
    assert leases.is_dead("a") == dead
    assert leases.take("a") == dead


def test_age_is_by_the_clock_of_the_files_not_of_this_machine(tmp_path, monkeypatch):
    foreign(tmp_path, 5)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not Leases(tmp_path, 60).is_dead("a")


def test_held_leases_are_touched(tmp_path):
    leases = Leases(tmp_path, 0.6)
    assert leases.take("a")
    os.utime(tmp_path / "a", (1, 1))
    with leases.held("a"):
        time.sleep(0.4)
        assert (tmp_path / "a").stat().st_mtime > 1
    assert not (tmp_path / "a").exists()


def test_a_dead_lease_is_removed_by_one_worker_only(tmp_path):
    foreign(tmp_path, 600)
    one, two = Leases(tmp_path, 60), Leases(tmp_path, 60)
    assert one.take("a")
    assert not two.take("a")
    assert json.loads((tmp_path / "a").read_text())["token"] == one.token


def test_a_new_lease_survives_a_worker_that_came_late(tmp_path):
    """Two workers find the same dead lease; the second acts on what it read before the first took over."""
    foreign(tmp_path, 600)
    late, quick = Leases(tmp_path, 60), Leases(tmp_path, 60)
    real = late._remove

    def slowly(path, dead):
        assert quick.take("a")
        return real(path, dead)

    late._remove = slowly
    assert not late.take("a")
    assert json.loads((tmp_path / "a").read_text())["token"] == quick.token
