"""Several processes go on from one checkpoint, whatever each of them sees of a shared file system."""

from pathlib import Path

import torch
from ranks_of_a_test import run_ranks

from mrirecon import ranks
from mrirecon.errors import InputError
from mrirecon.runs import RunFolder
from mrirecon.training.checkpoints.read import resumable
from mrirecon.training.checkpoints.write import CheckpointFiles


def write(folder, *steps):
    run = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    for step in steps:
        CheckpointFiles(run).save_checkpoint({"global_step": step}, run.checkpoint("last"))
    return run


def choose(cases):
    """The names that this process gets, of its own folder of each case; or the error."""
    return [_choice(RunFolder(Path(folders[ranks.rank()]))) for folders in cases]


def _choice(run):
    try:
        return resumable(run).name
    except InputError as error:
        return str(error)


def test_all_follow_the_first(tmp_path):
    """An error too: one that raised alone would leave the others waiting for it."""
    cases = []
    for damaged, other in (("last", "previous"), ("previous", "last"), (None, "last")):
        first = write(tmp_path / f"{damaged}-first", 1, 2) if damaged else RunFolder(tmp_path / "nothing")
        second = write(tmp_path / f"{damaged}-second", 1, 2)
        torch.save({}, second.checkpoint(other))
        if damaged:
            torch.save({}, first.checkpoint(damaged))
        cases.append([str(first.path), str(second.path)])
    one, two = run_ranks(2, "test_resumable_ranks:choose", cases)
    assert one == two
    assert one[:2] == ["previous.ckpt", "last.ckpt"]
    assert "nothing has no checkpoint yet" in one[2]
