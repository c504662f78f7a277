"""On a real SLURM: two nodes give the numbers of two local processes; preempted, requeued and killed jobs."""

import json
import os
import signal
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from slurm_cluster import MRIRECON, wait_for, write_config

from mrirecon.cluster.jobs import find_job
from mrirecon.cluster.submit import log_of
from mrirecon.evaluation.results import read_results
from mrirecon.runs import RunFolder

pytestmark = pytest.mark.slurm
TWO = ("--nodes=2", "--ntasks-per-node=1")
STEPS = 200


@pytest.fixture(scope="session")
def config(tmp_path_factory, job_data):
    return write_config(
        tmp_path_factory.mktemp("slurm") / "small.yaml",
        data={"path": str(job_data)},
        max_steps=STEPS,
        val_every=100,
        checkpoint_every=1,  # which also makes it slow enough to be disturbed
    )


@pytest.fixture(scope="session")
def two_processes(whole_cluster, config, tmp_path_factory):
    """The run of two processes of one machine, started by the command line."""
    folder = tmp_path_factory.mktemp("two") / "run"
    whole_cluster.run(*MRIRECON, "train", "-c", config, "--devices", "2", "--output", folder)
    return folder


def test_the_scripts_train_and_evaluate_on_two_nodes(cluster, config, two_processes, tmp_path):
    train = script_of(cluster, tmp_path, "train")
    words = ["-c", config, "--devices", "1", "--num-nodes", "2"]
    job = cluster.sbatch(*TWO, train, *words, cwd=tmp_path)
    assert cluster.wait_over(job).state == "COMPLETED", (tmp_path / f"mrirecon-train-{job}.log").read_text()
    run = tmp_path / "runs" / f"batch-adam-{job}"
    assert same_weights(run, two_processes)
    facts = json.loads((run / "provenance.json").read_text())["slurm"]
    assert facts == {"job": job, "nodes": "n[1-2]", "restarts": 0}

    evaluate = script_of(cluster, tmp_path, "evaluate")
    job = cluster.sbatch(*TWO, evaluate, run, "--device", "cpu", "--num-nodes", "2", "--split", "test", cwd=tmp_path)
    assert cluster.wait_over(job).state == "COMPLETED", (tmp_path / f"mrirecon-evaluate-{job}.log").read_text()
    (table,) = (run / "evaluation").glob("*/volumes.csv")
    shared = rows_of(table)
    cluster.run(*MRIRECON, "evaluate", run, "--device", "cpu", "--split", "test", "--overwrite", cwd=tmp_path)
    assert len(shared) == 3
    assert shared == rows_of(table)


def test_a_preempted_job_comes_back_and_ends_with_the_same_weights(cluster, config, two_processes, tmp_path):
    run, log = RunFolder(tmp_path / "run"), tmp_path / "followed"
    words = ["train", "-c", config, "--slurm.nodes", "2", "--slurm.follow", "--output", run.path]
    following = cluster.start(*MRIRECON, *words, log=log)
    try:
        wait_for(run.checkpoint("last").exists, "a checkpoint")
        job = log.read_text().split("job:")[1].split()[0]
        urgent = cluster.sbatch(
            "--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "true", "--output=/dev/null"
        )
        assert cluster.wait_over(urgent).state == "COMPLETED"
        assert find_job(job).restarts == 1
        assert following.wait(120) == 0, log.read_text()
    finally:
        following.kill()
    said = log.read_text()
    assert "stopped by SIGTERM" in said
    assert find_job(job).restarts == 1
    assert find_job(job).state == "COMPLETED"
    assert f"step {STEPS}/{STEPS}" in said
    assert said.count("run folder  ") == 1  # it went on and did not begin again
    assert json.loads(run.provenance.read_text())["slurm"] == {"job": job, "nodes": "n[1-2]", "restarts": 1}
    assert log_of(job, run.slurm).is_file()
    assert same_weights(run.path, two_processes)


def test_one_killed_rank_ends_the_job(cluster, config, tmp_path):
    run = RunFolder(tmp_path / "run")
    words = ["train", "-c", config, "--max-steps", "100000", "--slurm.nodes", "2", "--output", run.path]
    said = cluster.run(*MRIRECON, *words)
    job = said.split("job:")[1].split()[0]
    assert str(run.path) in said
    assert f"squeue --job {job}" in said
    wait_for(run.checkpoint("last").exists, "a checkpoint")
    os.kill(cluster.ranks_of(run.path)[1], signal.SIGKILL)
    ended = cluster.wait_over(job, timeout=60)
    assert ended.state == "FAILED"
    assert ended.exit_code != 0
    assert cluster.ranks_of(run.path) == {}


@pytest.mark.slow  # several jobs, each of which starts from nothing
def test_a_stopped_run_goes_on_as_a_job_and_is_evaluated_and_used_by_jobs(cluster, config, two_processes, tmp_path):
    """All that ships, one after the other: the weights and the tables are those of this machine's processes."""
    run = RunFolder(tmp_path / "my run")
    training = cluster.start(*MRIRECON, "train", "-c", config, "--devices", "2", "--output", run.path)
    wait_for(run.checkpoint("last").exists, "a checkpoint")
    training.send_signal(signal.SIGTERM)
    assert training.wait(60) == 75
    site = ["--slurm.nodes", "2", "--slurm.setup", "export SET_UP=yes", "--slurm.sbatch", "nice=3", "comment=a b"]
    site += ["--slurm.exclude", "nosuch"]
    refused = ["train", "--resume", run.path, *site]
    cluster.run(*MRIRECON, *refused, code=2)
    assert not run.slurm.exists()
    site = site[:-2]
    job = job_of(cluster.run(*MRIRECON, "train", "--resume", run.path, *site))
    assert cluster.run("squeue", "--noheader", "--format=%j %k %y", f"--jobs={job}") in (
        "my run a b 2147483645\n",
        "my run a b 3\n",
    )
    assert cluster.wait_over(job).state == "COMPLETED", log_of(job, run.slurm).read_text()
    assert same_weights(run.path, two_processes)

    words = [run.path, "--device", "cpu", "--split", "test"]
    job = job_of(cluster.run(*MRIRECON, "evaluate", *words, *site, "--slurm.follow", cwd=tmp_path))
    (table,) = (run.path / "evaluation").glob("*/volumes.csv")
    shared = rows_of(table)
    cluster.run(*MRIRECON, "evaluate", *words, "--overwrite", cwd=tmp_path)
    assert len(shared) == 3
    assert shared == rows_of(table)

    words = [run.path, job_data_of(config) / "test", "--device", "cpu"]
    cluster.run(*MRIRECON, "reconstruct", *words, "-o", "shared", *site, "--slurm.follow", cwd=tmp_path)
    cluster.run(*MRIRECON, "reconstruct", *words, "-o", "alone", cwd=tmp_path)
    alone = sorted((tmp_path / "alone").glob("*.h5"))
    assert len(alone) == 3
    for path in alone:
        with h5py.File(path) as one, h5py.File(tmp_path / "shared" / path.name) as other:
            assert np.array_equal(one["reconstruction"], other["reconstruction"])


def test_a_set_up_line_that_fails_and_what_sbatch_refuses(cluster, config, tmp_path):
    """The one is the job's end, in the words of the line; the other is no job, in sbatch's words."""
    words = [*MRIRECON, "train", "-c", config, "--slurm.nodes", "1", "--output", tmp_path / "run"]
    said = tmp_path / "said"
    following = cluster.start(*words, "--slurm.follow", "--slurm.setup", "cd /nosuchfolder", log=said)
    assert following.wait(60) == 1
    last = said.read_text().splitlines()[-1]
    assert "--slurm.setup failed with exit code 1: cd /nosuchfolder" in last
    done = subprocess.run(
        [str(word) for word in [*words[:-1], tmp_path / "other", "--slurm.partition", "nosuch"]],
        env=cluster.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid partition specified: nosuch" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.slow  # several jobs, each of which starts from nothing
def test_starts_that_lead_no_further_end(cluster, config, tmp_path):
    """A job whose request to save is there before its first step comes back as often as it may, and no more."""
    run = RunFolder(tmp_path / "run")
    words = ["train", "-c", config, "--max-steps", "100000", "--slurm.nodes", "1", "--slurm.requeues", "1"]
    # as SLURM does where the time limit leaves less than the start takes
    setup = "(sleep 0.5; for i in $(seq 40); do scancel --signal=USR1 $SLURM_JOB_ID; sleep 0.2; done) >/dev/null 2>&1 &"
    job = job_of(cluster.run(*MRIRECON, *words, "--slurm.setup", setup, "--output", run.path))
    ended = cluster.wait_over(job, timeout=120)
    assert (ended.state, ended.restarts, ended.exit_code) == ("FAILED", 1, 75)
    said = log_of(job, run.slurm).read_text()
    assert "2 starts in a row led no further (at most 1 may)" in said
    assert run.checkpoint("last").is_file()


@pytest.mark.slow
def test_what_starts_a_job_again_and_what_ends_it(cluster, config, tmp_path):
    """One process: asked to save, it comes back; requeued by an administrator, it comes back once; cancelled, never."""
    run = RunFolder(tmp_path / "run")
    script = script_of(cluster, tmp_path, "train")
    job = cluster.sbatch(script, "-c", config, "--max-steps", "100000", "--output", run.path, cwd=tmp_path)
    log = tmp_path / f"mrirecon-train-{job}.log"

    def is_at_work(start):
        """Started again so often, and in the run folder again."""
        noted = run.provenance.exists() and json.loads(run.provenance.read_text())["slurm"]["restarts"] == start
        return noted and find_job(job).state == "RUNNING"

    wait_for(run.checkpoint("last").exists, "a checkpoint")
    cluster.run("scancel", "--signal=USR1", job)
    wait_for(lambda: is_at_work(1), "the first restart")
    assert "stopped by SIGUSR1" in log.read_text()
    saved = saved_at(run)
    wait_for(lambda: saved_at(run) > saved, "further steps")
    cluster.run("scontrol", "requeue", job)
    wait_for(lambda: is_at_work(2), "the second restart")
    saved = saved_at(run)
    wait_for(lambda: saved_at(run) > saved, "further steps")
    cluster.run("scancel", job)
    assert cluster.wait_over(job).state == "CANCELLED"
    assert find_job(job).restarts == 2
    assert log.read_text().count("run folder  ") == 1


@pytest.mark.slow
def test_the_time_limit_is_no_end(cluster, config, tmp_path):
    run = RunFolder(tmp_path / "run")
    words = ["--max-steps", "100000", "--slurm.nodes", "1", "--slurm.time", "1", "--slurm.grace", "5"]
    said = cluster.run(*MRIRECON, "train", "-c", config, *words, "--output", run.path)
    job = said.split("job:")[1].split()[0]
    wait_for(lambda: find_job(job).restarts == 1, "the time limit", 120)
    wait_for(lambda: find_job(job).state == "RUNNING", "the restart")
    said = log_of(job, run.slurm).read_text()
    assert "stopped by SIGUSR1" in said
    assert "DUE TO TIME LIMIT" not in said
    wait_for(lambda: "goes on" in log_of(job, run.slurm).read_text().split("saved.")[1], "the run")


def test_a_job_that_fails_says_why(cluster, config, tmp_path):
    """With --slurm.follow the command ends as the job does; what is wrong and seen at once is no job at all."""
    said = tmp_path / "said"
    words = ["train", "-c", config, "--acquisition", "NOSUCHSCAN", "--slurm.nodes", "1"]
    following = cluster.start(*MRIRECON, *words, "--slurm.follow", "--output", tmp_path / "run", log=said)
    assert following.wait(120) == 1
    last = said.read_text().splitlines()[-1]
    assert last.startswith("mrirecon: job ")
    assert "ended as FAILED" in last
    assert "NOSUCHSCAN" in last
    assert "Traceback" not in said.read_text()
    wrong = ["train", "-c", config, "--norm", "{class_path: torch.nn.NoSuchNorm}", "--slurm.nodes", "1"]
    cluster.run(*MRIRECON, *wrong, cwd=tmp_path, code=2)
    assert not (tmp_path / "runs").exists()


def script_of(cluster, folder, command):
    """The batch script as an installed package prints it."""
    path = folder / f"{command}.sbatch"
    path.write_text(cluster.run(*MRIRECON, "config", "show", "sbatch", command))
    return path


def same_weights(one, two):
    first, second = (load_file(folder / "weights.safetensors") for folder in (one, two))
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def job_of(said):
    return next(line for line in said.splitlines() if line.startswith("job:")).split()[1]


def job_data_of(config):
    return Path(yaml.safe_load(config.read_text())["data"]["path"])


def rows_of(path):
    return [{name: value for name, value in vars(row).items() if name != "seconds"} for row in read_results(path)]


def saved_at(run):
    return run.checkpoint("last").stat().st_mtime_ns
