"""`--lr find`: a range test before the training, its curve and its picture in the run folder."""

import copy
import csv

import torch

from mrirecon.files import replacing
from mrirecon.models.device import autocast
from mrirecon.progress import progress, say
from mrirecon.report.figures.run_curves import draw_range_test
from mrirecon.runs import RunFolder
from mrirecon.training.recipe.lr_finder import N_STEPS, RangeTest, range_test
from mrirecon.workflows.setup.training_work import TrainingWork, build_module


def find_lr(work: TrainingWork) -> RangeTest:
    """The range test (Smith 2017) on first batches and a copy of the network; `work` then has the rate found.

    Raises:
        WorkFailedError: No rate made the loss fall.
    """
    config, accumulate = work.config, work.plan.accumulate
    device = torch.device(work.device)
    module = build_module(config, work.module.optimizer, copy.deepcopy(work.model), work.plan.n_steps).to(device)
    batches = progress(work.data.first_batches(N_STEPS * accumulate), "learning rate range test", unit="batches")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        found = range_test(module, batches, accumulate, config.clip, lambda: autocast(device, work.precision))
    work.set_lr(found.lr)
    return found


def write_range_test(found: RangeTest, run: RunFolder) -> None:
    """`lr-find.csv` and the picture in the run folder; says what was found."""
    with replacing(run.lr_find) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("lr", "loss", "smoothed"))
        writer.writerows(zip(found.lrs, found.losses, found.smoothed, strict=True))
    picture = run.figures / "lr-find.png"
    draw_range_test(picture, found.lrs, found.losses, found.smoothed, found.lr)
    diverged = f"; at {found.lr_diverged:.1e} it diverged" if found.lr_diverged else ""
    say(f"lr          {found.lr:g}, a tenth of the rate with the least loss{diverged} (see {picture})")
