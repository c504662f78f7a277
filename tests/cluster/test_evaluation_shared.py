"""Several processes evaluate what one evaluates: the same tables, figures and files, each slice computed once."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from ranks_of_a_test import run_ranks
from shared_evaluations import CASES, SLICES, evaluate_cases, reconstruct_all, write_data, write_run

from mrirecon.data.loading.loaders import share_neighbours, share_whole


@pytest.fixture(scope="module")
def root(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("shared")
    write_data(root / "data", volume_writer)
    write_run(root / "run", root / "data")
    return root


@pytest.fixture(scope="module")
def alone(root):
    import torch

    threads = torch.get_num_threads()
    computed = evaluate_cases(str(root), str(root / "alone"), list(CASES))
    assert reconstruct_all(str(root), str(root / "alone-images")) == len(SLICES)
    torch.set_num_threads(threads)
    return computed


_OF_SOME = ("regions", "calibration")  # parts of a summary


def table(folder: Path):
    """All columns but the time, as text: equality is bit for bit."""
    with (folder / "volumes.csv").open() as handle:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(handle)]


def files(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_tables_figures_and_files_are_those_of_one_process(root, alone, n):
    computed = run_ranks(n, "shared_evaluations:evaluate_and_reconstruct", str(root), str(root / f"of{n}"), list(CASES))
    assert_same_images(root / "alone-images", root / f"of{n}-images")
    assert {row["object"] for row in table(root / "alone" / "few")} == {"object_mask", "threshold-v1"}
    assert "zf_hfen" in table(root / "alone" / "few")[0]
    for case in CASES:
        one, many = root / "alone" / case, root / f"of{n}" / case
        assert table(one) == table(many), case
        assert len(table(one)) > 0
        assert all(row["ssim_object"] != "nan" for row in table(one))
        assert files(one) == files(many)
        assert not [path for path in many.parent.iterdir() if path.name.startswith(".")]  # nothing half-written
        for path in (one / "figures").iterdir():
            assert path.read_bytes() == (many / "figures" / path.name).read_bytes()
        for path in (one / "reconstructions").rglob("*.h5"):
            with h5py.File(path) as a, h5py.File(many / path.relative_to(one)) as b:
                assert np.array_equal(a["reconstruction"], b["reconstruction"])
        first, second = (json.loads((folder / "summary.json").read_text()) for folder in (one, many))
        assert first["overall"] == second["overall"]
        assert [first.get(key) for key in _OF_SOME] == [second.get(key) for key in _OF_SOME]
        if case == "several":
            assert all(first[key] for key in _OF_SOME)
            assert (one / "regions.csv").read_text() == (many / "regions.csv").read_text()
        once = Counter(map(tuple, alone[case]))
        shared = Counter(pair for own in computed for pair in map(tuple, own[case]))
        assert shared == once, case  # every slice on one process, once for each mask draw
        assert len(second["processes"]) == n
        assert sum(process["slices"] for process in second["processes"]) == sum(once.values())


def test_more_processes_than_work_leave_some_idle(root, alone):
    computed = run_ranks(3, "shared_evaluations:evaluate_cases", str(root), str(root / "idle"), ["one-save"])
    assert [len(own["one-save"]) for own in computed].count(0) == 2
    assert table(root / "idle" / "one-save") == table(root / "alone" / "one-save")


def test_the_command_shares_the_work(root, alone):
    """With processes that it starts itself."""
    words = [f"{root}/run", "--data", f"{root}/data", "--output", f"{root}/by-command", "--split", "all"]
    words += ["--devices", "2", "--device", "cpu", "--threads", "1", "--batch-size", "3"]
    done = subprocess.run([sys.executable, "-m", "mrirecon", "evaluate", *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"volumes.csv") <= 1  # the first one speaks
    assert table(root / "by-command") == table(root / "alone" / "batch")
    assert len(json.loads((root / "by-command" / "summary.json").read_text())["processes"]) == 2


@pytest.mark.slow
def test_memory_of_a_process_does_not_grow_with_the_data(tmp_path, volume_writer):
    """K-space of a volume has 34 MB; each process gets 2 volumes of 4, or 8 of 16."""
    peaks = {}
    for n in (4, 16):
        for i in range(n):
            volume_writer(tmp_path / f"of{n}" / f"{i}.h5", n_slices=8, n_coils=4, matrix=(256, 256), seed=i)
        words = ["zero-filled", "--data", f"{tmp_path}/of{n}", "--output", f"{tmp_path}/out{n}", "--split", "all"]
        command = [sys.executable, "-m", "mrirecon", "evaluate", *words, "--devices", "2", "--device", "cpu"]
        subprocess.run(command, check=True, capture_output=True)
        processes = json.loads((tmp_path / f"out{n}" / "summary.json").read_text())["processes"]
        peaks[n] = max(process["peak_mib"] for process in processes)
    assert peaks[16] < peaks[4] + 40, peaks


def test_processes_that_are_stopped_say_so_alike(root, tmp_path):
    """One in the middle of its volume, one that had none to do and waits."""
    said = run_ranks(2, "shared_evaluations:stopped_reconstruction", str(root), str(tmp_path / "out"))
    assert said == ["stopped by SIGTERM after 0 of 1 volumes, which are kept; go on with the same command"] * 2
    assert files(tmp_path / "out") == []


def assert_same_images(one, many):
    assert files(one) == files(many)
    assert len(files(one)) == 2 * len(SLICES)  # h5 and png
    for path in one.rglob("*.h5"):
        with h5py.File(path) as a, h5py.File(many / path.relative_to(one)) as b:
            assert np.array_equal(a["reconstruction"], b["reconstruction"])


def uneven(seed, n=20):
    """Slices, coils and pixels as they differ between real files."""
    rng = np.random.default_rng(seed)
    slices, coils = rng.integers(1, 45, n), rng.choice([1, 4, 8, 15, 16, 20], n)
    return slices, coils * rng.choice([320 * 320, 640 * 368, 640 * 322], n)


@pytest.mark.parametrize("seed", range(20))
def test_work_is_balanced(seed):
    slices, of_one = uneven(seed)
    costs = np.repeat(of_one, slices)
    owners = np.array(share_neighbours(costs.tolist(), 4))
    loads = np.array([costs[owners == rank].sum() for rank in range(4)])
    assert loads.max() <= 1.15 * loads.mean()
    assert (np.diff(owners) >= 0).all()  # neighbours: at most 3 volumes are divided
    assert loads.sum() == costs.sum()


@pytest.mark.parametrize("seed", range(20))
def test_whole_volumes_are_shared_as_well_as_they_can_be(seed):
    slices, of_one = uneven(seed)
    costs = slices * of_one
    owners = np.array(share_whole(costs.tolist(), 4))
    loads = [costs[owners == rank].sum() for rank in range(4)]
    assert max(loads) <= 1.15 * np.mean(loads)
    # nothing can be handed from the busiest to the least busy to make it better
    assert max(loads) - min(loads) <= costs[owners == np.argmax(loads)].min()


def test_shares_of_little_work():
    assert share_neighbours([5.0], 4) in ([1], [2])
    assert share_neighbours([1, 1], 4) == [1, 3]
    assert sorted(share_whole([3, 1], 4)) == [0, 1]
    assert share_whole([1, 9, 5, 4], 2) == [1, 0, 1, 1] or share_whole([1, 9, 5, 4], 2) == [0, 0, 1, 1]
