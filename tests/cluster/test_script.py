"""The batch scripts that `mrirecon config show sbatch` prints."""

import subprocess

import pytest

from mrirecon.cli import main
from mrirecon.cluster.request import COMMANDS, read_request
from mrirecon.config.slurm import JobConfig, OneJobConfig


def script(capsys, *words):
    assert main(["config", "show", "sbatch", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_asks_for_what_a_submitted_job_asks_for(command, capsys):
    keys = {"partition": "gpu", "gpus": "a100:4", "constraint": "a&b", "time": 9, "sbatch": ["nice=3", "exclusive"]}
    words = [word for key, value in keys.items() if key != "sbatch" for word in (f"--slurm.{key}", str(value))]
    text = script(capsys, command, *words, "--slurm.sbatch", *keys["sbatch"], "--devices", "4", "--slurm.nodes", "2")
    lines = text.splitlines()
    found = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH")]
    kind = OneJobConfig if command == "evaluate" else JobConfig
    asked = read_request(kind(**keys)).named(f"mrirecon-{command}") | {"nodes": 2, "ntasks-per-node": 4}
    assert {name: value.strip("'") or True for name, _, value in found} == {
        **{name: value if value is True else str(value) for name, value in asked.items()},
        "output": "%x-%j.log",
    }
    assert lines[0].startswith("#!")
    assert max(len(line) for line in lines if line.startswith("#")) <= 140


@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_starts_the_command_with_its_arguments(command, capsys, tmp_path):
    """Run by bash, with a stand-in for srun that shows what it got and one set-up line."""
    text = script(capsys, command, "--slurm.setup", "export CHOSEN='b, c'", "--slurm.python", "box 'a python'")
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$CHOSEN" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "job").write_text(text)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "job", "RUN", "--name", "a b"], cwd=tmp_path, env=path, capture_output=True, text=True, check=True
    )
    chosen, stops, *words = done.stdout.splitlines()
    assert (chosen, stops) == ("b, c", "--kill-on-bad-exit=1")
    assert words[-8:] == ["box", "a python", "-m", "mrirecon", command, "RUN", "--name", "a b"]


def test_the_script_of_train_is_the_one_that_is_meant(capsys):
    assert script(capsys) == script(capsys, "train")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sbatch", "trian"], "did you mean 'train'?"),
        (["sbatch", "evaluate", "--slurm.grace", "9"], "--slurm.grace is for jobs that are saved"),
        (["sbatch", "--slurm.time", "1"], "leaves nothing of --slurm.time 1 min"),
        (["sbatch", "--devices", "0"], "--devices 0"),
        (["base", "--slurm.time", "1"], "base does not"),
        (["base", "evaluate"], "base does not"),
    ],
)
def test_what_no_script_can_be_made_of_is_one_line(words, said, capsys):
    assert main(["config", "show", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
