"""A study whose workers are a job array of a real SLURM: it is finished although one worker is killed."""

import os
import signal
from pathlib import Path

import pytest
import yaml
from slurm_cluster import MRIRECON, wait_for

from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.cluster.jobs import job_states

GRID = {
    "name": "small",
    "factors": {"optimizer": ["momentum", "adam"]},
    "base": {"model": {"channels": 2, "pools": 1, "norm": "instance"}, "max_steps": 4, "val_every": 2},
    "seeds": 6,
    "reference": {"optimizer": "adam"},
    "tuning": {"trials": 2, "sweep": 1},
}


@pytest.mark.slurm
def test_an_array_of_workers_does_a_study(cluster, job_data, tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(GRID))
    study = StudyFolder(tmp_path / "study")
    options = ["--data", job_data, "-o", study.path, "--executor", "slurm", "--workers", "2"]
    said = cluster.run(*MRIRECON, "ablate", "run", tmp_path / "small.yaml", *options, "--slurm.time", "10")
    assert "submitted:" in said
    first, second = study.jobs()
    assert first.endswith("_0")
    assert cluster.run("squeue", "--noheader", "--array", "--format=%j").split() == ["study", "study"]

    wait_for(study.records, "a first run")
    wait_for(lambda: first in workers(study.path), "the worker to be found")
    os.kill(workers(study.path)[first], signal.SIGKILL)
    wait_for(lambda: job_states([first])[first] == "FAILED", "the job to fail")
    assert f"jobs FAILED: {first}" in status(cluster, study)
    assert cluster.wait_over(second).state == "COMPLETED"
    table = status(cluster, study)
    assert f"jobs COMPLETED: {second}" in table
    assert table.splitlines()[3].startswith("all")
    assert table.splitlines()[3].endswith("complete")
    cluster.run(*MRIRECON, "ablate", "report", study.path)
    assert (study.report / "results.csv").is_file()


def status(cluster, study):
    return cluster.run(*MRIRECON, "ablate", "status", study.path)


def workers(study):
    """Process ids of a study's workers by the id of their job."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            lines = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        env = dict(line.partition("=")[::2] for line in lines)
        if words[1:5] == ["-m", "mrirecon", "ablate", "worker"] and words[5] == str(study):
            found[f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"] = int(process.name)
    return found
