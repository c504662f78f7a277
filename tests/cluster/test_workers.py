"""Workers as jobs: what is submitted, and what is said where there is no SLURM."""

import pickle
import shutil
from typing import ClassVar

import pytest
import submitit
from submitit.helpers import CommandFunction

from mrirecon.cluster.workers import submit_workers, worker_command
from mrirecon.config.slurm import SlurmConfig
from mrirecon.errors import InputError


class Executor(submitit.LocalExecutor):
    """Takes SLURM's parameters and notes what is submitted; runs nothing."""

    parameters: ClassVar[dict] = {}
    submitted: ClassVar[list] = []

    def update_parameters(self, **parameters):
        Executor.parameters = parameters

    def _internal_process_submissions(self, delayed_submissions):
        Executor.submitted += delayed_submissions
        return [submitit.LocalJob(folder=self.folder, job_id=str(i)) for i, _ in enumerate(delayed_submissions)]


def test_a_job_is_a_list_of_strings(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    slurm = SlurmConfig(partition="gpu", time=30, gpus=1)
    jobs = submit_workers(tmp_path / "study", tmp_path / "logs", 3, slurm)
    assert jobs == ["0", "1", "2"]
    assert Executor.parameters["partition"] == "gpu"
    assert Executor.parameters["gpus_per_node"] == 1
    assert Executor.parameters["array_parallelism"] == 3
    assert "account" not in Executor.parameters
    functions = [job.function for job in Executor.submitted]
    assert all(isinstance(function, CommandFunction) for function in functions)
    assert functions[0].command == worker_command(tmp_path / "study")
    assert all(isinstance(word, str) for word in pickle.loads(pickle.dumps(functions[0])).command)
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0


def test_a_local_worker_is_the_same_command(tmp_path):
    command = worker_command(tmp_path)
    assert command[1:] == ["-m", "mrirecon", "ablate", "worker", str(tmp_path)]


@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is a SLURM here")
def test_without_slurm_one_line_says_so(tmp_path):
    with pytest.raises(InputError, match="SLURM does not take the jobs.*--executor local"):
        submit_workers(tmp_path / "study", tmp_path / "logs", 2, SlurmConfig())
