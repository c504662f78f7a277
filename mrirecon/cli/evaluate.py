"""`mrirecon evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.runs import run_of


def _run(config: EvaluateConfig, reconstructor: str) -> None:
    from mrirecon.workflows.evaluate import evaluate

    evaluate(config, reconstructor)


_OF_TRAINING = ("path", "mask", "acceleration", "center_fraction", "split_seed", "workers", "check")
_OF_ITS_DATA = ("coils", "acquisition", "volumes", "slices", "check_reference")


def _as_trained(words: list[str], parsed: Callable[[dict[str, Any]], EvaluateConfig]) -> dict[str, Any]:
    """Data, masks and splits of the run, for keys that are not given; its selection of files for its own data only."""
    run = run_of(words[0]) if words else None
    if run is None:
        return {}
    flat = configfile.read_yaml(run.config, TrainConfig)

    def kept(*names: str) -> dict[str, Any]:
        return {key: flat[key] for key in (*(f"data.{name}" for name in names), "seed", "protocol") if key in flat}

    data = Path(parsed(kept(*_OF_TRAINING)).data.path)
    is_same = data.resolve() == Path(flat.get("data.path", "")).resolve()
    return kept(*_OF_TRAINING, *(_OF_ITS_DATA if is_same or (run.volumes() and run.was_trained_on(data)) else ()))


COMMAND = Command(
    name="evaluate",
    summary="Score a trained run, a file of weights, or the method zero-filled: SSIM, PSNR and NMSE per volume.",
    config=EvaluateConfig,
    run=_run,
    loads_torch=True,
    defaults=_as_trained,
    positionals=(
        ("RUN|METHOD|FILE", "a run folder, zero-filled, or weights of the network that --model, ... describe"),
    ),
    epilog=(
        "examples:\n"
        "  mrirecon evaluate RUN --data DIR --split val --acceleration 4 8\n"
        "  mrirecon evaluate zero-filled --data DIR --mask-draws 5\n"
        "  mrirecon evaluate knee_mc_leaderboard_state_dict.pt --model unet --channels 256 --data DIR"
    ),
)
