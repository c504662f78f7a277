"""`mrirecon train`."""

import shlex
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrirecon import configfile
from mrirecon.classpaths import allowed_here
from mrirecon.cli.command import Command
from mrirecon.cli.lazy_libraries import import_torchmetrics
from mrirecon.cluster.jobs import this_job
from mrirecon.cluster.join import processes_to_start
from mrirecon.cluster.submit import is_job, log_of, submit_resumed, submit_training, watch
from mrirecon.config import TrainConfig
from mrirecon.data.hdf5.limits import limit_words
from mrirecon.runs import RunFolder
from mrirecon.tables.optimizers import find_optimizer


def _run(config: TrainConfig, resume: str = "", given: tuple[str, ...] = ()) -> None:
    if is_job(config.slurm):
        _submit(config, resume, given)
        return
    if this_job():  # SLURM's request to save waits until the training listens (termination.py)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    import_torchmetrics()
    from mrirecon.workflows.resume import resume_training
    from mrirecon.workflows.train import train

    run = resume_training(resume, config, given) if resume else train(config)
    print(f"run folder: {run.path}")
    print(f"next:       {_evaluate(config, run)}")


def _evaluate(config: TrainConfig, run: RunFolder) -> str:
    """The call that scores what was validated."""
    words = ["mrirecon", "evaluate", str(run.path), "--split", "val"]
    kept = configfile.read_yaml(run.config, TrainConfig).get("checkpoints") if run.config.is_file() else None
    words += ["--checkpoint", "last"] * ((kept or config.checkpoints) == "end")
    words += [word for prefix in allowed_here() for word in ("--allow-import", prefix)]
    return shlex.join([*words, *limit_words()])


def _submit(config: TrainConfig, resume: str, given: tuple[str, ...]) -> None:
    if resume:
        from mrirecon.workflows.resume import to_go_on

        run, config, changes = to_go_on(resume, config, given)
        job = submit_resumed(run, config, changes)
    else:
        from mrirecon.workflows.setup.training_work import check_setting

        check_setting(config)  # a wrong name is said now, not when the queue has come to it
        job, run = submit_training(config)
    watch(job, log_of(job, run.slurm), config.slurm, f"run folder: {run.path}", _evaluate(config, run))


def _processes(config: TrainConfig, extra: dict[str, str]) -> int:
    """A resumed run goes on with as many as it had, unless the call says otherwise."""
    if config.slurm.nodes:  # submitted by this process, which trains nothing
        return 0
    stored = RunFolder(Path(extra.get("resume", ""))).config
    if "resume" in extra and config.devices == 1 and stored.is_file():
        flat = configfile.read_yaml(stored, TrainConfig)
        config = replace(config, devices=flat.get("devices", 1), num_nodes=flat.get("num_nodes", 1))
    return processes_to_start(config)


def _rate_of_the_file(config: TrainConfig, by_flag: Sequence[str], by_file: Sequence[str]) -> str:
    """Say that the rate of a file goes with the optimizer of a flag, where that one's own is another."""
    optimizer, entry = config.optimizer, find_optimizer(config.optimizer.name)
    is_mixed = "optimizer.name" in by_flag and "optimizer.lr" in by_file and "optimizer.lr" not in by_flag
    if not is_mixed or entry is None or optimizer.lr in ("auto", "find", entry.lr):
        return ""
    return f"lr {optimizer.lr:g} is that of the file; {optimizer.name}'s own is {entry.lr:g} (--lr auto)"


TRAIN = Command(
    name="train",
    summary="Train a normalized U-Net on undersampled k-space.",
    config=TrainConfig,
    run=_run,
    loads_torch=True,
    processes=_processes,
    note=_rate_of_the_file,
    extra=(("--resume RUN", "go on with a stopped run, exactly where it was"),),
    epilog=(
        "examples:\n"
        "  mrirecon train --data DIR --norm group --optimizer adam --lr 1e-3 --max-steps 2000\n"
        "  mrirecon train --data DIR --acceleration 4 8\n"
        "  mrirecon train --data DIR --devices 4 --slurm.nodes 2 --slurm.time 600 --slurm.follow\n"
        "  mrirecon train --resume runs/group-adam-20260101-120000\n"
        "  mrirecon train --resume runs/group-adam-20260101-120000 --slurm.nodes 2"
    ),
)
