"""Mutated checkpoints under `evaluate`, `reconstruct`, `train --resume`: what is called, what is right afterwards."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from checkpoint_mutations import CLASSES, HASHES, mutate_checkpoint
from fastmri.models import Unet
from hdf5_cases import mask_columns
from plain_formula import distance, expected_images
from trained_run import trained

_TOLERANCE = 1e-5
_COMMANDS = ("evaluate", "reconstruct", "resume")


def warm_up() -> None:
    """The run whose checkpoints are mutated."""
    trained()


def prepare(folder: Path, mutation: str, rng: np.random.Generator, number: int) -> list[str]:
    """Copy the stopped run, mutate one of its checkpoints; the words of the command."""
    command, hash_file = (_COMMANDS[rng.integers(3)], HASHES[rng.integers(3)])
    run, which = folder / "run", "last" if command == "resume" else "best"
    shutil.copytree(trained() / "stopped", run)
    path = run / "checkpoints" / f"{which}.ckpt"
    mutate_checkpoint(path, mutation, hash_file, rng)
    is_same = path.read_bytes() == (trained() / "stopped" / "checkpoints" / path.name).read_bytes()
    shutil.copyfile(path, folder / "mutated.ckpt")  # a training that goes on replaces it
    (folder / "case.json").write_text(json.dumps({"refuse": hash_file == "stale" and not is_same}))
    common = ["--threads", "1", "--device", "cpu", "--quiet"]
    if command == "resume":
        return ["train", "--resume", str(run), *common]
    common += ["-o", str(folder / "out")]
    if command == "evaluate":
        return ["evaluate", str(run), "--split", "val", "--mask", "random", "--save", *common]
    return ["reconstruct", str(run), str(trained() / "sound.h5"), *common]


def wrong_result(folder: Path, words: list[str]) -> str:
    """What a success did wrong; a checkpoint that does not match its hash must not be used."""
    must_refuse = json.loads((folder / "case.json").read_text())["refuse"]
    if words[0] == "train":
        return _wrong_training(folder / "run", must_refuse or not _is_readable(folder / "mutated.ckpt"))
    if must_refuse:
        return "used a checkpoint that does not match its hash"
    source = trained() / ("data/val/c.h5" if words[0] == "evaluate" else "sound.h5")
    written = folder / "out" / ("reconstructions/val/c.h5" if words[0] == "evaluate" else "sound.h5")
    columns = mask_columns(source) if words[0] == "evaluate" else None
    state = torch.load(folder / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    with h5py.File(written) as file:
        error = distance(file["reconstruction"][()], _through_network(expected_images(source, columns), state))
    return "" if error <= _TOLERANCE else f"differs from fastMRI's network with these weights by {error:.3g}"


def is_fair_failure(folder: Path, words: list[str], text: str) -> bool:
    """A training that goes on from other numbers, which nothing tells from right ones, may diverge and say so."""
    if words[0] != "train" or not _is_readable(folder / "mutated.ckpt") or text.count("\n") != 1:
        return False
    must_refuse = json.loads((folder / "case.json").read_text())["refuse"]
    return not must_refuse and ("training diverged" in text or "reconstructions are not finite" in text)


def _is_readable(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)["state_dict"].items()
    except Exception:  # a damaged one makes torch raise anything
        return False
    return True


def _through_network(images: np.ndarray, state: dict[str, Any]) -> np.ndarray:
    """fastMRI's own U-Net with the weights of a checkpoint, on images as its trainer normalises them."""
    network = Unet(1, 1, chans=4, num_pool_layers=1).eval()
    weights = {name.removeprefix("model."): value for name, value in state["state_dict"].items()}
    network.load_state_dict(weights)
    made = []
    for image in images.astype(np.float32):
        mean, std = image.mean(dtype=np.float64), image.std(dtype=np.float64, ddof=1)
        network_input = torch.from_numpy(((image - mean) / std).clip(-6, 6).astype(np.float32))
        with torch.no_grad():
            made.append(network(network_input[None, None])[0, 0].numpy().astype(np.float64) * std + mean)
    return np.stack(made)


def _wrong_training(run: Path, from_before: bool) -> str:
    """The finished run has finite weights: those of the uninterrupted one where it went on from the one before."""
    whole = torch.load(trained() / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    found = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    if not all(torch.isfinite(value).all() for value in found.values()):
        return "weights that are not finite"
    is_equal = all(torch.equal(value, found[name]) for name, value in whole.items())
    return "other weights than the uninterrupted run's" if from_before and not is_equal else ""


__all__ = ["CLASSES", "is_fair_failure", "prepare", "warm_up", "wrong_result"]
