"""What a site asks for, from the keys to sbatch's file: as it is written by submitit, and checked before."""

import os
import pickle
import subprocess

import pytest
from fake_programs import FakePrograms

from mrirecon.cli import main
from mrirecon.cluster.request import read_request
from mrirecon.cluster.submit import job_folder, program, submit
from mrirecon.config.slurm import JobConfig, OneJobConfig, RequeueConfig, SlurmConfig
from mrirecon.errors import InputError

SITE = {
    "partition": "gpu",
    "account": "lab",
    "qos": "long",
    "constraint": "a100&ib",
    "exclude": "n1,n[3-5]",
    "reservation": "course",
    "mem": "8G",
    "gpus": "a100:4",
}


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """Submits with the real submitit and a stand-in for sbatch; returns the lines of the file that it got."""
    path = os.environ["PATH"]
    programs = FakePrograms(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{programs.folder}{os.pathsep}{path}")
    programs.says("srun")
    programs.says("sbatch", "Submitted batch job 7")

    def submit_it(slurm, **parameters):
        with job_folder(tmp_path / "jobs"):
            request = read_request(slurm)
            assert submit([program("train")], tmp_path / "jobs", request, "a run", "no", parameters) == ["7"]
        return (tmp_path / "jobs" / "7_submission.sh").read_text().splitlines()

    return submit_it


def options(lines):
    """sbatch's options by name, each of which stands there once."""
    words = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH ")]
    assert len({name for name, *_ in words}) == len(words)
    return {name: value.strip("'") for name, _, value in words}


def test_every_key_reaches_sbatch(submitted):
    found = options(submitted(RequeueConfig(**SITE, name="mine", time=90, cpus=3, sbatch=["nice=100", "exclusive"])))
    names = {"gpus": "gpus-per-node", **{key: key for key in SITE if key != "gpus"}}
    assert {name: found[name] for name in names.values()} == {names[key]: value for key, value in SITE.items()}
    assert (found["job-name"], found["time"], found["cpus-per-task"]) == ("mine", "90", "3")
    assert (found["nice"], found["exclusive"]) == ("100", "")
    assert (found["signal"], found["requeue"], found["open-mode"]) == ("USR1@120", "", "append")
    assert "wckey" not in found  # submitit's own, which clusters that know theirs refuse


def test_a_job_has_the_name_of_its_run_and_asks_for_no_more_than_was_said(submitted):
    found = options(submitted(SlurmConfig()))
    assert found["job-name"] == "a run"
    assert not set(found) & {*SITE, "gpus-per-node"}
    assert "no-requeue" in found
    assert found["signal"].startswith("CONT")  # ends nobody


def test_set_up_lines_come_before_the_work_and_one_that_fails_ends_the_job(submitted, tmp_path):
    lines = submitted(RequeueConfig(setup=["export A='b, c'", "[ -d / ]"], requeues=5))
    begin = "\n".join(lines[: next(i for i, line in enumerate(lines) if line.startswith("srun"))])
    done = subprocess.run(
        ["bash", "-c", f'{begin}\nfalse; echo "$A $MRIRECON_REQUEUES"'], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "b, c 5\n")
    text = "\n".join([*read_request(SlurmConfig(setup=["nosuchmodule load cuda"])).setup, "echo work"])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last == "mrirecon: a line of --slurm.setup failed with exit code 127: nosuchmodule load cuda"


def test_the_python_of_a_container_starts_the_job_and_is_called_by_its_own_name_inside(submitted, tmp_path):
    lines = submitted(SlurmConfig(python="apptainer exec --nv '/my images/lab.sif' python3"))
    (command,) = [line for line in lines if line.startswith("srun")]
    assert "apptainer exec --nv '/my images/lab.sif' python3 -u -m submitit.core._submit" in command
    job = pickle.loads((tmp_path / "jobs" / "7_submitted.pkl").read_bytes())
    assert job.args == ("python3", ["python3", *program("train")[1:]])


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o002, 0o755), (0o027, 0o750), (0o077, 0o700)])
def test_logs_are_readable_as_the_umask_says_and_pickles_for_the_owner_alone(submitted, tmp_path, umask, mode):
    old = os.umask(umask)
    try:
        submitted(SlurmConfig())
    finally:
        os.umask(old)
    folder = tmp_path / "jobs"
    assert folder.stat().st_mode & 0o777 == mode
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_what_sbatch_refuses_is_told_in_its_words_and_leaves_nothing(submitted, tmp_path, monkeypatch):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: Invalid qos specification' >&2; exit 1\n")
    with pytest.raises(InputError, match="SLURM does not take the job .*Invalid qos specification"):
        submitted(SlurmConfig(qos="nosuch"))
    assert not (tmp_path / "jobs").exists()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "5_0_log.out").touch()
    with pytest.raises(InputError):
        submitted(SlurmConfig(qos="nosuch"))
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["5_0_log.out"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "a\n#SBATCH --uid=0"}, "--slurm.name .* one line of printable characters"),
        ({"name": "a/b"}, "no slash"),
        ({"qos": " x"}, "--slurm.qos ' x'"),
        ({"constraint": "a\tb"}, "--slurm.constraint"),
        ({"exclude": "n1\n"}, "--slurm.exclude"),
        ({"reservation": "\x00"}, "--slurm.reservation"),
        ({"time": 0}, "slurm.time is 0; it must be at least 1"),
        ({"cpus": -1}, "slurm.cpus is -1; it must be at least 1"),
        ({"grace": 0}, "slurm.grace is 0; it must be at least 1"),
        ({"requeues": -1}, "slurm.requeues is -1; it must be at least 0"),
        ({"time": 2}, "--slurm.grace 120 s leaves nothing of --slurm.time 2 min"),
        ({"gpus": "a100"}, "--slurm.gpus a100; give a number, or a type"),
        ({"gpus": -1}, "--slurm.gpus -1"),
        ({"gpus": "a100:4,h100:1"}, "--slurm.gpus a100:4,h100:1"),
        ({"python": "apptainer exec 'lab.sif"}, "No closing quotation"),
        ({"setup": ["echo 'a"]}, "--slurm.setup is no shell script .*matching"),
        ({"setup": ["a\0b"]}, "null character"),
        ({"sbatch": ["--nice=3"]}, "without their dashes"),
        ({"sbatch": ["p=gpu"]}, "give long options"),
        ({"sbatch": ["nice="]}, "as name or name=value"),
        ({"sbatch": ["comment=a\nb"]}, "--slurm.sbatch 'comment=a"),
        ({"sbatch": ["partition=gpu"]}, "say it with --slurm.partition"),
        ({"sbatch": ["job-name=x"]}, "say it with --slurm.name"),
        ({"sbatch": ["ntasks-per-node=2"]}, "say it with --devices"),
        ({"sbatch": ["signal=USR1@9"]}, "say it with --slurm.grace"),
        ({"sbatch": ["output=x"]}, "mrirecon sets output itself"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(keys, words):
    with pytest.raises(InputError, match=words) as error:
        read_request(JobConfig(**keys))
    assert "\n" not in str(error.value)


def test_an_evaluation_is_never_asked_to_save():
    with pytest.raises(InputError, match="mrirecon sets signal itself"):
        read_request(OneJobConfig(sbatch=["signal=USR1@9"]))
    read_request(OneJobConfig(time=1))


@pytest.mark.parametrize("gpus", [0, 4, "4", "a100:4", "nvidia_a100-sxm4-80gb:2"])
def test_gpus_by_number_and_by_type(gpus):
    read_request(SlurmConfig(gpus=gpus))


def test_shell_lines_and_options_are_taken_as_they_stand(capsys):
    """Commas and brackets in them separate nothing."""
    words = ["--slurm.setup", "[ -d /x ]", "export A=b,c", "--slurm.sbatch", "mail-type=END,FAIL", "exclusive"]
    assert main(["train", *words, "--slurm.gpus", "a100:4", "--print-config"]) == 0
    said = capsys.readouterr().out
    assert "setup: ['[ -d /x ]', 'export A=b,c']" in said.replace('"', "'")
    assert "sbatch: ['mail-type=END,FAIL', exclusive]" in said.replace('"', "'")
    assert "gpus: a100:4" in said


@pytest.mark.parametrize("is_new", [True, False])
def test_a_failed_submission_leaves_others_logs_and_the_folders_rights(tmp_path, is_new):
    folder = tmp_path / "run" / "slurm"
    if not is_new:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    with pytest.raises(RuntimeError, match="sbatch"), job_folder(folder):
        for name in ("7_submitted.pkl", "submission_file_7.sh", "6_0_log.out"):
            (folder / name).touch()
        raise RuntimeError("sbatch failed")
    assert [path.name for path in folder.iterdir()] == ["6_0_log.out"]
    umask = os.umask(0o077)
    os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755 & ~umask
