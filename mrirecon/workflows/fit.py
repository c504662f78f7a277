"""One fit of a Lightning trainer, from its start or from a checkpoint, into a run folder."""

import dataclasses
import logging
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment

from mrirecon.errors import Stopped
from mrirecon.files import replacing
from mrirecon.models.memory import keep_freed_memory
from mrirecon.progress import say
from mrirecon.runs import RunFolder
from mrirecon.training.build import load_reconstructor
from mrirecon.training.curves import Curves
from mrirecon.training.journal import Journal
from mrirecon.training.keeper import Keeper
from mrirecon.training.loggers import close_loggers, make_loggers
from mrirecon.training.validation import Validation
from mrirecon.workflows.training_work import TrainingWork

_LIGHTNING_NAMES = {"fp32": "32-true", "bf16-mixed": "bf16-mixed"}


def fit(work: TrainingWork, run: RunFolder, checkpoint: str | None) -> RunFolder:
    """Train to the end of the plan; from `checkpoint` if given.

    Raises:
        DivergedError: Training diverged.
        Stopped: A signal came; the state is saved.
    """
    plan, per_epoch = work.plan, work.data.stream.batches_per_epoch
    curves = Curves(Journal(run.curves), per_epoch, plan.accumulate, plan.n_steps)
    validation = Validation(work.data.val_dataloader(), curves, work.protocol)
    keeper = Keeper(
        run,
        validation,
        plan.val_every,
        work.config.checkpoint_every,
        plan.accumulate,
        plan.n_steps,
        work.config.early_stop,
        work.settings,
        work.config.checkpoints,
    )
    loggers = make_loggers(work.config.logger, run, dataclasses.asdict(work.config))
    trainer = _trainer(work, run, [curves, keeper], loggers)
    if work.device == "cpu":
        keep_freed_memory()
    try:
        with warnings.catch_warnings():
            _hush()
            trainer.fit(work.module, work.data.train_dataloader(), ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of a second Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        close_loggers(work.config.logger)
    if keeper.has_stalled:
        since = f"{keeper.n_worse} validations without a better SSIM than at step {keeper.best_step}"
        say(f"ended at step {trainer.global_step} of {plan.n_steps}: {since}")
    elif keeper.stop.signal and trainer.global_step < plan.n_steps:
        raise Stopped(
            f"stopped by {keeper.stop.signal.name} at step {trainer.global_step} of {plan.n_steps}; "
            f"saved. Go on with: mrirecon train --resume {run.path}"
        )
    _export_weights(run, "last" if work.config.checkpoints == "end" else "best")
    return run


def _trainer(work: TrainingWork, run: RunFolder, callbacks: list[pl.Callback], loggers: list[Any]) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return pl.Trainer(
        accelerator="gpu" if work.device == "cuda" else "cpu",
        devices=1,
        precision=_LIGHTNING_NAMES[work.precision],  # type: ignore[arg-type]
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


def _export_weights(run: RunFolder, checkpoint: str) -> None:
    """The network alone, in a format that runs no code when read."""
    from safetensors.torch import save

    model = load_reconstructor(run, checkpoint).model
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(run.weights) as temporary:
        temporary.write_bytes(save(tensors))  # save_file makes it unreadable for others


def _hush() -> None:
    """Lightning's advice that does not apply: validation is the keeper's, the workers are chosen."""
    for text in ("no `val_dataloader`", "does not have many workers", "`isinstance.treespec", "the logging interval"):
        warnings.filterwarnings("ignore", f".*{text}.*")
