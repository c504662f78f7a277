"""Translate the keys of `slurm` into options of sbatch, checked before a job is submitted; or into a batch script."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrirecon.config.slurm import JobConfig, OneJobConfig, RequeueConfig, SlurmConfig
from mrirecon.configfile import require_ranges
from mrirecon.errors import InputError, unknown_name

REQUEUES = "MRIRECON_REQUEUES"  # tells a job how many starts without progress are borne
# neither the job's first process nor the command that takes its place dies of the signal to save before it listens
DEAF = 'trap "" USR1; exec "$0" "$@"'
_LIKE_KEYS = ("partition", "account", "qos", "constraint", "exclude", "reservation", "time", "mem")
# sbatch's option -> the key that says it
_KEYS = {
    **dict(zip(_LIKE_KEYS, _LIKE_KEYS, strict=True)),
    **{"job-name": "name", "cpus-per-task": "cpus", "gpus-per-node": "gpus", "nodes": "nodes", "signal": "grace"},
    **{"ntasks-per-node": "devices", "requeue": "requeues", "no-requeue": "requeues"},
}
_OURS = ("ntasks", "output", "error", "open-mode", "array", "wrap", "test-only", "parsable", "wait")
_GPUS = re.compile(r"([A-Za-z][\w.-]*:)?[0-9]+")
_OPTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TIMEOUT_S = 20


@dataclass(frozen=True)
class Request:
    """The request of a job, read once from the keys of `slurm`; every value is one that can be asked for."""

    name: str  # of the job; empty: none was given
    options: Mapping[str, Any]  # of sbatch (https://slurm.schedmd.com/sbatch.html), by their long names
    python: Sequence[str]  # the words that start Python on a node; the last is its name inside of a container
    setup: Sequence[str]  # first lines of the job's script
    n_gpus: int  # of each node: sbatch's `[type:]number`

    def named(self, name: str) -> dict[str, Any]:
        """sbatch's options of a job; `name` is for one that was given none."""
        return {"job-name": self.name or " ".join(name.split()), **self.options}


def read_request(slurm: SlurmConfig) -> Request:
    """Read the options of a job; names of a site are sbatch's to refuse.

    Raises:
        InputError: A value that sbatch cannot take.
    """
    for name in ("name", "partition", "account", "qos", "constraint", "exclude", "reservation", "mem", "python"):
        value = getattr(slurm, name)
        if not value.isprintable() or value != value.strip():
            raise InputError(f"--slurm.{name} {value!r}; give one line of printable characters, without spaces around")
    if "/" in slurm.name:
        raise InputError(f"--slurm.name {slurm.name}; a job's name holds no slash: logs are called by it")
    require_ranges(slurm, "slurm.")
    if isinstance(slurm, RequeueConfig) and slurm.grace >= 60 * slurm.time:
        raise InputError(
            f"--slurm.grace {slurm.grace} s leaves nothing of --slurm.time {slurm.time} min; it must be shorter"
        )
    if not _GPUS.fullmatch(str(slurm.gpus)):
        raise InputError(f"--slurm.gpus {slurm.gpus}; give a number, or a type and a number such as a100:4")
    python = _python(slurm)
    _check_setup(slurm.setup)
    further = _further(slurm)
    n_gpus = int(str(slurm.gpus).rpartition(":")[2])
    wanted: dict[str, Any] = {option: getattr(slurm, option) for option in _LIKE_KEYS}
    wanted |= {"cpus-per-task": slurm.cpus, "gpus-per-node": n_gpus and slurm.gpus}
    if isinstance(slurm, RequeueConfig):
        wanted |= {"signal": f"USR1@{slurm.grace}", "requeue": True, "open-mode": "append"}
    else:
        wanted |= {"no-requeue": True}
    options = {option: value for option, value in wanted.items() if value} | further
    return Request(slurm.name, options, python, _setup_lines(slurm), n_gpus)


def _setup_lines(slurm: SlurmConfig) -> list[str]:
    """Return the first lines of a job's script; a line of the user's that fails is named and ends the job."""
    lines = [f"export {REQUEUES}={slurm.requeues}"] if isinstance(slurm, RequeueConfig) else []
    if slurm.setup:
        said = "mrirecon: a line of --slurm.setup failed with exit code $?: $BASH_COMMAND"
        lines += [f"trap 'echo \"{said}\" >&2' ERR; set -e", *slurm.setup, "set +e; trap - ERR"]
    return lines


def _python(slurm: SlurmConfig) -> list[str]:
    try:
        return shlex.split(slurm.python) or [sys.executable]
    except ValueError as error:
        raise InputError(f"--slurm.python {slurm.python!r}: {error}; quote it as a shell would") from None


def _check_setup(lines: list[str]) -> None:
    text = "\n".join(lines)
    if "\0" in text:
        raise InputError("--slurm.setup holds a null character; give shell lines")
    bash = shutil.which("bash")
    if not text or bash is None:
        return
    done = subprocess.run([bash, "-n"], input=text, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        reason = " ".join(done.stderr.split()).replace(f"{bash}: ", "")[:300]
        raise InputError(f"--slurm.setup is no shell script ({reason}); quote each line as one word")


def _further(slurm: SlurmConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in slurm.sbatch:
        option, has_value, value = word.partition("=")
        if not _OPTION.fullmatch(option) or len(option) < 2 or not value.isprintable() or (has_value and not value):
            raise InputError(
                f"--slurm.sbatch {word!r}; give long options of sbatch without their dashes, as name or name=value"
            )
        key = _KEYS.get(option, "")
        if key == "devices" or hasattr(slurm, key):
            raise InputError(f"--slurm.sbatch {word}; say it with --{'' if key == 'devices' else 'slurm.'}{key}")
        if key or option in _OURS:
            raise InputError(f"--slurm.sbatch {word}; mrirecon sets {option} itself: leave it out")
        found[option] = value if has_value else True
    return found


# ---- the batch script of a command, for `sbatch SCRIPT ARGUMENTS`


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
    request = read_request(asked)
    options = {"nodes": slurm.nodes or 1, "ntasks-per-node": devices, "output": "%x-%j.log"}
    options |= request.named(f"mrirecon-{command}")
    is_saved = isinstance(asked, JobConfig)
    program = [*request.python, "-m", "mrirecon", command]
    if is_saved:
        program = ["bash", "-c", DEAF, *program]
    ends = _SAVES.format(grace=slurm.grace) if is_saved else _ENDS
    return "\n".join(
        [
            _HEAD.format(command=command, example=example, ends=ends),
            *(
                f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
                for name, value in options.items()
            ),
            "",
            *request.setup,
            "set -euo pipefail",
            'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun does not take over sbatch\'s',
            "# one failed process ends the job: the others would wait for it",
            f'exec srun --kill-on-bad-exit=1 {shlex.join(program)} "$@"',
            "",
        ]
    )
