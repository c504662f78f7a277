"""Workers as jobs: what is submitted, and what is said where there is no SLURM."""

import os
import pickle
import sys

import pytest
import submitit
from fake_programs import FakePrograms
from fake_submitit import Executor

from mrirecon.cluster.submit import require_slurm, submit_workers, worker_command
from mrirecon.config.slurm import RequeueConfig
from mrirecon.errors import InputError


def test_a_job_is_a_list_of_strings(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    slurm = RequeueConfig(partition="gpu", time=30, gpus=1)
    jobs = submit_workers(tmp_path / "study", tmp_path / "logs", 3, slurm)
    assert jobs == ["0", "1", "2"]
    assert Executor.parameters["job_name"] == "study"
    assert Executor.parameters["additional_parameters"]["partition"] == "gpu"
    assert Executor.parameters["gpus_per_node"] == 1
    assert Executor.parameters["array_parallelism"] == 3
    assert "account" not in Executor.parameters["additional_parameters"]
    assert Executor.parameters["additional_parameters"]["signal"] == "USR1@120"  # submitit's USR2 would kill the worker
    for job in Executor.submitted:
        assert job.function is os.execvp
        assert pickle.loads(pickle.dumps(job.args)) == (sys.executable, worker_command(tmp_path / "study"))


def test_a_local_worker_is_the_same_command(tmp_path):
    command = worker_command(tmp_path)
    assert command[1:] == ["-m", "mrirecon", "ablate", "worker", str(tmp_path)]


def test_without_slurm_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="SLURM does not take the job.*--executor local"):
        submit_workers(tmp_path / "study", tmp_path / "logs", 2, RequeueConfig())


@pytest.mark.parametrize(
    ("keys", "words"), [({"time": 2}, "--slurm.grace 120 s leaves"), ({"qos": "a\n"}, "--slurm.qos")]
)
def test_what_cannot_be_asked_for_is_said_before_a_study_begins(tmp_path, monkeypatch, keys, words):
    FakePrograms(tmp_path, monkeypatch).says("sbatch")
    with pytest.raises(InputError, match=words):
        require_slurm(RequeueConfig(**keys))
