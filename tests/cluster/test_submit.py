"""A training as a job: what is refused before SLURM is asked, what is asked for, what the job then does."""

import pickle
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import submitit
from fake_programs import FakePrograms
from fake_submitit import Executor

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.cluster.submit import submit_training
from mrirecon.config import DataConfig, EvaluateConfig, ReconstructConfig, TrainConfig
from mrirecon.config.slurm import JobConfig, OneJobConfig
from mrirecon.errors import InputError
from mrirecon.runs import new_run, require_replaceable
from mrirecon.training.checkpoints.read import write_listed


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
    job, _ = submit_training(config)
    assert job == "0"
    asked = Executor.parameters
    assert (asked["nodes"], asked["ntasks_per_node"], asked["time"]) == (2, 4, 30)
    assert asked["additional_parameters"]["signal"] == "USR1@60"
    assert asked["additional_parameters"]["requeue"] is True
    assert "--kill-on-bad-exit=1" in asked["srun_args"]
    assert "gpus_per_node" not in asked
    assert asked["job_name"] == "run"  # squeue shows which run it is


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
        ({"slurm": JobConfig(nodes=1, grace=0)}, "slurm.grace is 0; it must be at least 1"),
        ({"slurm": JobConfig(nodes=1, time=2, grace=120)}, "leaves nothing of --slurm.time 2"),
        ({"output": "data/../full"}, "not empty"),
        ({"slurm": JobConfig(nodes=1, gpus="a100")}, "--slurm.gpus a100"),
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
    assert not (tmp_path / "out").exists()


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


@pytest.mark.parametrize("words", [["--slurm.follow"], ["--slurm.time", "5"], ["--resume", "run", "--slurm.mem", "8G"]])
def test_what_is_asked_of_slurm_needs_the_number_of_nodes(config, capsys, words):
    assert main(["train", "--data", "data", *words]) == 2
    assert "add --slurm.nodes N" in capsys.readouterr().err


def test_submitting_itself_needs_no_torch():
    code = (
        "import sys, mrirecon.cluster.submit, mrirecon.cluster.jobs, mrirecon.cluster.requeue, submitit;"
        "from mrirecon.cluster.submit import check_job; from mrirecon.data.folders.volume_files import require_folder;"
        "print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def words_of_job():
    """What the job runs, after the words that start this program."""
    _, words = Executor.submitted[0].args
    assert words[1:3] == ["-m", "mrirecon"]
    return words[3:]


@pytest.fixture
def stopped_run(config, tmp_path):
    """A run of two processes that can go on; a hash is all that is read of its checkpoint."""
    run = tmp_path / "runs" / "group-adam"
    (run / "checkpoints").mkdir(parents=True)
    configfile.save(replace(config, output="", devices=2, slurm=JobConfig()), run / "config.yaml")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"state")
    write_listed(run / "checkpoints" / "last.ckpt", [sha256(b"state").hexdigest()])
    return run


@pytest.mark.parametrize(
    ("nodes", "more", "devices"), [("1", [], 2), ("2", [], 1), ("2", ["--devices", "1", "--threads", "3"], 1)]
)
def test_a_run_goes_on_as_a_job_with_as_many_processes(stopped_run, capsys, nodes, more, devices):
    before = sorted(stopped_run.iterdir())
    assert main(["train", "--resume", "runs/group-adam", "--slurm.nodes", nodes, *more]) == 0
    words = words_of_job()
    assert words[:3] == ["train", "--resume", str(stopped_run)]
    assert {f"--devices={devices}", f"--num_nodes={nodes}"} <= set(words)
    assert ("--threads=3" in words) == bool(more)
    assert not [word for word in words if "slurm" in word]
    asked = Executor.parameters
    assert (asked["job_name"], asked["nodes"], asked["ntasks_per_node"]) == ("group-adam", int(nodes), devices)
    assert asked["additional_parameters"]["requeue"] is True
    assert f"run folder: {stopped_run}" in capsys.readouterr().out.replace("runs/group-adam", str(stopped_run))
    assert sorted(stopped_run.iterdir()) == sorted([*before, stopped_run / "slurm"])


def test_data_that_moved_are_named_by_their_whole_path(stopped_run, tmp_path):
    (tmp_path / "moved").mkdir()
    assert main(["train", "--resume", "runs/group-adam", "--slurm.nodes", "1", "--data", "moved"]) == 0
    assert f"--data.path={tmp_path / 'moved'}" in words_of_job()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--slurm.nodes", "3"], "was trained with 2 processes, not 3; go on with as many"),
        (["--slurm.nodes", "2", "--devices", "2"], "was trained with 2 processes, not 4"),
        (["--slurm.nodes", "2", "--lr", "1"], "'optimizer.lr' cannot change"),
        (["--slurm.nodes", "2", "--slurm.grace", "0"], "slurm.grace is 0; it must be at least 1"),
        (["--slurm.nodes", "-1"], "slurm.nodes is -1; it must be at least 0"),
        (["--slurm.nodes", "2", "--data", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_a_run_that_cannot_go_on_so_is_no_job(stopped_run, capsys, more, said):
    assert main(["train", "--resume", "runs/group-adam", *more]) == 2
    assert said in capsys.readouterr().err
    assert not (stopped_run / "slurm").exists()


def test_a_damaged_run_is_no_job(stopped_run, capsys):
    (stopped_run / "checkpoints" / "last.ckpt").write_bytes(b"stat")
    assert main(["train", "--resume", "runs/group-adam", "--slurm.nodes", "1"]) == 2
    assert "last.ckpt is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "place", "name"),
    [
        (["runs/group-adam"], "runs/group-adam/slurm", "evaluate-group-adam"),
        (["zero-filled"], "runs/zero-filled/slurm", "evaluate-zero-filled"),
        (["zero-filled", "-o", "tables"], "tables-slurm", "evaluate-zero-filled"),
        (["zero-filled", "--slurm.name", "mine"], "runs/zero-filled/slurm", "mine"),
    ],
)
def test_an_evaluation_as_a_job_has_the_configuration_of_the_call(stopped_run, capsys, tmp_path, words, place, name):
    """Such as the command line has it, defaults of the run among it, with paths that hold from any directory."""
    more = ["--data", "data", "--split", "test", "--mask-draws", "2", "--devices", "2", "--acceleration", "8"]
    here = [*words, *more]
    assert main(["evaluate", *here, "--print-config"]) == 0
    (tmp_path / "said.yaml").write_text(capsys.readouterr().out)
    said = configfile.load(EvaluateConfig, tmp_path / "said.yaml")
    assert main(["evaluate", *here, "--slurm.nodes", "3"]) == 0
    out = capsys.readouterr().out
    assert f"tail -F {place}/0_0_log.out" in out.replace(f"{tmp_path}/", "")
    job = words_of_job()
    first = str(stopped_run) if words[0] != "zero-filled" else "zero-filled"
    assert job[:3] == ["evaluate", first, "-c"]
    assert Path(job[3]).parent == tmp_path / place
    assert main([*job, "--print-config"]) == 0  # as the job will read it
    (tmp_path / "job.yaml").write_text(capsys.readouterr().out)
    data = replace(said.data, path=str(tmp_path / "data"))
    output = said.output and str(tmp_path / said.output)
    wanted = replace(said, data=data, output=output, num_nodes=3, slurm=OneJobConfig())
    assert configfile.load(EvaluateConfig, tmp_path / "job.yaml") == wanted
    asked = Executor.parameters
    assert (asked["job_name"], asked["nodes"], asked["ntasks_per_node"]) == (name, 3, 2)
    assert asked["additional_parameters"]["no-requeue"] is True


def test_a_reconstruction_as_a_job(config, tmp_path, capsys):
    (tmp_path / "data" / "a.h5").touch()
    words = ["reconstruct", "zero-filled", "data", "data/a.h5", "-o", "images"]
    assert main([*words[:3], "-o", "images", "--slurm.nodes", "2", "--slurm.grace", "30"]) == 0
    job = words_of_job()
    assert job[:4] == ["reconstruct", "zero-filled", str(tmp_path / "data"), "-c"]
    said = configfile.load(ReconstructConfig, job[4])
    assert said == ReconstructConfig(output=str(tmp_path / "images"), num_nodes=2)
    assert Executor.parameters["job_name"] == "reconstruct-zero-filled"
    assert Executor.parameters["additional_parameters"]["signal"] == "USR1@30"  # finished volumes are kept
    out = capsys.readouterr().out
    assert "tail -F images/slurm/0_0_log.out" in out
    assert "next:       mrirecon score images TARGETS" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluate nosuch --data data --slurm.nodes 1", "there is none at nosuch"),
        ("evaluate zero-filled --data nowhere --slurm.nodes 1", "there is no folder nowhere"),
        ("evaluate zero-filled --slurm.nodes 1", "no data folder given"),
        ("evaluate zero-filled --data data --slurm.nodes 1 --mask-draws 0", "mask_draws is 0; it must be at least 1"),
        ("evaluate zero-filled --data data --slurm.nodes 1 --num-nodes 2", "contradict"),
        ("evaluate zero-filled --data data --slurm.gpus 1", "add --slurm.nodes N"),
        ("evaluate zero-filled --data data --slurm.nodes 1 --slurm.grace 9", "unknown option '--slurm.grace'"),
        ("reconstruct zero-filled nowhere -o out --slurm.nodes 1", "no file or folder nowhere"),
        ("reconstruct zero-filled data --slurm.nodes 1", "no output folder given"),
        ("reconstruct zero-filled data -o out --slurm.time 9", "add --slurm.nodes N"),
        ("reconstruct nosuch data -o out --slurm.nodes 1", "there is none at nosuch"),
    ],
)
def test_a_use_that_cannot_work_is_no_job(config, tmp_path, capsys, words, said):
    (tmp_path / "data" / "a.h5").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
