"""`mrirecon reconstruct`."""

import shlex

from mrirecon.cli.command import Command
from mrirecon.config import ReconstructConfig


def _run(config: ReconstructConfig, reconstructor: str, *files: str) -> None:
    from mrirecon.workflows.reconstruct import reconstruct

    done = reconstruct(config, reconstructor, files)
    rate = f", {done.n_slices / done.seconds:.1f} slices/s" if done.n_slices else ""
    print(f"reconstructed: {_count(done.n_volumes, 'volume')}, {_count(done.n_slices, 'slice')}{rate}")
    if done.n_left:
        print(f"left:          {_count(done.n_left, 'volume')}, there already and made from the same by the same")
    print(f"folder:        {done.folder}")
    if "h5" in config.format:
        print(f"next:          mrirecon score {shlex.quote(str(done.folder))} TARGETS")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


COMMAND = Command(
    name="reconstruct",
    summary="Images from k-space with a trained run, a file of weights, or zero-filled; no reference needed.",
    config=ReconstructConfig,
    run=_run,
    loads_torch=True,
    positionals=(
        ("RUN|METHOD|FILE", "a run folder, zero-filled, or weights of the network that --model, ... describe"),
        ("FILES...", "fastMRI .h5 files, or folders of them; their own masks are applied, nothing else is removed"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon reconstruct RUN DIR/multicoil_test -o OUT\n"
        "  mrirecon reconstruct RUN a.h5 b.h5 -o OUT --format h5 png\n"
        "  mrirecon reconstruct knee_mc_leaderboard_state_dict.pt DIR -o OUT --model unet --channels 256\n"
        "Call it again with the same words to go on where it was stopped."
    ),
)
