"""Speed, measured side by side in one run: `python scripts/benchmark.py [names]`; without names, all of this file.

`python scripts/benchmark.py NAME [options]` calls a neighbour, `benchmark_NAME.py` (classical, time-to-quality, ...).

Every comparison interleaves its competitors, so that a change of the machine's load meets all of them, and gives
medians and their ratios. Two threads unless OMP_NUM_THREADS says otherwise.
"""

import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import timm.optim
import torch
from fastmri.models import Unet
from torch import nn

from mrirecon.config import TrainConfig
from mrirecon.configfile import load
from mrirecon.data.samples import Sample, collate
from mrirecon.data.transforms import reduced
from mrirecon.errors import unknown_name
from mrirecon.models import UNet, auto_precision
from mrirecon.models.device import PRECISIONS, autocast, keep_freed_memory
from mrirecon.physics import center_fit, ifft2c, rss
from mrirecon.training import ReconModule
from mrirecon.training.build import read_design
from mrirecon.training.footprint import PeakMemory
from mrirecon.training.recipe.optimizers import make_optimizer

Table = list[tuple[str, ...]]
HERE = Path(__file__).parent


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


def training_step(
    model: nn.Module,
    images: torch.Tensor,
    bf16: bool,
    optimizer: torch.optim.Optimizer | None = None,
    target: torch.Tensor | None = None,
) -> Callable[[], None]:
    """Forward, L1 loss, backward and one step (of AdamW) on `images` (batch, 1, height, width), or what else it takes.

    The target is random, of the shape of the images, where none is given.
    """
    optimizer = optimizer or make_optimizer("adamw", model, 1e-3)
    target = torch.randn(images.shape).to(images.device) if target is None else target

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            output = model(images)
        nn.functional.l1_loss(output.float(), target).backward()
        optimizer.step()

    return step


class Training:
    """A training in a process of its own, which makes a step when called.

    So each has the memory allocator as it trains with it: `mrirecon train` keeps freed memory, fastMRI does not. Time
    that its messages take, some .1 ms, counts.
    """

    _step: Callable[[], None]  # in the process

    def __init__(self, name: str, images: torch.Tensor) -> None:
        begin = (name, images, torch.get_num_threads())
        self.process = get_context("spawn").Pool(1, Training._begin, begin)

    @classmethod
    def _begin(cls, name: str, images: torch.Tensor, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        whose, precision = name.split()
        if whose == "fastMRI":
            network: nn.Module = Unet(1, 1, 32, 4)
            optimizer: torch.optim.Optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3)
        else:
            keep_freed_memory()
            network = UNet()
            optimizer = make_optimizer("adamw", network, 1e-3)
        cls._step = staticmethod(training_step(network, images, precision == "bf16", optimizer))

    @classmethod
    def _make_step(cls) -> None:
        cls._step()

    def __call__(self) -> None:
        self.process.apply(Training._make_step)


def train_step() -> Table:
    """U-Net of 32 channels and 4 pools, 320 x 320, batch 2; fastMRI with its RMSprop, mrirecon with a fused AdamW."""
    has_bf16 = auto_precision("cpu") == "bf16-mixed"
    names = [f"{whose} {how}" for how in ("fp32", "bf16")[: 1 + has_bf16] for whose in ("fastMRI", "mrirecon")]
    seconds = interleaved({name: Training(name, torch.randn(2, 1, 320, 320)) for name in names})
    table: Table = [("training step", "seconds")]
    table += [(name, f"{value:.3f}") for name, value in seconds.items()]
    return [*table, ("ratio", "times as fast"), *_ratios(seconds, has_bf16, at_best=3.5)]


def inference() -> Table:
    """U-Net of 32 channels and 4 pools without gradients, 320 x 320, batch 4, fastMRI's beside it."""
    images = torch.randn(4, 1, 320, 320)
    has_bf16 = auto_precision("cpu") == "bf16-mixed"
    competitors = {}
    for name, network in {"fastMRI": Unet(1, 1, 32, 4).eval(), "mrirecon": UNet().eval()}.items():
        for precision in ("fp32", "bf16")[: 1 + has_bf16]:
            competitors[f"{name} {precision}"] = partial(infer, network, images, precision == "bf16")
    seconds = interleaved(competitors)
    table: Table = [("inference", "seconds")]
    table += [(name, f"{value:.3f}") for name, value in seconds.items()]
    return [*table, ("ratio", "times as fast"), *_ratios(seconds, has_bf16, at_best=2.0)]


def infer(model: nn.Module, images: torch.Tensor, bf16: bool) -> None:
    with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        model(images)


def _ratios(seconds: dict[str, float], has_bf16: bool, at_best: float) -> Table:
    pairs = [("fp32", "fp32", 1.0), ("bf16", "bf16", 1.0), ("bf16", "fp32", at_best)]
    rows: Table = []
    for ours, theirs, bar in pairs:
        label = f"mrirecon {ours} against fastMRI {theirs}"
        if has_bf16 or ours == "fp32":
            ratio = seconds[f"fastMRI {theirs}"] / seconds[f"mrirecon {ours}"]
            rows.append((label, f"{ratio:.2f} (at least {bar:.1f})"))
        else:
            rows.append((label, "not applicable: no bf16 hardware"))
    return rows


@dataclass(frozen=True)
class Step:
    """A training step of a VarNet on one slice of random k-space."""

    preset: str
    shape: tuple[int, int, int]  # coils, height, width
    precision: str
    checkpointing: bool

    def measured(self) -> tuple[float, float]:
        """Peak resident memory of two steps in GB (10^9 bytes), libraries included, and seconds of the second one."""
        keep_freed_memory()  # as trainings do
        config = load(TrainConfig, f"preset/{self.preset}")
        model = replace(config.model, checkpointing=self.checkpointing)
        design = read_design(model)
        module = ReconModule(design.build(), config.optimizer.with_lr(), loss=config.loss, predict=design.predict)
        optimizer = module.configure_optimizers()["optimizer"]
        sample = self._sample()
        with PeakMemory() as peak:
            for _ in range(2):
                start = perf_counter()
                with autocast(torch.device("cpu"), self.precision):
                    loss = module.sample_loss(sample)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds = perf_counter() - start
        return peak.bytes / 1e9, seconds

    def _sample(self) -> Sample:
        coils, height, width = self.shape
        columns = torch.arange(width) % 4 == 0
        columns[width // 2 - 14 : width // 2 + 14] = True
        kspace = torch.where(columns, torch.randn(coils, height, width, dtype=torch.complex64), 0)
        nothing, size = torch.empty(0), (min(height, 320), min(width, 320))
        target = center_fit(rss(ifft2c(kspace)), size)
        sample = Sample(nothing, target, nothing, nothing, float(target.max()), "", 0, 4.0, 4.0, "")
        sample = sample._replace(masked_kspace=kspace, mask=columns, n_center=28, crop_shape=size)
        return collate([reduced(sample, ("image", "kspace", "mask"))])


def varnet_memory(size: tuple[int, int]) -> Table:
    """Peak memory and time of a training step, each in a process of its own."""
    table: Table = [("preset, k-space, batch 1", "peak GB", "seconds a step")]
    for preset, precision, checkpointing in product(("varnet", "varnet_small"), PRECISIONS, (False, True)):
        step = Step(preset, (15, *size), precision, checkpointing)
        with get_context("spawn").Pool(1) as pool:
            gigabytes, seconds = pool.apply(step.measured)
        name = f"{preset} {' x '.join(map(str, (*size, 15)))} {precision}{' checkpointed' * checkpointing}"
        table.append((name, f"{gigabytes:.2f}", f"{seconds:.1f}"))
    return table


def varnet_memory_full() -> Table:
    """Presets on slices of 640 x 372 and 15 coils, as fastMRI's knees have them (several minutes)."""
    return varnet_memory((640, 372))


def varnet_memory_320() -> Table:
    """Presets on slices of 320 x 320 and 15 coils."""
    return varnet_memory((320, 320))


def peak_of_step(whose: str, batch: int) -> float:
    """Peak resident memory in GB (10^9 bytes) of two training steps at 320 x 320, libraries included."""
    keep_freed_memory()  # as trainings do
    network = Unet(1, 1, 32, 4) if whose.startswith("fastMRI") else UNet(residual=True)
    optimizer = make_optimizer("rmsprop" if whose.startswith("fastMRI") else "muon", network, 1e-3)
    step = training_step(network, torch.randn(batch, 1, 320, 320), whose.endswith("bf16"), optimizer)
    with PeakMemory() as peak:
        step()
        step()
    return peak.bytes / 1e9


def unet_memory() -> Table:
    """Peak memory of a training step, U-Net of 32 channels, 320 x 320, each in a process of its own (at most .8x)."""
    names = ["fastMRI fp32", "mrirecon fp32", *(["mrirecon bf16"] if auto_precision("cpu") == "bf16-mixed" else [])]
    table: Table = [("slices", *(f"{name}, GB" for name in names), "over fastMRI's")]
    for batch in (1, 2, 8):
        peaks = []
        for name in names:
            with get_context("spawn").Pool(1) as pool:
                peaks.append(pool.apply(peak_of_step, (name, batch)))
        table.append((str(batch), *(f"{peak:.2f}" for peak in peaks), f"{peaks[-1] / peaks[0]:.2f}"))
    return table


def optimizer_step(size: int) -> Table:
    """Medians of the whole training step of the U-Net of 32 channels, batch 1, with each optimizer."""
    image = torch.randn(1, 1, size, size)
    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {}
    makers["AdamW"] = lambda network: make_optimizer("adamw", network, 1e-3)
    makers["Muon"] = lambda network: make_optimizer("muon", network, 1e-3)
    makers["timm's Muon"] = lambda network: timm.optim.Muon(network.parameters(), lr=1e-3)
    if find_spec("pytorch_optimizer"):  # pip install pytorch-optimizer
        from pytorch_optimizer import SOAP

        makers["SOAP of pytorch-optimizer"] = lambda network: SOAP(network.parameters(), lr=1e-3)
    steps, alone = {}, {}
    for name, make in makers.items():
        network = UNet()
        optimizer = make(network)
        steps[name] = training_step(network, image, auto_precision("cpu") == "bf16-mixed", optimizer)
        steps[name]()  # makes the gradients that the optimizer alone goes on with
        alone[name] = optimizer.step
    seconds, own = interleaved(steps), interleaved(alone)
    table: Table = [(f"{size} x {size}", "ms a step", "over AdamW's", "ms of it the optimizer's")]
    for name, value in seconds.items():
        row = (name, f"{1e3 * value:.0f}", f"{value / seconds['AdamW']:.2f}", f"{1e3 * own[name]:.0f}")
        table.append(row)
    return table


def optimizer_steps() -> Table:
    """U-Net of 32 channels and 4 pools, batch 1: what Muon adds to a training step (at most 1.5 and 1.3 times)."""
    return [*optimizer_step(160), *optimizer_step(320)]


def profile_of_step() -> Table:
    """Where a training step's time goes: U-Net of 32 channels, 320 x 320, batch 1, Muon, one profile of three steps."""
    network = UNet(residual=True)
    has_bf16, optimizer = auto_precision("cpu") == "bf16-mixed", make_optimizer("muon", network, 1e-3)
    step = training_step(network, torch.randn(1, 1, 320, 320), has_bf16, optimizer)
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(3):
            step()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    table: Table = [("operation", "ms a step", "share", "calls a step")]
    for event in events[:12]:
        spent = event.self_cpu_time_total
        table.append((event.key, f"{spent / 3e3:.1f}", f"{100 * spent / total:.0f} %", f"{event.count / 3:g}"))
    return table


BENCHMARKS: dict[str, Callable[[], Table]] = {
    "train-step": train_step,
    "inference": inference,
    "optimizer-step": optimizer_steps,
    "profile": profile_of_step,
    "unet-memory": unet_memory,
    "varnet-memory": varnet_memory_full,
    "varnet-memory-320": varnet_memory_320,
}


def main(names: list[str]) -> None:
    files = {file.stem.removeprefix("benchmark_").replace("_", "-"): file for file in HERE.glob("benchmark_*.py")}
    if names and names[0] in files:
        sys.argv = [str(files[names[0]]), *names[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    if {"-h", "--help"} & set(names):
        print(__doc__ + "\nNames: " + ", ".join([*BENCHMARKS, *sorted(files)]))
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in names:
        if name not in BENCHMARKS:
            raise SystemExit(f"benchmark: {unknown_name('benchmark', name, [*BENCHMARKS, *files])}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, precision auto = {auto_precision('cpu')}")
    for name in names or BENCHMARKS:
        torch.manual_seed(0)
        print(f"\n{name}: {BENCHMARKS[name].__doc__}")
        for row in BENCHMARKS[name]():
            print("  " + "".join(f"{cell:54}" for cell in row).rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
