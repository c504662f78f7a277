"""`mrirecon evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.cluster.submit import is_job, log_of, place_of, processes, require_data, submit_use, watch
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.runs import run_of


def _run(config: EvaluateConfig, *reconstructors: str) -> None:
    if is_job(config.slurm):
        _submit(config, *reconstructors)
    else:
        from mrirecon.workflows.evaluate import evaluate

        evaluate(config, *reconstructors)


def _submit(config: EvaluateConfig, reconstructor: str, *others: str) -> None:
    from mrirecon.workflows.setup.evaluations import read_call

    if others:
        raise InputError(
            f"--slurm.* submits one thing at a time, not {reconstructor} and {others[0]}: submit each, then mrirecon "
            "compare; or score all here"
        )
    read_call(config, [reconstructor])
    require_data(config.data.path)
    run = place_of(reconstructor)
    # tables in a folder of their own appear whole, so the files of the job stand beside it
    folder = Path(f"{config.output}-slurm") if config.output else run.slurm
    job = submit_use("evaluate", [reconstructor], config, folder, f"evaluate-{run.name}")
    where = Path(config.output or run.path / "evaluation")
    watch(job, log_of(job, folder), config.slurm, f"tables:     {where}")


_OF_TRAINING = ("path", "mask", "acceleration", "center_fraction", "split_seed", "workers", "check")
_OF_ITS_DATA = ("coils", "acquisition", "volumes", "slices", "check_reference")


def _as_trained(words: list[str], parsed: Callable[[dict[str, Any]], EvaluateConfig]) -> dict[str, Any]:
    """Data, masks and splits of the (first) run, for keys not given; its selection of files for its own data only."""
    run = next(filter(None, map(run_of, words)), None)
    if run is None:
        return {}
    flat = configfile.read_yaml(run.config, TrainConfig)

    def kept(*names: str) -> dict[str, Any]:
        return {key: flat[key] for key in (*(f"data.{name}" for name in names), "seed", "protocol") if key in flat}

    data = Path(parsed(kept(*_OF_TRAINING)).data.path)
    is_same = data.resolve() == Path(flat.get("data.path", "")).resolve()
    return kept(*_OF_TRAINING, *(_OF_ITS_DATA if is_same or (run.volumes() and run.was_trained_on(data)) else ()))


EVALUATE = Command(
    name="evaluate",
    summary="Score a trained run, a file of weights, or a method: SSIM, PSNR, NMSE and more per volume.",
    config=EvaluateConfig,
    run=_run,
    loads_torch=True,
    takes_method=True,
    defaults=_as_trained,
    processes=processes,
    positionals=(
        (
            "RUN|METHOD|FILE...",
            "a run folder, a method ({METHODS}), or weights of the network that --model, ... describe; several are "
            "scored on the same masks (those of the first run) and compared with the first in one table and picture",
        ),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon evaluate RUN --data DIR --split val --acceleration 4 8\n"
        "  mrirecon evaluate zero-filled --data DIR --mask-draws 5\n"
        "  mrirecon evaluate tv --data DIR                     lambda chosen on val, or on train where val is scored\n"
        "  mrirecon evaluate zero-filled sense tv RUN --data DIR --split test\n"
        "  mrirecon evaluate RUN --metrics ssim ssim_object hfen\n"
        "  mrirecon evaluate RUN --regions brain.csv\n"
        "  mrirecon evaluate RUN --split test --slurm.nodes 1 --slurm.gpus 1 --slurm.follow\n"
        "  mrirecon evaluate knee_mc_leaderboard_state_dict.pt --model unet --channels 256 --data DIR"
    ),
)
