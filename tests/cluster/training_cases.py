"""Short trainings by name, for one process with the whole batch or several that share it; run on real processes."""

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import torch

from mrirecon import progress, ranks
from mrirecon.config import (
    AugmentConfig,
    AverageConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from mrirecon.data.samples import to_device
from mrirecon.training.loop import validation
from mrirecon.training.loop.validate_and_keep import StepControl
from mrirecon.training.recipe import batchnorm
from mrirecon.workflows import fit, resume
from mrirecon.workflows import train as training

NORMS = ("none", "instance", "group", "layer", "batch")
SIZES = (4, 3, 1, 5, 7)  # training slices; a step of 4 has even parts, of 3 uneven ones, of 1 none for a second process
ONE_STEP = {
    "optimizer": OptimizerConfig("sgd", 1.0),
    "schedule": ScheduleConfig("constant"),
    "max_steps": 1,
    "checkpoints": "end",
}


def model(norm, **changes):
    return replace(ModelConfig(channels=4, pools=2, norm=norm, affine=norm != "none"), **changes)


def synchronised(norm):
    return {"model": model(norm), "sync_batchnorm": norm == "batch"}


def _cases():
    """Name -> folder of the data, and what differs from `config`."""
    for norm in NORMS:
        yield f"step-{norm}-4", "slices4", {**ONE_STEP, **synchronised(norm)}
    for norm in ("group", "batch"):
        for size in (3, 1):
            yield f"step-{norm}-{size}", f"slices{size}", {**ONE_STEP, **synchronised(norm)}
        for size in (7, 5):  # groups of 4 and 3, of 4 and 1
            yield f"accumulated-{norm}-{size}", f"slices{size}", {**ONE_STEP, **synchronised(norm), "accumulate": 2}
    for norm in ("instance", "group", "batch"):
        yield f"run-{norm}", "mixed", synchronised(norm)
    group = {"model": model("group")}
    yield "run-local-batch", "pictures", {"model": model("batch")}
    yield "run-ema", "mixed", {**group, "average": AverageConfig("ema", decay=0.7)}
    swa = AverageConfig("swa", start=0.3, bn_batches=3)
    yield "run-swa-batch", "mixed", {**synchronised("batch"), "average": swa}
    yield "run-schedulefree", "mixed", {**group, "optimizer": OptimizerConfig("schedulefree_adamw", 1e-2)}
    plateau = ScheduleConfig("plateau", factor=0.5, patience=0)
    yield "run-plateau", "mixed", {**group, "schedule": plateau, "val_every": 1}
    still = {"optimizer": OptimizerConfig("sgd", 1e-30), "val_every": 1, "early_stop": 2}
    yield "run-early-stop", "mixed", {**group, **still}
    yield "run-two-accelerations", "mixed", {**group, "data": {"acceleration": [4, 8]}}
    augment = AugmentConfig(flip=0.5, rotate90=0.5, shift=2, scale=0.1, rotate=10.0, contrast=0.2)
    yield "run-augmented", "mixed", {**group, "augment": augment}
    yield "run-one-validation-slice", "lonely", group
    yield "run-pictures", "pictures", {**group, "logger": "tensorboard"}


CASES = {name: (folder, changes) for name, folder, changes in _cases()}


def config(name, data, output, processes, global_batch=4):
    folder, changes = CASES[name]
    changes = dict(changes)
    of_data = changes.pop("data", {})
    base = TrainConfig(
        data=DataConfig(path=str(Path(data) / folder), **of_data),
        optimizer=OptimizerConfig("sgd", 0.1),
        schedule=ScheduleConfig("constant"),
        batch_size=global_batch // processes,
        max_steps=10,
        val_every=5,
        precision="fp32",
        threads=1,
        device="cpu",
        devices=processes,
        output=str(Path(output) / name),
    )
    return replace(base, **changes)


def run_cases(names, data, output, global_batch=4):
    """Train each case; what this process has at its end, by case."""
    progress.quiet = True
    with in_double_precision():
        return {name: _look(config(name, data, output, ranks.world_size(), global_batch)) for name in names}


@contextmanager
def in_double_precision():
    """There an order of sums makes no difference to be seen; losses and images stay in single precision."""

    def doubled(batch, device):
        values = to_device(batch, device)
        return values._replace(**{k: v.double() for k, v in values._asdict().items() if _is_float(v)})

    with ExitStack() as stack:
        stack.enter_context(patch.dict(fit._LIGHTNING_NAMES, {"fp32": "64-true"}))
        stack.enter_context(patch.object(fit, "_export_weights"))  # takes longer than a step
        for module in (validation, batchnorm):
            stack.enter_context(patch.object(module, "to_device", doubled))
        yield


def _is_float(value):
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _look(case):
    works = []
    original = resume.fit

    def watched(work, *others):
        works.append(work)
        return original(work, *others)

    resume.fit = watched
    try:
        training.train(case)
    finally:
        resume.fit = original
    module = works[0].module
    (keeper,) = (one for one in module.trainer.callbacks if isinstance(one, StepControl))
    return {
        "weights": sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest(),
        "best": [keeper.best, keeper.best_step, keeper.n_worse, module.trainer.global_step],
        "lr": module.trainer.optimizers[0].param_groups[0]["lr"],
    }


def load(output, name, which="last"):
    """A checkpoint of a case."""
    return torch.load(Path(output) / name / "checkpoints" / f"{which}.ckpt", weights_only=True)
