"""`mrirecon reconstruct`."""

import shlex
import signal
from pathlib import Path

from mrirecon.cli.command import Command
from mrirecon.cluster.jobs import this_job
from mrirecon.cluster.submit import is_job, log_of, place_of, processes, submit_use, watch
from mrirecon.config import ReconstructConfig


def _run(config: ReconstructConfig, reconstructor: str, *files: str) -> None:
    if is_job(config.slurm):
        _submit(config, reconstructor, files)
        return
    if this_job():  # SLURM's request to save waits until the work listens (termination.py)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    from mrirecon.workflows.reconstruct import reconstruct

    done = reconstruct(config, reconstructor, files)
    rate = f", {done.n_slices / done.seconds:.1f} slices/s" if done.n_slices else ""
    print(f"reconstructed: {_count(done.n_volumes, 'volume')}, {_count(done.n_slices, 'slice')}{rate}")
    if done.n_left:
        print(f"left:          {_count(done.n_left, 'volume')}, there already and made from the same by the same")
    print(f"folder:        {done.folder}")
    if "h5" in config.format:
        print(f"next:          mrirecon score {shlex.quote(str(done.folder))} TARGETS")


def _submit(config: ReconstructConfig, reconstructor: str, files: tuple[str, ...]) -> None:
    from mrirecon.workflows.reconstruct import check_call

    check_call(config, reconstructor, files)
    name = f"reconstruct-{place_of(reconstructor).name}"
    folder = Path(config.output) / "slurm"
    job = submit_use("reconstruct", [reconstructor, *files], config, folder, name)
    following = f"mrirecon score {shlex.quote(config.output)} TARGETS" if "h5" in config.format else ""
    watch(job, log_of(job, folder), config.slurm, f"folder:     {config.output}", following)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


RECONSTRUCT = Command(
    name="reconstruct",
    summary="Images from k-space with a trained run, a file of weights, or a method; no reference needed.",
    config=ReconstructConfig,
    run=_run,
    processes=processes,
    loads_torch=True,
    takes_method=True,
    positionals=(
        ("RUN|METHOD|FILE", "a run folder, a method ({METHODS}), or weights of the network that --model, ... describe"),
        ("FILES...", "fastMRI .h5 files, or folders of them; their own masks are applied, nothing else is removed"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon reconstruct RUN DIR/multicoil_test -o OUT\n"
        "  mrirecon reconstruct RUN a.h5 b.h5 -o OUT --format h5 png\n"
        "  mrirecon reconstruct RUN DIR -o OUT --samples 10\n"
        "  mrirecon reconstruct RUN DIR -o OUT --slurm.nodes 2 --slurm.time 120\n"
        "  mrirecon reconstruct knee_mc_leaderboard_state_dict.pt DIR -o OUT --model unet --channels 256\n"
        "Call it again with the same words to go on where it was stopped."
    ),
)
