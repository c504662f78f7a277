"""The batch script of a command, for `sbatch SCRIPT ARGUMENTS`."""

import dataclasses
import shlex

from mrirecon.cluster.request import DEAF, python_words, sbatch_options, setup_lines
from mrirecon.config.slurm import JobConfig, OneJobConfig
from mrirecon.errors import InputError, unknown_name

# command -> what can be asked for its jobs, and the arguments of an example
COMMANDS: dict[str, tuple[type[OneJobConfig], str]] = {
    "train": (JobConfig, "--data DIR --norm group --optimizer adam"),
    "evaluate": (OneJobConfig, "RUN --split test"),
    "reconstruct": (JobConfig, "RUN FILES -o OUT"),
}
_HEAD = """\
#!/usr/bin/env bash
# `mrirecon {command}` as a SLURM job, made by: mrirecon config show sbatch {command} > {command}.sbatch
#
#   sbatch {command}.sbatch {example}
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 {command}.sbatch {example} --devices 4 --num-nodes 2
#
# Options of sbatch stand before the script and win over the lines below; the arguments are those of the command.
# --ntasks-per-node is --devices, --nodes is --num-nodes.
{ends}
"""
_SAVES = """\
# {grace} s before the time limit (or after `scancel --signal=USR1 JOB`) the work is saved and the job requeued; it then
# goes on by itself."""
_ENDS = "# Nothing is saved half-way, so the job is not requeued when it is preempted: submit it again."


def sbatch_script(command: str, slurm: JobConfig, devices: int = 1) -> str:
    """The script of train, evaluate or reconstruct; its arguments are those of the command.

    Lines `#SBATCH` are read as its manual says (https://slurm.schedmd.com/sbatch.html).

    Args:
        command: Its name.
        slurm: What is asked for, where the call of sbatch does not say otherwise.
        devices: Processes on each node.

    Raises:
        InputError: Another command, or something that cannot be asked for.
    """
    if command not in COMMANDS:
        raise unknown_name("command of a job", command, COMMANDS)
    if devices < 1 or slurm.nodes < 0:
        raise InputError(f"--devices {devices} --slurm.nodes {slurm.nodes}; at least 1 is needed of both")
    kind, example = COMMANDS[command]
    names = [item.name for item in dataclasses.fields(kind)]
    if other := [key for key, value in vars(slurm).items() if key not in names and value != getattr(JobConfig(), key)]:
        raise InputError(f"--slurm.{other[0]} is for jobs that are saved and requeued, {command} is not: leave it out")
    asked = kind(**{name: getattr(slurm, name) for name in names})
    options = sbatch_options(asked, f"mrirecon-{command}")
    options = {"nodes": slurm.nodes or 1, "ntasks-per-node": devices, "output": "%x-%j.log", **options}
    is_saved = isinstance(asked, JobConfig)
    program = [*python_words(slurm)[0], "-m", "mrirecon", command]
    if is_saved:
        program = ["bash", "-c", DEAF, *program]
    ends = _SAVES.format(grace=slurm.grace) if is_saved else _ENDS
    return "\n".join(
        [
            _HEAD.format(command=command, example=example, ends=ends),
            *(f"#SBATCH --{name}" + ("" if value is True else f"={_quoted(value)}") for name, value in options.items()),
            "",
            *setup_lines(asked),
            "set -euo pipefail",
            'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun does not take over sbatch\'s',
            "# one failed process ends the job: the others would wait for it",
            f'exec srun --kill-on-bad-exit=1 {shlex.join(program)} "$@"',
            "",
        ]
    )


def _quoted(value: object) -> str:
    """`%x` and the like need no quotes."""
    text = str(value)
    return text if text.replace("%", "").isalnum() else shlex.quote(text)
