"""`mrirecon evaluate`."""

from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import EvaluateConfig, TrainConfig
from mrirecon.runs import RunFolder


def _run(config: EvaluateConfig, reconstructor: str) -> None:
    from mrirecon.workflows.evaluate import evaluate

    evaluate(config, reconstructor)


def _as_trained(words: list[str]) -> dict[str, Any]:
    """Data, masks and split seed of the run, for the keys that are not given."""
    config = RunFolder(Path(words[0])).config if words else None
    if config is None or not config.is_file():
        return {}
    flat = configfile.read_yaml(config, TrainConfig)
    kept = ("path", "mask", "acceleration", "center_fraction", "split_seed", "workers")
    return {key: flat[key] for key in (*(f"data.{name}" for name in kept), "seed", "protocol") if key in flat}


COMMAND = Command(
    name="evaluate",
    summary="Score a trained run, or the method zero-filled: SSIM, PSNR and NMSE per volume.",
    config=EvaluateConfig,
    run=_run,
    defaults=_as_trained,
    positionals=(("RUN|METHOD", "a run folder, or zero-filled"),),
    epilog=(
        "examples:\n"
        "  mrirecon evaluate RUN --data DIR --split val --acceleration 4 8\n"
        "  mrirecon evaluate zero-filled --data DIR --mask-draws 5"
    ),
)
