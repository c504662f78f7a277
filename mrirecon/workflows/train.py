"""Training, from a configuration to a run folder; and going on with a stopped one."""

import dataclasses
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from mrirecon import configfile, progress
from mrirecon.config import TrainConfig
from mrirecon.data.datamodule import ReconDataModule
from mrirecon.data.manifest import data_manifest
from mrirecon.data.masking import MaskSpec
from mrirecon.errors import InputError, Stopped
from mrirecon.files import replacing, write_json
from mrirecon.models.precision import auto_precision
from mrirecon.models.unet import check_image_size
from mrirecon.runs import RunFolder, new_run, open_run
from mrirecon.training.build import build_model, load_reconstructor
from mrirecon.training.curves import Curves
from mrirecon.training.journal import Journal
from mrirecon.training.keeper import Keeper
from mrirecon.training.loggers import check_logger, make_loggers
from mrirecon.training.module import ReconModule
from mrirecon.training.plan import Plan, check_numbers, make_plan
from mrirecon.training.validation import Validation
from mrirecon.workflows.device import choose_device
from mrirecon.workflows.provenance import provenance

# What may differ when a run goes on: where things are, not what is computed.
_MAY_CHANGE = ("data.path", "data.workers", "device", "threads", "logger")
_PRECISIONS = {"fp32": "32-true", "bf16-mixed": "bf16-mixed"}


def train(config: TrainConfig) -> RunFolder:
    """Train from scratch.

    Raises:
        InputError: The configuration or the data is wrong; nothing was written.
        WorkFailedError: Training diverged; the last good checkpoint is kept.
        Stopped: A signal came; the state is saved.
    """
    work = _Work(config)
    run = new_run(config.output, _default_name(config), config.overwrite)
    # The stored configuration repeats the run elsewhere, so it names no folder of its own.
    configfile.save(dataclasses.replace(config, output="", overwrite=False), run.config)
    write_json(run.split, work.data.assignment)
    write_json(run.provenance, work.provenance())
    work.announce(run)
    return work.fit(run, None)


def resume_training(path: str, changes: TrainConfig, given: Sequence[str] = ()) -> RunFolder:
    """Go on with the run at `path`; the result equals that of an uninterrupted run, bit for bit on CPU in fp32.

    Args:
        path: Run folder.
        changes: Values for the keys in `given`.
        given: Keys that the caller sets; only those that do not change the result are allowed.

    Raises:
        InputError: No such run, nothing to go on from, or a key that would change the result.
    """
    run = open_run(path)
    refused = sorted(set(given) - set(_MAY_CHANGE))
    if refused:
        raise InputError(
            f"a resumed run keeps its configuration; '{refused[0]}' cannot change (only {', '.join(_MAY_CHANGE)} can). "
            f"To train differently: mrirecon train -c {run.config} --{refused[0]} ..."
        )
    last = run.checkpoint("last")
    if not last.is_file():
        raise InputError(f"{run.path} has no checkpoint yet; start again: mrirecon train -c {run.config}")
    flat = configfile.flatten(configfile.load(TrainConfig, run.config))
    new = configfile.flatten(changes)
    config = configfile.build(TrainConfig, {**flat, **{key: new[key] for key in given}})
    work = _Work(config)
    work.require_same_data(run)
    return work.fit(run, str(last))


class _Work:
    """Everything a fit needs, made and checked before anything is written."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = choose_device(config.device).type
        self.precision = _precision(config.precision, self.device)
        check_numbers(config)
        check_logger(config.logger)
        torch.manual_seed(config.seed)
        self.model = build_model(config.model)
        self.data = ReconDataModule(config.data, config.batch_size, config.val_volumes, config.seed)
        for shape in set(self.data.train_set.image_shapes):
            check_image_size(shape, config.model.pools)
        self.plan: Plan = make_plan(config, self.data.stream.batches_per_epoch)
        self.data.plan(self.plan.n_steps * self.plan.accumulate)
        stream, accumulate = self.data.stream, self.plan.accumulate
        self.module = ReconModule(
            self.model,
            config.optimizer,
            config.schedule,
            self.plan.n_steps,
            config.loss,
            lambda number: stream.weight(number, accumulate),
            config.seed,
        )
        self.module.configure_optimizers()  # a wrong name fails here, not after the start

    def fit(self, run: RunFolder, checkpoint: str | None) -> RunFolder:
        curves = Curves(
            Journal(run.curves), self.data.stream.batches_per_epoch, self.plan.accumulate, self.plan.n_steps
        )
        validation = Validation(self.data.val_dataloader(), curves)
        keeper = Keeper(
            run,
            validation,
            self.plan.val_every,
            self.config.checkpoint_every,
            self.plan.accumulate,
            self.plan.n_steps,
        )
        loggers = make_loggers(self.config.logger, run, dataclasses.asdict(self.config))
        trainer = _trainer(self, run, [curves, keeper], loggers)
        with warnings.catch_warnings():
            _hush()
            trainer.fit(self.module, self.data.train_dataloader(), ckpt_path=checkpoint, weights_only=True)
        if keeper.stop and trainer.global_step < self.plan.n_steps:
            raise Stopped(
                f"stopped by {keeper.stop.signal.name} at step {trainer.global_step} of {self.plan.n_steps}; "  # type: ignore[union-attr]
                f"saved. Go on with: mrirecon train --resume {run.path}"
            )
        _export_weights(run)
        return run

    def provenance(self) -> dict[str, Any]:
        """The facts beside the configuration."""
        manifest = data_manifest([*self.data.train_volumes, *self.data.val_volumes])
        return provenance(
            device=self.device,
            precision=self.precision,
            seed=self.config.seed,
            data_manifest=manifest,
            masks=dataclasses.asdict(self.data.spec),
            protocol="fastmri-v1",
        )

    def announce(self, run: RunFolder) -> None:
        """Say what will be done, defaults included."""
        if progress.quiet:
            return
        data, plan = self.data, self.plan
        n_parameters = sum(p.numel() for p in self.model.parameters())
        lines = [
            f"run folder  {run.path}",
            f"data        {len(data.train_volumes)} training volumes ({len(data.train_set)} slices), "
            f"{len(data.val_volumes)} validation volumes",
            *(f"note        {note}" for note in data.notes),
            f"masks       {_masks(data.spec)}",
            f"model       U-Net, {n_parameters:,} parameters, {self.device}, {self.precision}",
            f"plan        {plan.n_steps} steps x {plan.accumulate * self.config.batch_size} slices "
            f"({plan.epochs:.1f} epochs), validation every {plan.val_every} steps",
        ]
        print("\n".join(lines), file=sys.stderr)
        for name in ("model", "optimizer", "schedule"):
            values = dataclasses.asdict(getattr(self.config, name))
            shown = ", ".join(f"{k} {v}" for k, v in values.items() if v not in (None, [], ""))
            print(f"{name:<11} {shown}", file=sys.stderr)
        print(f"loss        {self.config.loss}", file=sys.stderr, flush=True)

    def require_same_data(self, run: RunFolder) -> None:
        """Another data set under the same folder would not be a resume."""
        import json

        stored = json.loads(run.provenance.read_text())["data_manifest"]["sha256"]
        if self.provenance()["data_manifest"]["sha256"] != stored:
            raise InputError(
                f"the files under {self.config.data.path} are not those that {run.path} was trained on; "
                "a resumed run needs the same data (--data says where it is now)"
            )


def _trainer(work: _Work, run: RunFolder, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return pl.Trainer(
        accelerator="gpu" if work.device == "cuda" else "cpu",
        devices=1,
        precision=_PRECISIONS[work.precision],  # type: ignore[arg-type]
        max_epochs=1,  # one stream of all batches; see data/stream.py
        accumulate_grad_batches=work.plan.accumulate,
        gradient_clip_val=work.config.clip or None,
        limit_val_batches=0,
        logger=loggers or False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(run.path),
        plugins=[LightningEnvironment()],
    )


def _export_weights(run: RunFolder) -> None:
    """The best network alone, in a format that runs no code when read."""
    from safetensors.torch import save_file

    model = load_reconstructor(run, "best").model
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(run.weights) as temporary:
        save_file(tensors, str(temporary))


def _masks(spec: MaskSpec) -> str:
    pairs = zip(spec.accelerations, spec.center_fractions, strict=True)
    return f"{spec.name}, " + " or ".join(f"{r:g}x (center fraction {f:g})" for r, f in pairs)


def _precision(name: str, device: str) -> str:
    if name == "auto":
        return "bf16-mixed" if auto_precision(device) == "bf16-mixed" else "fp32"
    if name not in _PRECISIONS:
        raise InputError(f"unknown precision '{name}'; use auto, {' or '.join(_PRECISIONS)}")
    return name


def _default_name(config: TrainConfig) -> str:
    def short(value: Any) -> str:
        return value if isinstance(value, str) else str(value.get("class_path", "custom")).rsplit(".")[-1]

    return f"{short(config.model.norm)}-{short(config.optimizer.name)}"


def _hush() -> None:
    """Lightning's advice that does not apply: validation is the keeper's, the workers are chosen."""
    for text in (".*no `val_dataloader`.*", ".*does not have many workers.*", ".*`isinstance.treespec.*"):
        warnings.filterwarnings("ignore", text)
