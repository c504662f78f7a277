"""A whole study, and everything that may come in its way."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from tiny_study import GRID

from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.work import prepare
from mrirecon.ablation.work.status import count, status_table
from mrirecon.ablation.work.worker import Setting, training_config
from mrirecon.errors import InputError, WorkFailedError
from mrirecon.workflows.setup.training_work import TrainingWork

N_RUNS = 2 * (2 + 1 + 6)  # the fewest: two cells of two trials, one rate of the sweep and six seeds


def results(page):
    return (page.parent / "results.csv").read_bytes()


def start(folder, study_data, grid, workers=2):
    command = [sys.executable, "-m", "mrirecon", "ablate", "run", str(grid), "--data", str(study_data)]
    return subprocess.Popen(
        [*command, "-o", str(folder), "--workers", str(workers), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def published(folder):
    return len(list((folder / "runs").glob("*/result.json")))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def workers_of(process):
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in children.stdout.split()]


def kill_workers(process, condition, seconds):
    """SIGKILL to the workers of a study, so many seconds after the condition."""
    wait_for(lambda: workers_of(process))
    wait_for(lambda: condition() or process.poll() is not None)
    time.sleep(seconds)
    for pid in workers_of(process):
        os.kill(pid, signal.SIGKILL)


def lines_done(folder):
    """What the workers say they did."""
    text = "".join(path.read_text() for path in (folder / "logs").glob("worker-*.log"))
    return Counter(re.findall(r"^(.* seed \d+): [\d.]+ s$", text, re.M))


def test_a_study_from_nothing_to_its_report(undisturbed):
    study = undisturbed.folder.open()
    counts = count(study)
    assert counts.is_complete
    assert counts.done == counts.expected >= N_RUNS
    with (undisturbed.page.parent / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    tested = [row for row in rows if row["split"] == "test"]
    assert len(tested) == 2 * 6 * 5  # cells, seeds, volumes
    assert {row["stage"] for row in tested} == {"rerun"}
    assert {path.name for path in undisturbed.page.parent.iterdir()} >= {
        "index.html",
        "results.csv",
        "timing.csv",
        "results.json",
        "figures",
    }
    assert "complete" in status_table(study)


def test_every_run_was_done_once(undisturbed):
    done = lines_done(undisturbed.folder.path)
    assert set(done.values()) == {1}
    assert sum(done.values()) == published(undisturbed.folder.path)


def test_run_again_does_nothing(undisturbed, run_tiny):
    runs = undisturbed.folder.runs
    before = {path: path.stat().st_mtime_ns for path in [*runs.rglob("*"), undisturbed.page]}
    assert run_tiny(undisturbed.folder.path) == undisturbed.page
    assert {path: path.stat().st_mtime_ns for path in [*runs.rglob("*"), undisturbed.page]} == before


@pytest.mark.slow
def test_the_number_of_workers_changes_no_result(undisturbed, run_tiny, tmp_path):
    assert results(run_tiny(tmp_path / "study", workers=2)) == undisturbed.results


@pytest.mark.slow  # by default a worker dies in the study on SLURM
@pytest.mark.parametrize("n_kills", [2, 10])
def test_killed_workers_leave_no_trace_in_the_results(
    undisturbed, run_tiny, study_data, study_files, tmp_path, n_kills
):
    folder, grid = tmp_path / "study", study_files()
    rng = np.random.default_rng(n_kills)
    for kill in range(n_kills):
        process = start(folder, study_data, grid, workers=1)
        so_far = published(folder)
        kill_workers(process, lambda so_far=so_far: published(folder) > so_far, rng.uniform(0, 0.6))
        output, _ = process.communicate(timeout=120)
        if process.returncode == 0:
            assert kill, "the study ended before anything was killed"
            break
        assert process.returncode == 1, output
        assert "go on with" in output
    assert results(run_tiny(folder)) == undisturbed.results


def test_a_stop_by_signal_is_resumed(undisturbed, run_tiny, study_data, study_files, tmp_path):
    folder = tmp_path / "study"
    process = start(folder, study_data, study_files())
    wait_for(lambda: published(folder) >= 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert f"mrirecon ablate run {folder}" in output
    assert results(run_tiny(folder)) == undisturbed.results


@pytest.mark.slow
def test_two_studies_at_once_share_the_work(undisturbed, study_data, study_files, tmp_path):
    folder, grid = tmp_path / "study", study_files()
    both = [start(folder, study_data, grid, workers=1) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert (folder / "report" / "results.csv").read_bytes() == undisturbed.results
    done = lines_done(folder)
    assert set(done.values()) == {1}
    assert sum(done.values()) == published(folder)
    assert len(list((folder / "logs").glob("worker-*.log"))) == 2


def test_a_cell_that_fails_does_not_stop_the_others(run_tiny, tmp_path):
    broken = {"class_path": "torch.nn.LayerNorm"}  # wants the size of the image, not the number of channels
    norms = {"norm": {"instance": {"model.norm": "instance"}, "broken": {"model.norm": broken}}}
    folder = tmp_path / "study"
    base = {"optimizer": "adam", "model": {"channels": 2, "pools": 1}, "batch_size": 2, "max_steps": 2, "val_every": 1}
    with pytest.raises(WorkFailedError, match="runs failed"):
        run_tiny(folder, factors=norms, base=base, reference={"norm": "instance"})
    study = StudyFolder(folder).open()
    lines = status_table(study).splitlines()
    assert any(line.startswith("instance") and line.endswith("complete") for line in lines)
    assert any(line.startswith("failed: broken tune") and "normalized_shape" in line for line in lines)
    assert (folder / "report" / "results.csv").is_file()


@pytest.mark.slow  # a study whose every run starts two processes: 20 s
def test_a_bad_slice_that_loader_workers_meet_fails_runs_and_leaves_no_process(run_tiny, study_data, tmp_path):
    shutil.copytree(study_data, tmp_path / "data")
    with h5py.File(sorted((tmp_path / "data" / "train").iterdir())[0], "r+") as file:
        file["kspace"][0, 0, 3, 3] = np.nan  # the quick check looks at the middle slice
    base = GRID["base"] | {"data": {"workers": 2, "check": "quick"}}
    folder = tmp_path / "study"
    with pytest.raises(WorkFailedError, match="runs failed"):
        run_tiny(folder, workers=1, config={"data": str(tmp_path / "data")}, base=base)
    failures = StudyFolder(folder).failed().values()
    assert failures
    assert {failure["error"] for failure in failures} == {
        "train/train_0000.h5: kspace holds NaN or infinity in slice 0; repair, replace or remove the file"
    }
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.slow
def test_more_seeds_and_levels_keep_what_is_there(undisturbed, run_tiny, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(undisturbed.folder.path, folder)
    before = set(StudyFolder(folder).records())
    run_tiny(folder, seeds=7, factors={"optimizer": ["momentum", "adam", "rmsprop"]})
    done = lines_done(folder)
    repeated = {name for name, times in done.items() if times > 1}
    assert not repeated
    study = StudyFolder(folder).open()
    assert before < set(study.folder.records())
    assert {result.cell for result in study.plan.results(study.folder.records())} == {"momentum", "adam", "rmsprop"}
    assert {r.seed for r in study.plan.results(study.folder.records()) if r.stage == "rerun"} == set(range(7))


def test_divergence_is_a_result(run_tiny, tmp_path):
    tuning = {"trials": 2, "sweep": 1, "spaces": {"momentum": {"lr": [1e8, 1e9]}}}
    page = run_tiny(tmp_path / "study", tuning=tuning)
    study = StudyFolder(tmp_path / "study").open()
    trials = [r for r in study.folder.records().values() if r.cell == "momentum"]
    assert len(trials) == 2
    assert all(r.diverged_at is not None and r.final_loss == float("inf") for r in trials)
    assert "no trial converged" in status_table(study)
    assert page.is_file()


def test_another_package_needs_consent_to_do_what_is_missing(undisturbed, run_tiny, monkeypatch, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(undisturbed.folder.path, folder)
    codes = StudyFolder(folder).read_manifest()["code"]
    monkeypatch.setattr(prepare, "code_hash", lambda: "new")
    run_tiny(folder)  # nothing is
    assert StudyFolder(folder).read_manifest()["code"] == codes
    shutil.rmtree(next((folder / "runs").iterdir()))
    with pytest.raises(InputError, match=r"since 17 runs .* 1 are to do; go on with --accept-code-change"):
        run_tiny(folder)
    run_tiny(folder, config={"accept_code_change": True})
    assert StudyFolder(folder).read_manifest()["code"] == [*codes, "new"]


def test_cells_are_paired_by_seed(undisturbed, study_data):
    """For one seed: the same batches with the same masks, and the same first weights."""
    study = undisturbed.folder.open()
    reruns = [spec for spec in study.plan.runs(study.folder.records()) if spec.stage == "rerun" and spec.seed == 3]
    assert len(reruns) == 2
    works = [TrainingWork(training_config(spec, Setting(str(study_data)))) for spec in reruns]
    for a, b in zip(*(work.data.first_batches(4) for work in works), strict=True):
        assert a.volume == b.volume
        assert a.mask_id == b.mask_id
        assert torch.equal(a.image, b.image)
    states = [work.model.state_dict() for work in works]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    other = TrainingWork(training_config(replace(reruns[0], seed=4), Setting(str(study_data))))
    assert not all(torch.equal(states[0][key], value) for key, value in other.model.state_dict().items())


@pytest.mark.slow
def test_a_full_disk_loses_nothing(undisturbed, run_tiny, study_data, study_files, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        process = start(disk / "study", study_data, study_files(), workers=1)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1, output
        logs = "".join(path.read_text() for path in (disk / "study" / "logs").iterdir())
        assert "is full" in logs + output
        finished = published(disk / "study")
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert results(run_tiny(disk / "study")) == undisturbed.results
        assert 0 < finished < published(disk / "study")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
