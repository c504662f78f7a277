"""Translate the keys of `slurm` into options of sbatch, checked before a job is submitted."""

import re
import shlex
import shutil
import subprocess
import sys
from typing import Any

from mrirecon.config.slurm import RequeueConfig, SlurmConfig
from mrirecon.configfile import require_ranges
from mrirecon.errors import InputError

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


def check_request(slurm: SlurmConfig) -> None:
    """Raise an InputError for a value that no job can be asked for with; names of a site are sbatch's to refuse."""
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
    _python(slurm)
    _check_setup(slurm.setup)
    _further(slurm)


def sbatch_options(slurm: SlurmConfig, name: str) -> dict[str, Any]:
    """sbatch's options for the keys that all jobs have; `name` is for a job that was given none.

    Names and values are those of its manual (https://slurm.schedmd.com/sbatch.html).

    Raises:
        InputError: See `check_request`.
    """
    check_request(slurm)
    wanted: dict[str, Any] = {"job-name": slurm.name or " ".join(name.split())}
    wanted |= {option: getattr(slurm, option) for option in _LIKE_KEYS}
    wanted |= {"cpus-per-task": slurm.cpus, "gpus-per-node": n_gpus(slurm) and slurm.gpus}
    if isinstance(slurm, RequeueConfig):
        wanted |= {"signal": f"USR1@{slurm.grace}", "requeue": True, "open-mode": "append"}
    else:
        wanted |= {"no-requeue": True}
    return {option: value for option, value in wanted.items() if value} | _further(slurm)


def n_gpus(slurm: SlurmConfig) -> int:
    """GPUs of each node that were asked for: sbatch's `[type:]number` (https://slurm.schedmd.com/sbatch.html)."""
    return int(str(slurm.gpus).rpartition(":")[2])


def setup_lines(slurm: SlurmConfig) -> list[str]:
    """Return the first lines of a job's script; a line of the user's that fails is named and ends the job."""
    lines = [f"export {REQUEUES}={slurm.requeues}"] if isinstance(slurm, RequeueConfig) else []
    if slurm.setup:
        said = "mrirecon: a line of --slurm.setup failed with exit code $?: $BASH_COMMAND"
        lines += [f"trap 'echo \"{said}\" >&2' ERR; set -e", *slurm.setup, "set +e; trap - ERR"]
    return lines


def python_words(slurm: SlurmConfig) -> tuple[list[str], str]:
    """The words that start Python on a node, and what it is called where it runs (inside of a container)."""
    words = _python(slurm)
    return words, words[-1]


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
