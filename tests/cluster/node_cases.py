"""What each process of a group does on a node of its own: the same relative paths, other files."""

import os

from mrirecon import ranks
from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, ReconstructConfig, TrainConfig
from mrirecon.data.hdf5 import quarantine
from mrirecon.errors import AgreedError
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train

DATA = DataConfig(path="data")


def _train(output, **changes):
    keys = {"max_steps": 1, "precision": "fp32", "threads": 1, "device": "cpu", "devices": 2, "logger": "none"}
    train(TrainConfig(data=DATA, model=ModelConfig(channels=4, pools=2), output=output, **(keys | changes)))


COMMANDS = {
    "train": lambda out: _train(f"{out}/run"),
    "resume": lambda out: resume_training(f"{out}/run", TrainConfig(data=DATA), ["data.path"]),
    "evaluate": lambda out: evaluate(EvaluateConfig(data=DATA, output=f"{out}/table", devices=2), "zero-filled"),
    "reconstruct": lambda out: reconstruct(
        ReconstructConfig(output=f"{out}/images", devices=2), "zero-filled", ["data/train"]
    ),
}


def try_all(nodes: list[str], out: str, commands: list[str]) -> dict[str, str]:
    """What each command says on this node; nothing, where it is done."""
    os.chdir(nodes[ranks.rank()])
    said = {}
    for command in commands:
        try:
            COMMANDS[command](out)
            said[command] = ""
        except AgreedError as error:
            said[command] = str(error)
    return said


def try_cases(cases: list[tuple[list[str], str, list[str]]]) -> list[dict[str, str]]:
    """`try_all` of several pairs of nodes, one after the other."""
    return [try_all(*case) for case in cases]


def work_and_go_on(nodes: list[str], out: str, spoiled: list[str]) -> tuple[list[str], str]:
    """The files that this process examines in sound commands, and what `resume` says of spoiled data."""
    seen: list[str] = []
    original = quarantine._one_by_one

    def counting(jobs):
        seen.extend(job.label for job in jobs)
        return original(jobs)

    quarantine._one_by_one = counting
    try:
        assert set(try_all(nodes, out, list(COMMANDS)).values()) == {""}
    finally:
        quarantine._one_by_one = original
    return seen, try_all(spoiled, out, ["resume"])["resume"]
