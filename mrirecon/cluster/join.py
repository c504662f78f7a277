"""Start the processes of a machine, and join those of a job into one group of `torch.distributed`.

The rank of each is found from what started it: our own launcher, torchrun or srun.
"""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from mrirecon import ranks
from mrirecon.errors import InputError
from mrirecon.termination import STOP_SIGNALS, heeded, leave_lost_terminal, signal_words

MEETING = "MRIRECON_MEETING"  # the file over which the processes of our launcher find each other
PARENT = "MRIRECON_PARENT"  # process id of the launcher
_PATIENCE = timedelta(minutes=30)  # one process may read for long; one that died is noticed at once
_PARENT_S, _GRACE_S = 1.0, 60.0
_FIRST_PORT, _N_PORTS = 12000, 20000  # below the range that systems give away by themselves


class Processes(Protocol):
    """The keys of a configuration that say how many processes work together."""

    @property
    def devices(self) -> int:
        """On each node."""

    @property
    def num_nodes(self) -> int:
        """Nodes."""

    @property
    def device(self) -> str:
        """auto, cpu or cuda."""


@dataclass(frozen=True)
class Place:
    """One process of a job."""

    rank: int
    local_rank: int  # among those of its node
    world_size: int
    starter: str  # for messages
    meeting: str  # where the processes find each other, as torch.distributed's init_method


@contextmanager
def joined(config: Processes) -> Iterator[None]:
    """Be one of the processes that a configuration asks for: `mrirecon.ranks` then knows the group.

    With one process nothing happens. Each process has a GPU of its own as torch's current one.

    Raises:
        InputError: Other processes were started than asked for, or there are too few GPUs.
    """
    place = None if ranks.in_group() else find_place(config.devices, config.num_nodes)
    if place is None:
        yield
        return
    join(place, config.device)
    yield
    # After an error nobody waits: the end of this process tells the others.
    ranks.barrier()
    if not ranks.is_program:  # whose end will do; with torch 2.6 and 2.7 leaving a group of gloo hangs at times
        leave()


def join(place: Place, device: str = "cpu") -> None:
    """Wait for all processes; CPU tensors go over gloo, those of GPUs over nccl.

    As torch's manual advises (https://docs.pytorch.org/docs/stable/distributed.html).
    """
    import torch
    import torch.distributed

    # do not outlive the launcher: it may be killed without a word
    parent = int(os.environ.get(PARENT, "0"))
    if parent:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        if place.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {place.local_rank} of this node has no GPU ({torch.cuda.device_count()} are here); "
                "lower --devices, let every process see all GPUs of its node (--gpus-per-node, not --gpus-per-task), "
                "or use --device cpu"
            )
        torch.cuda.set_device(place.local_rank)
    os.environ["LOCAL_RANK"] = str(place.local_rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        init_method=place.meeting,
        rank=place.rank,
        world_size=place.world_size,
        timeout=_PATIENCE,
    )


def leave() -> None:
    """End the group."""
    import torch.distributed

    torch.distributed.destroy_process_group()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_S)
    os.kill(os.getpid(), signal.SIGTERM)  # a training saves its state
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def find_place(devices: int, num_nodes: int, env: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place in a job of `devices` x `num_nodes` processes; None where it is alone and shall be.

    It is known from the variables of torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html: RANK, LOCAL_RANK,
    WORLD_SIZE) or of srun (https://slurm.schedmd.com/srun.html: SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS).

    Raises:
        InputError: Other processes were started than asked for, or none at all.
    """
    _check(devices, num_nodes)
    wanted, place = devices * num_nodes, _started(env, devices)
    found = 1 if place is None else place.world_size
    if found == wanted and place is not None and found > 1:
        if place.local_rank >= devices:
            raise InputError(
                f"{place.starter} put more than --devices {devices} processes on one node; make them equal"
            )
        return place
    if found == wanted:
        return None
    if place is None:
        raise InputError(_nobody_started(devices, num_nodes))
    asked = f"--devices {devices} --num-nodes {num_nodes} is {wanted}"
    each = ": each would do all the work" if wanted == 1 else ""
    raise InputError(f"{place.starter} started {found} processes, but {asked}{each}; make them equal")


def processes_to_start(config: Any, env: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that the command line must start on this machine for a configuration; 0: none.

    Raises:
        InputError: Numbers below 1, or several nodes that nobody started.
    """
    devices, num_nodes = getattr(config, "devices", 1), getattr(config, "num_nodes", 1)
    _check(devices, num_nodes)
    if devices * num_nodes == 1 or _started(env, devices) is not None:
        return 0
    if num_nodes > 1:
        raise InputError(_nobody_started(devices, num_nodes))
    return int(devices)


def started_rank(env: Mapping[str, str] = os.environ) -> int:
    """The number that whoever started this process gave it; 0 where it was started alone.

    RANK of torchrun or SLURM_PROCID of srun (https://slurm.schedmd.com/srun.html).

    Raises:
        InputError: What should be a number is none.
    """
    numbers = _numbers(env, devices=1)
    return numbers[0] if numbers else 0


def _check(devices: int, num_nodes: int) -> None:
    for name, value in (("devices", devices), ("num-nodes", num_nodes)):
        if value < 1:
            raise InputError(f"--{name} {value}; at least 1 is needed")


def _nobody_started(devices: int, num_nodes: int) -> str:
    if num_nodes == 1:
        return (
            f"devices {devices}, but this is one process; use the command line, which starts them, "
            "or torchrun --nproc-per-node"
        )
    return (
        f"--num-nodes {num_nodes}, but this is one process; start one for each device: srun --nodes={num_nodes} "
        f"--ntasks-per-node={devices} --kill-on-bad-exit=1 mrirecon ... (or mrirecon train --slurm.nodes {num_nodes})"
    )


def _started(env: Mapping[str, str], devices: int) -> Place | None:
    numbers = _numbers(env, devices)
    if numbers is None:
        return None
    if numbers[-1] == "srun":
        # the same on every node, and another one for each step of each job
        step = 131 * int(env.get("SLURM_JOB_ID", 0)) + int(env.get("SLURM_STEP_ID", 0))
        port = env.get("MASTER_PORT") or str(_FIRST_PORT + step % _N_PORTS)
        return Place(*numbers, f"tcp://{_main_address(env)}:{port}")
    return Place(*numbers, f"file://{env[MEETING]}" if MEETING in env else "env://")


def _numbers(env: Mapping[str, str], devices: int) -> tuple[int, int, int, str] | None:
    """Rank, local rank, world size and starter of a process that was not started alone.

    torchrun's variables, which our launcher sets too, win over SLURM's: torchrun may run inside a job.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        rank = _number(env, "RANK")
        local = _number(env, "LOCAL_RANK") if "LOCAL_RANK" in env else rank % devices
        return rank, local, _number(env, "WORLD_SIZE"), "mrirecon" if MEETING in env else "torchrun"
    n_tasks = _number(env, "SLURM_STEP_NUM_TASKS") if "SLURM_STEP_NUM_TASKS" in env else 1
    return None if n_tasks < 2 else (_number(env, "SLURM_PROCID"), _number(env, "SLURM_LOCALID"), n_tasks, "srun")


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env.get(name, ""))
    except ValueError:
        raise InputError(f"the environment has {name}={env.get(name, '')!r}, which is no number; unset it") from None


def _main_address(env: Mapping[str, str]) -> str:
    """Address of the first node: by its name or, where no name service knows it, as SLURM does."""
    if "MASTER_ADDR" in env:
        return env["MASTER_ADDR"]
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    name = (_scontrol("show", "hostnames", nodes).split() or [nodes])[0]
    try:
        return socket.gethostbyname(name)
    except OSError:
        words = dict(word.partition("=")[::2] for word in _scontrol("show", "node", name, "--oneliner").split())
        return words.get("NodeAddr", name)


def _scontrol(*words: str) -> str:
    if shutil.which("scontrol") is None:
        return ""
    return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False, timeout=60).stdout


# ---- start the processes of one machine, watch them, and end them all when one fails
#
# torchrun does much of this, but answers each failure with its own page of text and exit code 1; here the exit codes
# and the one line of the command that failed come through, and a stopped run has time to save.


REPORTS = "MRIRECON_REPORTS"  # folder for the error of each process, in place of stderr
_LOOK_S = 0.05
_STOPPED, _INTERRUPTED = 75, 130
# seconds between the first failure, SIGTERM and SIGKILL for the others; a stopped run has a state to save
_TO_SIGTERM, _TO_SIGTERM_STOPPED, _TO_SIGKILL = 8.0, 30.0, 15.0


@dataclass
class _Job:
    """The processes by rank, and what became of them."""

    processes: "list[subprocess.Popen[bytes]]"
    failed: dict[int, float] = field(default_factory=dict)  # when it was noticed, in the order of their end
    terminated: set[int] = field(default_factory=set)  # by us
    passed_on: list[int] = field(default_factory=list)  # signals


def launch(command: Sequence[str], n: int) -> tuple[int, str]:
    """Run `command` as `n` processes that know their rank; returns an exit code and what to say.

    They find their places in the variables of torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html).
    Signals are passed on to all. When one fails the others have some seconds to notice, then they are ended. The
    exit code and the words are those of the process that failed first.
    """
    with tempfile.TemporaryDirectory(prefix="mrirecon-") as folder:
        job = _Job([_start(command, rank, n, Path(folder)) for rank in range(n)])

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP:
                leave_lost_terminal()
            job.passed_on.append(number)
            for process in job.processes:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

        old = {number: signal.signal(number, pass_on) for number in heeded(*STOP_SIGNALS)}
        try:
            _watch(job)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            for process in job.processes:
                if process.poll() is None:
                    process.kill()
        return _outcome(job, Path(folder))


def report_error(code: int, text: str) -> bool:
    """Leave a process's error for the launcher; False where there is none, and the error is to be printed."""
    folder = os.environ.get(REPORTS)
    if not folder or not Path(folder).is_dir():
        return False
    path = Path(folder) / f"{os.environ['RANK']}.json"
    path.write_text(json.dumps({"time": time.time(), "code": code, "text": text}))
    return True


def _start(command: Sequence[str], rank: int, n: int, folder: Path) -> "subprocess.Popen[bytes]":
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    env = {**os.environ, **{name: str(value) for name, value in place.items()}}
    env |= {MEETING: str(folder / "meeting"), REPORTS: str(folder), PARENT: str(os.getpid())}
    env.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the end of one process is no news from all others
    env.setdefault("OMP_WAIT_POLICY", "passive")  # more threads than cores must not wait in circles
    if Path("/sys/class/net/lo").exists():
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that does not resolve is no obstacle
    return subprocess.Popen(
        list(command),
        env=env,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on once
    )


def _watch(job: _Job) -> None:
    """Wait for the end of all; once one has failed, with limited patience."""
    while running := [rank for rank, process in enumerate(job.processes) if process.poll() is None]:
        _note_failures(job)
        first, since = next(iter(job.failed.items()), (None, time.monotonic()))
        waited = time.monotonic() - since
        limit = _TO_SIGTERM if first is None or _code(job, first) != _STOPPED else _TO_SIGTERM_STOPPED
        for rank in running:
            if waited > limit + _TO_SIGKILL:
                job.processes[rank].kill()
            elif waited > limit and rank not in job.terminated:
                job.terminated.add(rank)
                job.processes[rank].terminate()
        time.sleep(_LOOK_S)
    _note_failures(job)


def _note_failures(job: _Job) -> None:
    now = time.monotonic()
    for rank in range(len(job.processes)):
        if _code(job, rank):
            job.failed.setdefault(rank, now)


def _code(job: _Job, rank: int) -> int:
    return job.processes[rank].returncode or 0


def _outcome(job: _Job, folder: Path) -> tuple[int, str]:
    """Find the process to blame: one that ended without a word (killed, for example) caused what others told.

    But not what a process that had ended before it told; else it is who told an error first.
    """
    if not job.failed:
        return 0, ""
    reports = {rank: _report(folder / f"{rank}.json") for rank in job.failed}
    told = [(report["time"], rank) for rank, report in reports.items() if report]
    told_until = job.failed[min(told)[1]] if told else math.inf
    silent = [
        r for r, ended in job.failed.items() if not reports[r] and r not in job.terminated and ended <= told_until
    ]
    if silent:
        return _untold(job, silent[0])
    codes = {report["code"] if report else None for report in reports.values()}
    alike = 0 in reports and len(codes) == 1 and None not in codes and codes <= {2, _STOPPED, _INTERRUPTED}
    first = 0 if alike else min(told)[1]
    return _told(reports[first] or {}, first, len(job.processes), alike=alike and len(told) == len(job.processes))


def _untold(job: _Job, rank: int) -> tuple[int, str]:
    code, who = _code(job, rank), f"process {rank} of {len(job.processes)}"
    if code > 0:
        return code, f"{who} failed without a word; all others were stopped"
    if -code in job.passed_on:
        return 1, f"ended by {signal.Signals(-code).name}"
    return 1, f"{who} was ended by {signal_words(-code)}; all others were stopped"


def _told(report: dict[str, Any], rank: int, n: int, alike: bool) -> tuple[int, str]:
    """Join the last words of the processes; what all say is said once, else with the process that says it."""
    text = str(report["text"])
    return int(report["code"]), text if alike else f"process {rank} of {n}: {text}"


def _report(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def rank_command(words: Sequence[str]) -> list[str]:
    """The command of one process: this program with the same words."""
    return [sys.executable, "-m", "mrirecon", *words]
