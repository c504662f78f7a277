"""An evaluation that chooses lambda, and one of several things, by one process or several."""

import torch

from mrirecon import ranks
from mrirecon.config import DataConfig, EvaluateConfig
from mrirecon.workflows.evaluate import evaluate


def evaluate_both(root: str, out: str) -> list[str]:
    torch.set_num_threads(1)
    config = EvaluateConfig(
        data=DataConfig(path=f"{root}/data", mask="random"),
        method={"maps": "low-resolution", "iterations": 6},
        split="val",
        output=f"{root}/{out}",
        figure_volumes=["all"],
        device="cpu",
        devices=ranks.world_size(),
        threads=1,
    )
    return [str(path) for path in evaluate(config, "zero-filled", "tv")]
