"""Mutated HDF5 files under `reconstruct` and `evaluate`: what is called, and what is right afterwards."""

import csv
import math
import tempfile
import unicodedata
from pathlib import Path

import h5py
import numpy as np
from fastmri.data.subsample import RandomMaskFunc
from mutations import CLASSES, mutate, sound
from plain_formula import distance, expected_images, target_key
from warm import run_and_import

from mrirecon.cli import main

_TOLERANCE = 1e-5
NAME = "file.h5"


def warm_up() -> None:
    """Import what the two commands import."""
    with tempfile.TemporaryDirectory() as name:
        for number in (0, 4):
            folder = Path(name) / str(number)
            (folder / "data").mkdir(parents=True)
            (folder / "data" / NAME).write_bytes(sound())
            words = _words(folder, number)
            ended = run_and_import(lambda words=words: main(words), folder / "log")
            if ended.code != 0:
                raise RuntimeError(f"{words[0]} of a sound file fails: {ended}")


def prepare(folder: Path, mutation: str, rng: np.random.Generator, number: int) -> list[str]:
    """Write the file; the words of the command. Every fifth case is an evaluation."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / NAME).write_bytes(mutate(mutation, rng))
    (data / "sound.bin").write_bytes(sound())  # where links lead
    return _words(folder, number)


def _words(folder: Path, number: int) -> list[str]:
    data, out = folder / "data", folder / "out"
    common = ["-o", str(out), "--threads", "1", "--device", "cpu", "--quiet"]
    if number % 5 == 4:
        common += ["--data", str(data), "--split", "all", "--mask", "random", "--save"]
        return ["evaluate", "zero-filled", *common]
    return ["reconstruct", "zero-filled", str(data / NAME), *common]


def is_fair_failure(folder: Path, words: list[str], text: str) -> bool:
    """No work on a mutated file may fail half-way."""
    return False


def wrong_result(folder: Path, words: list[str]) -> str:
    """Compare what a successful command wrote with the plain formula; empty where they agree."""
    path, out = folder / "data" / NAME, folder / "out"
    if followed := _leads_out(path):
        return f"followed a link out of the file: {followed}"
    if words[0] == "reconstruct":
        return _differs(out / NAME, expected_images(path))
    expected = expected_images(path, mask_columns(path))
    return _differs(out / "reconstructions" / NAME, expected) or _scores_differ(path, out, expected)


def _differs(written: Path, expected: np.ndarray) -> str:
    with h5py.File(written, "r") as file:
        found = file["reconstruction"][()]
    error = distance(found, expected)
    return "" if error <= _TOLERANCE else f"differs from the plain formula by {error:.3g}"


def mask_columns(path: Path) -> np.ndarray:
    """fastMRI's mask for the file's name."""
    with h5py.File(path, "r") as file:
        width = file["kspace"].shape[-1]
        name = _text(file.attrs.get("mask_seed_name", path.name))
    mask, _ = RandomMaskFunc([0.08], [4])((1, width, 2), None, tuple(map(ord, name or path.name)))
    return mask.numpy().reshape(-1) > 0


def _text(value: object) -> str:
    """An attribute as text, whatever it is; nothing where it is empty or zero. What cannot be printed is marked."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def _scores_differ(path: Path, out: Path, images: np.ndarray) -> str:
    with h5py.File(path, "r") as file:
        target = file[target_key(file)][()].astype(np.float64)
    with (out / "volumes.csv").open() as handle:
        (row,) = csv.DictReader(handle)
    error = target - images
    scale = np.abs(target).max()
    nmse = ((error / scale) ** 2).sum() / ((target / scale) ** 2).sum()
    if not all(math.isfinite(float(row[key])) for key in ("ssim", "psnr", "nmse")):
        return f"scores are not finite: {row['ssim']} {row['psnr']} {row['nmse']}"
    if not math.isclose(float(row["nmse"]), nmse, rel_tol=1e-4):
        return f"nmse is {row['nmse']}, by the formula {nmse}"
    return ""


def _leads_out(path: Path) -> str:
    """The data set of a file that lies outside it."""
    with h5py.File(path, "r") as file:
        for key in filter(None, ("kspace", "mask", "ismrmrd_header", target_key(file))):
            is_outside = isinstance(file.get(key, getlink=True), h5py.ExternalLink)
            if is_outside or (key in file and (file[key].external or file[key].is_virtual)):
                return key
    return ""


__all__ = ["CLASSES", "is_fair_failure", "prepare", "warm_up", "wrong_result"]
