"""Data, a network and the evaluations that one and several processes do, for the tests of the shared evaluation."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from mrirecon import configfile, ranks
from mrirecon.classical import ZeroFilled
from mrirecon.config import DataConfig, EvaluateConfig, ModelConfig, ReconstructConfig, TrainConfig
from mrirecon.errors import Stopped
from mrirecon.training.build import build_model
from mrirecon.training.module import ReconModule
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.reconstruct import reconstruct
from mrirecon.workflows.scoring import loop as scoring

SLICES = (4, 1, 3, 2)  # of each volume; two volumes have the same file name


def write_data(root: Path, volume_writer) -> None:
    for i, (n, folder) in enumerate(zip(SLICES, ("train", "val", "val", "test"), strict=True)):
        name = "same.h5" if folder in ("train", "test") else f"file{i}.h5"
        matrix = (32, 32) if i % 2 else (40, 36)
        boxes = [{"slice": k, "x": 9 + k, "y": 8, "width": 11, "height": 7, "label": "ab"[k % 2]} for k in range(n)]
        about = {"patient_id": f"p{i}", "attrs": {"annotations": json.dumps(boxes)}}
        volume_writer(root / folder / name, n_slices=n, n_coils=2 + i % 2, matrix=matrix, seed=i, **about)
        if i % 2:  # of the others a rule finds the object
            with h5py.File(root / folder / name, "r+") as file:
                file["object_mask"] = (
                    (np.hypot(*np.mgrid[-1:1:32j, -1:1:32j]) < 0.7)[None].repeat(n, 0).astype(np.uint8)
                )


def write_run(path: Path, data: Path) -> None:
    """A run whose network was not trained: what it computes matters as little as where."""
    torch.manual_seed(3)
    model = ModelConfig(channels=4, pools=2, norm="batch", dropout=0.2)
    config = TrainConfig(data=DataConfig(path=str(data)), model=model)
    module = ReconModule(build_model(config.model))
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    configfile.save(config, path / "config.yaml")
    (path / "checkpoints").mkdir()
    torch.save({"state_dict": module.state_dict()}, path / "checkpoints" / "best.ckpt")


# name: keys of the configuration, the slices that a process reconstructs are counted
CASES = {
    "all": {"split": "all", "figure_volumes": ["all"]},
    "batch": {"split": "all", "batch_size": 3},
    "save": {"split": "all", "save": True, "mask_draws": 2},
    "several": {"split": "all", "samples": 3, "regions": "attribute", "mask_draws": 2},
    "few": {"split": "val", "metrics": ["ssim", "ssim_object", "psnr", "nmse", "hfen"]},
    "one": {"split": "test"},
    "one-save": {"split": "test", "save": True},
}


def evaluate_cases(root: str, out: str, cases: list[str]) -> dict[str, list]:
    """Each case, by this process or its share of it; returns the (volume, slice) pairs reconstructed here."""
    torch.set_num_threads(1)
    computed: dict[str, list] = {}
    original = scoring._reconstruct

    def counting(reconstructor, sample):
        computed[case] += [[v, int(i)] for v, i in zip(sample.volume, sample.slice_idx, strict=True)]
        return original(reconstructor, sample)

    scoring._reconstruct = counting
    try:
        for case in cases:
            computed[case] = []
            config = EvaluateConfig(
                data=DataConfig(path=f"{root}/data"),
                output=f"{out}/{case}",
                devices=ranks.world_size(),
                threads=1,
                **CASES[case],
            )
            evaluate(config, f"{root}/run")
    finally:
        scoring._reconstruct = original
    return computed


def evaluate_and_reconstruct(root: str, out: str, cases: list[str]) -> dict[str, list]:
    reconstruct_all(root, f"{out}-images")
    return evaluate_cases(root, out, cases)


def reconstruct_all(root: str, out: str) -> int:
    torch.set_num_threads(1)
    config = ReconstructConfig(output=out, format=["h5", "png"], devices=ranks.world_size(), threads=1)
    done = reconstruct(config, f"{root}/run", [f"{root}/data"])
    assert not list(Path(out).rglob("*.tmp"))
    return done.n_volumes


def stopped_reconstruction(root: str, out: str) -> str:
    """What a process says that got SIGTERM: in the middle of its one volume, or while it waits for the other one."""
    torch.set_num_threads(1)

    def arriving(_self, sample):
        time.sleep(0.5)  # so that the other one waits already
        os.kill(os.getpid(), signal.SIGTERM)
        return sample.image

    ZeroFilled.__call__ = arriving

    def terminate_when_it_listens():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    if ranks.rank() == 1:
        threading.Thread(target=terminate_when_it_listens, daemon=True).start()
    config = ReconstructConfig(output=out, devices=2, threads=1)
    try:
        reconstruct(config, "zero-filled", [f"{root}/data/train/same.h5"])
    except Stopped as stopped:
        return str(stopped)
    return "not stopped"
