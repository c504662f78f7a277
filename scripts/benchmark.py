"""Speed, measured side by side in one run: `python scripts/benchmark.py [names]`; without names, all of it.

Every comparison interleaves its competitors, so that a change of the machine's load meets all of them, and gives
medians and their ratios. Two threads unless OMP_NUM_THREADS says otherwise.
"""

import os
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from fastmri.models import Unet
from torch import nn

from mrirecon.errors import unknown_name
from mrirecon.models import UNet, auto_precision

Table = list[tuple[str, ...]]


def interleaved(competitors: dict[str, Callable[[], object]], repeats: int = 9, warmups: int = 2) -> dict[str, float]:
    """Median seconds of each competitor; every round runs each of them once."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for round_number in range(warmups + repeats):
        for name, run in competitors.items():
            start = perf_counter()
            run()
            if round_number >= warmups:
                seconds[name].append(perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def training_step(model: nn.Module, images: torch.Tensor, bf16: bool) -> Callable[[], None]:
    """Forward, L1 loss, backward and one AdamW step on `images` (batch, 1, height, width)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    target = torch.randn(images.shape)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = model(images)
        nn.functional.l1_loss(output.float(), target).backward()
        optimizer.step()

    return step


def train_step() -> Table:
    """U-Net of 32 channels and 4 pools, 320 x 320, batch 2."""
    images = torch.randn(2, 1, 320, 320)
    has_bf16 = auto_precision("cpu") == "bf16-mixed"
    competitors = {
        "fastMRI fp32": training_step(Unet(1, 1, 32, 4), images, bf16=False),
        "mrirecon fp32": training_step(UNet(), images, bf16=False),
    }
    if has_bf16:
        competitors["fastMRI bf16"] = training_step(Unet(1, 1, 32, 4), images, bf16=True)
        competitors["mrirecon bf16"] = training_step(UNet(), images, bf16=True)
    seconds = interleaved(competitors)
    table: Table = [("training step", "seconds")]
    table += [(name, f"{value:.3f}") for name, value in seconds.items()]
    return [*table, ("ratio", "times as fast"), *_ratios(seconds, has_bf16)]


def _ratios(seconds: dict[str, float], has_bf16: bool) -> Table:
    pairs = [("fp32", "fp32", 1.0), ("bf16", "bf16", 1.0), ("bf16", "fp32", 2.5)]
    rows: Table = []
    for ours, theirs, bar in pairs:
        label = f"mrirecon {ours} against fastMRI {theirs}"
        if has_bf16 or ours == "fp32":
            ratio = seconds[f"fastMRI {theirs}"] / seconds[f"mrirecon {ours}"]
            rows.append((label, f"{ratio:.2f} (at least {bar:.1f})"))
        else:
            rows.append((label, "not applicable: no bf16 hardware"))
    return rows


BENCHMARKS: dict[str, Callable[[], Table]] = {"train-step": train_step}


def main(names: list[str]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in names:
        if name not in BENCHMARKS:
            raise SystemExit(f"benchmark: {unknown_name('benchmark', name, BENCHMARKS)}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, precision auto = {auto_precision('cpu')}")
    for name in names or BENCHMARKS:
        torch.manual_seed(0)
        print(f"\n{name}: {BENCHMARKS[name].__doc__}")
        for row in BENCHMARKS[name]():
            print("  " + "".join(f"{cell:42}" for cell in row).rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
