"""`mrirecon evaluate`."""

from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.runs import RunFolder, checkpoint_in_run


def _run(config: EvaluateConfig, reconstructor: str) -> None:
    from mrirecon.workflows.evaluate import evaluate

    evaluate(config, reconstructor)


def _as_trained(words: list[str]) -> dict[str, Any]:
    """Data, masks and split seed of the run, for the keys that are not given."""
    run, _ = checkpoint_in_run(words[0]) or (RunFolder(Path(words[0])), "") if words else (None, "")
    if run is None or not run.config.is_file():
        return {}
    config = run.config
    flat = configfile.read_yaml(config, TrainConfig)
    kept = ("path", "mask", "acceleration", "center_fraction", "split_seed", "workers")
    return {key: flat[key] for key in (*(f"data.{name}" for name in kept), "seed", "protocol") if key in flat}


COMMAND = Command(
    name="evaluate",
    summary="Score a trained run, a file of weights, or the method zero-filled: SSIM, PSNR and NMSE per volume.",
    config=EvaluateConfig,
    run=_run,
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
