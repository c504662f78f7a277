"""A training as a job: what is refused before SLURM is asked, what is asked for, what the job then does."""

import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import submitit
from fake_programs import FakePrograms
from fake_submitit import Executor

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.cluster.submit import submit_training
from mrirecon.config import DataConfig, TrainConfig
from mrirecon.config.slurm import JobConfig
from mrirecon.errors import InputError
from mrirecon.runs import new_run, require_replaceable


class Refusing(Executor):
    def _internal_process_submissions(self, delayed_submissions):
        raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition\nspecified: x")


@pytest.fixture
def config(tmp_path, monkeypatch):
    FakePrograms(tmp_path, monkeypatch).says("sbatch")
    monkeypatch.setattr(submitit, "SlurmExecutor", Executor)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return TrainConfig(
        data=DataConfig(path="data"), seed=3, devices=4, output="out/run", slurm=JobConfig(nodes=2, time=30, grace=60)
    )


def test_what_is_asked_of_slurm(config):
    job, run = submit_training(config)
    assert job == "0"
    asked = Executor.parameters
    assert (asked["nodes"], asked["ntasks_per_node"], asked["time"]) == (2, 4, 30)
    assert asked["additional_parameters"]["signal"] == "USR1@60"
    assert asked["additional_parameters"]["requeue"] is True
    assert "--kill-on-bad-exit=1" in asked["srun_args"]
    assert "gpus_per_node" not in asked
    assert run.slurm.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("gpus", "device", "asked"), [(0, "cuda", 4), (1, "cuda", 1), (0, "auto", None), (2, "cpu", 2)]
)
def test_each_process_gets_a_gpu_where_gpus_are_wanted(config, gpus, device, asked):
    submit_training(replace(config, device=device, slurm=replace(config.slurm, gpus=gpus)))
    assert Executor.parameters.get("gpus_per_node") == asked


def test_the_job_trains_as_it_was_said(config, tmp_path):
    """From any directory, with the same keys, in the folder that was named before; and as no further job."""
    _, run = submit_training(config)
    _, words = pickle.loads(pickle.dumps(Executor.submitted[0].args))
    assert words[1:5] == ["-m", "mrirecon", "train", "-c"]
    said = configfile.load(TrainConfig, words[5])
    wanted = replace(config, data=DataConfig(path=str(tmp_path / "data")), num_nodes=2, slurm=JobConfig())
    assert said == replace(wanted, output=str(tmp_path / "out" / "run"))
    assert run.path == tmp_path / "out" / "run"


def test_the_training_accepts_the_folder_of_its_job(config):
    _, run = submit_training(config)
    require_replaceable(run.path, overwrite=False)
    assert new_run(run.path, "name").slurm.is_dir()
    run.config.write_text("")
    with pytest.raises(InputError, match="not empty"):
        require_replaceable(run.path, overwrite=False)
    (run.path / "checkpoints").mkdir()
    assert [path.name for path in new_run(run.path, "name", overwrite=True).path.iterdir()] == ["slurm"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": DataConfig()}, "no data folder given"),
        ({"data": DataConfig(path="nowhere")}, "there is no folder nowhere"),
        ({"num_nodes": 3}, "--num-nodes 3 and --slurm.nodes 2 contradict"),
        ({"devices": 0}, "--devices 0"),
        ({"slurm": JobConfig(nodes=-1)}, "--slurm.nodes -1"),
        ({"slurm": JobConfig(nodes=1, grace=0)}, "--slurm.grace 0"),
        ({"slurm": JobConfig(nodes=1, time=2, grace=120)}, "leaves nothing of --slurm.time 2"),
        ({"output": "data/../full"}, "not empty"),
    ],
)
def test_what_cannot_work_is_no_job(config, tmp_path, changes, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.yaml").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words):
        submit_training(replace(config, **changes))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refused_job_leaves_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(submitit, "SlurmExecutor", Refusing)
    with pytest.raises(InputError, match=r"does not take the job \(sbatch: error: invalid partition specified: x\)"):
        submit_training(config)
    assert not (tmp_path / "out" / "run").exists()


def test_without_slurm_one_line_says_so(config, tmp_path):
    (tmp_path / "bin" / "sbatch").unlink()
    with pytest.raises(InputError, match="no sbatch here"):
        submit_training(config)


def test_the_command_says_where_the_job_is(config, capsys, tmp_path):
    words = ["--data", "data", "--devices", "2", "--slurm.nodes", "2", "--output", "out/run"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr().out
    log = tmp_path / "out" / "run" / "slurm" / "0_0_log.out"
    assert f"run folder: {tmp_path}/out/run\n" in said
    assert f"squeue --job 0; tail -F {log}" in said
    assert main(["train", "--resume", "out/run", "--slurm.nodes", "2"]) == 2
    assert "sbatch scripts/train.sbatch --resume out/run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--slurm.follow"], ["--slurm.time", "5"], ["--resume", "run", "--slurm.mem", "8G"]])
def test_what_is_asked_of_slurm_needs_the_number_of_nodes(config, capsys, words):
    assert main(["train", "--data", "data", *words]) == 2
    assert "add --slurm.nodes N" in capsys.readouterr().err


def test_submitting_itself_needs_no_torch():
    code = (
        "import sys, mrirecon.cluster.submit, mrirecon.cluster.follow, mrirecon.cluster.requeue, submitit;"
        "from mrirecon.cluster.submit import check_job; from mrirecon.data.files import require_folder;"
        "print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
