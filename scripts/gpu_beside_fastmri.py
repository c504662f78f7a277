"""What `benchmark_gpu.py` measures beside fastMRI: steps, data path, evaluation, training. It is run from there."""

import csv
import gc
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import fastmri
import torch
from benchmark import interleaved, training_step
from fastmri import evaluate as fastmri_evaluate
from fastmri.data import transforms
from fastmri.data.subsample import RandomMaskFunc
from fastmri.models import Unet
from fastmri.models import VarNet as FastmriVarNet
from torch import Tensor, nn

from mrirecon.config import DataConfig, ModelConfig, SimulateConfig, TrainConfig
from mrirecon.data import SliceDataset
from mrirecon.data.samples import Sample, collate, to_device
from mrirecon.data.transforms import apply_mask, image_statistics, normalize, zero_filled
from mrirecon.evaluation import VolumeMetrics, mean_score
from mrirecon.models import UNet, VarNet
from mrirecon.models.device import inference
from mrirecon.physics import make_mask
from mrirecon.training import ReconModule
from mrirecon.workflows.simulate import simulate_dataset
from mrirecon.workflows.train import train


class Size(NamedTuple):
    """How large everything is; by default as fastMRI's knees and networks are."""

    image: tuple[int, int] = (320, 320)
    kspace: tuple[int, int, int] = (15, 640, 372)  # coils, height, width
    batches: tuple[int, ...] = (1, 8)
    unet: tuple[int, int] = (32, 4)  # channels, poolings
    varnet: tuple[int, int, int, int] = (18, 4, 8, 8)  # channels, poolings, cascades, channels of the maps
    rounds: int = 7
    calls: int = 5  # of a U-Net's step between two looks at the clock
    matrix: int = 160  # of simulated heads
    coils: int = 8
    volumes: tuple[int, int] = (32, 8)  # for training and validation
    slices: int = 4
    train_s: float = 25.0
    validations: int = 12
    steps: int = 40  # of short trainings
    compiler: str = "inductor"


TINY = Size((32, 32), (2, 40, 36), (2,), (2, 2), (2, 2, 1, 2), 1, 1, 48, 2, (2, 1), 2, 0.2, 3, 12, "eager")


@dataclass(frozen=True)
class Machine:
    """A device, the sizes, and a folder for data and runs."""

    device: torch.device
    size: Size
    folder: Path

    def data(self) -> Path:
        """Return the folder of the simulated heads, made at the first call."""
        size, path = self.size, self.folder / "data"
        if not path.exists():
            shape: dict[str, Any] = {"matrix": [size.matrix] * 2, "coils": size.coils, "slices": size.slices}
            (n_train, n_val), shape["oversampling"] = size.volumes, 1.0
            simulate_dataset(SimulateConfig(output=str(path), train=n_train, val=n_val, test=0, seed=5, **shape))
        return path

    def samples(self, *needs: str) -> list[Sample]:
        """Return the validation slices with their images, under fastMRI's masks, 4x."""
        slices = SliceDataset(self.data() / "val", needs=("image", *needs))
        return [slices[i] for i in range(len(slices))]

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()


@dataclass
class Row:
    """A line of the table; `figures` are its numbers, for the JSON file."""

    what: str
    here: str
    against: str = ""
    ratio: str = ""  # or bound
    verdict: str = ""  # PASS, FAIL, ERROR, SKIPPED or nothing
    figures: dict[str, Any] = field(default_factory=dict)
    section: str = ""


Rows = Iterator[Row]


def in_a_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let products and convolutions in single precision use TF32, or not."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = allowed
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


# ---- time and memory


class Measured(NamedTuple):
    """Seconds of a call and the most memory that it takes, in bytes; or why there are none."""

    seconds: float
    peak: int = 0
    error: str = ""

    def words(self, n_slices: int) -> str:
        memory = f", {self.peak / 1e9:.2f} GB" if self.peak else ""
        timed = f"{1000 * self.seconds:.1f} ms, {n_slices / self.seconds:.1f} slices/s" if self.seconds else ""
        return f"{timed}{memory}" if timed else f"not measured: {self.error}"


def measured(machine: Machine, makers: Mapping[str, Callable[[], Callable]], calls: int = 1) -> dict[str, Measured]:
    """Make all works, note the memory of each, and let them take turns; `calls` between two looks at the clock."""
    works: dict[str, Callable[[], object]] = {}
    found: dict[str, Measured] = {}

    def repeated(work: Callable[[], object], n: int = calls) -> None:
        for _ in range(n):
            work()
        machine.wait()

    if machine.is_gpu:  # the libraries' own memory is nobody's
        torch.ones(8, 8, device=machine.device).mm(torch.ones(8, 8, device=machine.device))
    for name, make in makers.items():
        gc.collect()
        before = torch.cuda.memory_allocated() if machine.is_gpu else 0
        try:
            work = make()
            repeated(work, 1)  # compiles
            if machine.is_gpu:
                torch.cuda.reset_peak_memory_stats()
            repeated(work, 1)
        except Exception as error:  # no compiler, too little memory
            found[name] = Measured(0.0, error=in_a_line(error))
        else:
            found[name] = Measured(0.0, torch.cuda.max_memory_allocated() - before if machine.is_gpu else 0)
            works[name] = lambda work=work: repeated(work)
    seconds = interleaved(works, machine.size.rounds, 1)
    return {name: one._replace(seconds=seconds.get(name, 0.0) / calls) for name, one in found.items()}


def beside(what: str, ours: Measured, theirs: Measured, n_slices: int, who: str = "fastMRI") -> Row:
    row = Row(what, ours.words(n_slices), f"{who} {theirs.words(n_slices)}")
    row.figures = {"here": ours._asdict(), "against": theirs._asdict(), "slices": n_slices}
    if ours.seconds and theirs.seconds:
        row.ratio = f"{theirs.seconds / ours.seconds:.2f}x as fast"
        row.ratio += f", {ours.peak / theirs.peak:.2f}x the memory" if theirs.peak else ""
    return row


class Setting(NamedTuple):
    """How a network computes; TF32 is what torch does by default in convolutions of single precision."""

    tf32: bool = True
    bf16: bool = False
    channels_last: bool = False
    is_compiled: bool = False


SETTINGS = {"fp32": Setting(tf32=False), "TF32": Setting(), "bf16": Setting(bf16=True)}
SETTINGS["bf16 channels-last"] = Setting(bf16=True, channels_last=True)
COMPILED = {"bf16 torch.compile": Setting(bf16=True, is_compiled=True)}


def our_unet(size: Size) -> UNet:
    return UNet(channels=size.unet[0], pools=size.unet[1])


def our_varnet(size: Size) -> VarNet:
    return VarNet(*size.varnet)


class OfKspace(nn.Module):
    """A network of k-space with what else it is given: mask and number of central columns."""

    def __init__(self, network: nn.Module, *further: Any) -> None:
        super().__init__()
        self.network, self.further = network, further

    def forward(self, kspace: Tensor) -> Tensor:
        return self.network(kspace, *self.further)


class Competitor(NamedTuple):
    make: Callable[[], nn.Module]
    inputs: Tensor

    def step(self, machine: Machine, target: Tensor, setting: Setting) -> Callable[[], None]:
        """Return a training step; what is compiled are U-Nets, also those inside of a VarNet."""
        network = self.make().to(machine.device)
        if setting.channels_last:
            network = network.to(memory_format=torch.channels_last)
        for part in network.modules():
            if setting.is_compiled and isinstance(part, Unet | UNet):
                part.compile(backend=machine.size.compiler, dynamic=False)
        step = training_step(network, self.inputs.to(machine.device), setting.bf16, target=target.to(machine.device))

        def under_setting() -> None:
            with tf32(setting.tf32):
                step()

        return under_setting


def steps(
    machine: Machine, what: str, pair: tuple[Competitor, Competitor], target: Tensor, settings: Mapping[str, Setting]
) -> Rows:
    """Training steps of our network and fastMRI's, under all settings in turns."""
    makers = {
        (name, k): lambda k=k, setting=setting: pair[k].step(machine, target, setting)
        for (name, setting), k in product(settings.items(), range(2))
    }
    found = measured(machine, makers, 1 if pair[0].inputs.is_complex() else machine.size.calls)
    for name in settings:
        yield beside(f"{what}, batch {len(target)}, {name}", found[name, 0], found[name, 1], len(target))


def unet_steps(machine: Machine, settings: Mapping[str, Setting] = SETTINGS, batches: Iterable[int] = ()) -> Rows:
    for n in batches or machine.size.batches:
        images, target = torch.randn(2, n, 1, *machine.size.image)
        makers = (lambda: our_unet(machine.size), lambda: Unet(1, 1, *machine.size.unet))
        yield from steps(machine, "U-Net", tuple(Competitor(make, images) for make in makers), target, settings)


def varnet_steps(machine: Machine, settings: Mapping[str, Setting] = SETTINGS) -> Rows:
    size, mask = machine.size, make_mask("random", machine.size.kspace[-1], 0.08, 4, 0)
    channels, pools, cascades, sens_channels = size.varnet
    columns, n_center = mask.columns.to(machine.device)[None], torch.tensor([mask.n_center], device=machine.device)
    kspace = apply_mask(torch.randn(1, *size.kspace, dtype=torch.complex64), mask.columns)
    given = columns[:, None, None, :, None], mask.n_center
    ours = Competitor(lambda: OfKspace(our_varnet(size), columns, n_center), kspace)
    theirs = Competitor(
        lambda: OfKspace(FastmriVarNet(cascades, sens_channels, pools, channels, pools), *given),
        torch.view_as_real(kspace),
    )
    yield from steps(machine, "VarNet", (ours, theirs), torch.randn(1, *size.kspace[1:]), settings)


def compiled(machine: Machine) -> Rows:
    """Compiling takes most of the time. fastMRI's U-Net is compiled in many parts, which need more than torch keeps."""
    with torch._dynamo.config.patch(recompile_limit=64):
        yield from unet_steps(machine, COMPILED, machine.size.batches[-1:])
        yield from varnet_steps(machine, COMPILED)


def fastmri_input(kspace: Tensor, columns: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """fastMRI's U-Net transform by its own functions, on any device: image of one slice, mean and deviation."""
    masked = torch.view_as_real(kspace) * columns[:, None] + 0.0
    image = fastmri.complex_abs(transforms.complex_center_crop(fastmri.ifft2c(masked), shape))
    image, mean, std = transforms.normalize_instance(fastmri.rss(image), eps=1e-11)
    return image.clamp(-6, 6), mean, std


def data_path(machine: Machine) -> Rows:
    """K-space to undersampled, normalised images, a batch on the device."""
    size, device, n, shape = machine.size, machine.device, machine.size.batches[-1], machine.size.image
    host = torch.randn(n, *size.kspace, dtype=torch.complex64)
    host = host.pin_memory() if machine.is_gpu else host
    kspace, columns = host.to(device), make_mask("random", size.kspace[-1], 0.08, 4, 0).columns.to(device)
    on_cpu = transforms.UnetDataTransform("multicoil", RandomMaskFunc([0.08], [4]))
    target = torch.zeros(shape).numpy()

    def ours(kspace: Tensor) -> Tensor:
        image = zero_filled(apply_mask(kspace, columns), shape)
        mean, std = map(torch.stack, zip(*map(image_statistics, image), strict=True))
        return normalize(image, mean, std)

    makers = {
        "on": lambda: lambda: ours(kspace),
        "theirs on": lambda: lambda: [fastmri_input(x, columns, shape) for x in kspace],
        "copied": lambda: lambda: ours(host.to(device, non_blocking=True)),
        "theirs copied": lambda: lambda: [on_cpu(x.numpy(), None, target, {"max": 1.0}, "a.h5", 0) for x in host],
    }
    found = measured(machine, makers)
    yield beside("k-space on the device", found["on"], found["theirs on"], n, "its functions there")
    theirs = found["theirs copied"]._replace(peak=0)  # it takes the host's
    yield beside("copied from pinned memory", found["copied"], theirs, n, "its transform on the CPU")


def evaluation(machine: Machine) -> Rows:
    """U-Nets in single precision, and the scores of their images."""
    size, n = machine.size, machine.size.batches[-1]
    target, one = torch.rand(n, *size.image), torch.tensor(1.0)
    slices = [Sample(x + 0.1 * torch.rand_like(x), x, one, one, 1.0, "a", i, 4, 4, "") for i, x in enumerate(target)]
    batch = to_device(collate(slices), machine.device)
    networks = our_unet(size), Unet(1, 1, *size.unet)
    ours, theirs = (ReconModule(network).to(machine.device).eval() for network in networks)

    def run(work: Callable[[], object]) -> Callable[[], Callable[[], object]]:
        def inferred() -> object:
            with inference(machine.device):
                return work()

        return lambda: inferred

    def scored() -> None:
        image, truth = theirs(batch).cpu().numpy(), batch.target.cpu().numpy()
        for score in (fastmri_evaluate.ssim, fastmri_evaluate.psnr, fastmri_evaluate.nmse):
            score(truth, image)

    makers = {"ours": run(lambda: ours(batch)), "theirs": run(lambda: theirs(batch)), "theirs scored": run(scored)}
    makers["scored"] = run(lambda: ours.add_scores(VolumeMetrics(["a"]), batch, batch.volume))
    found = measured(machine, makers)
    yield beside(f"U-Net inference, batch {n}, fp32", found["ours"], found["theirs"], n)
    yield beside("with scores, ours with the loss", found["scored"], found["theirs scored"], n)


# ---- training

Curve = list[tuple[float, float, int]]  # seconds of training, validation SSIM, step


def fastmri_curve(machine: Machine) -> Curve:
    """fastMRI's U-Net and recipe (RMSprop 1e-3, a tenth after 80 %, batch 1), its k-space already on the device."""
    size, device = machine.size, machine.device
    held = SliceDataset(machine.data() / "train", mask=None)
    slices = [(held[i].masked_kspace.to(device), held[i].target.to(device)) for i in range(len(held))]
    validation = to_device(collate(machine.samples()), device)
    module = ReconModule(Unet(1, 1, *size.unet)).to(device)
    optimizer, spent, step = torch.optim.RMSprop(module.parameters(), lr=1e-3), 0.0, 0
    drop = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0 if spent < 0.8 * size.train_s else 0.1)
    draw, order, curve = RandomMaskFunc([0.08], [4]), random.Random(0), Curve()
    epoch: list[int] = []
    part = size.train_s / size.validations
    while spent < size.train_s:
        start, before, until = perf_counter(), spent, (spent // part + 1) * part
        while spent < until:
            epoch = epoch or order.sample(range(len(slices)), len(slices))
            kspace, target = slices[epoch.pop()]
            columns = draw((1, kspace.shape[-1], 2), seed=step)[0].flatten().to(device)
            image, mean, std = fastmri_input(kspace, columns, (target.shape[-2], target.shape[-1]))
            target = transforms.normalize(target, mean, std, eps=1e-11).clamp(-6, 6)
            optimizer.zero_grad()
            nn.functional.l1_loss(module.model(image[None, None])[0, 0], target).backward()
            optimizer.step()
            drop.step()
            spent, step = before + perf_counter() - start, step + 1
        machine.wait()
        spent = before + perf_counter() - start
        metrics = VolumeMetrics(sorted(set(validation.volume)))
        with torch.inference_mode():
            images = module(validation)
        metrics.update(validation.target, images, validation.data_range, validation.volume, validation.slice_idx)
        curve.append((spent, mean_score(metrics.compute().values()).ssim, step))
    return curve


def read_curves(run: Path) -> tuple[list[dict[str, str]], Curve]:
    """Return all lines of a run's curves, and its validations."""
    with (run / "curves.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    return rows, [(float(row["seconds"]), float(row["val_ssim"]), int(row["step"])) for row in rows if row["val_ssim"]]


def our_training(machine: Machine, name: str, n_steps: int, n_validations: int) -> tuple[list[dict[str, str]], Curve]:
    """`mrirecon train` with its defaults, but for the size of the network."""
    channels, pools = machine.size.unet
    config = TrainConfig(
        data=DataConfig(path=str(machine.data()), mask="random"),
        model=ModelConfig(channels=channels, pools=pools),
        max_steps=n_steps,
        val_every=max(1, n_steps // n_validations),
        device=machine.device.type,
        output=str(machine.folder / name),
    )
    return read_curves(train(config).path)


def time_to_quality(machine: Machine) -> Rows:
    """Both recipes for the same seconds of training, without validations: one seed, simulated heads."""
    size = machine.size
    (first, *_, last), _ = our_training(machine, "pace", size.steps, 1)
    pace = (float(last["seconds"]) - float(first["seconds"])) / (int(last["step"]) - int(first["step"]))
    theirs = fastmri_curve(machine)
    _, ours = our_training(machine, "run", max(size.validations, round(size.train_s / pace)), size.validations)
    cells = [f"{curve[-1][1]:.4f} after {curve[-1][0]:.1f} s, {curve[-1][2]} steps" for curve in (ours, theirs)]
    row = Row("final SSIM", cells[0], f"fastMRI {cells[1]}", f"{ours[-1][1] - theirs[-1][1]:+.4f}")
    row.figures = {"here": ours, "against": theirs}
    yield row
    goal = max(ssim for _, ssim, _ in theirs)
    at = next(seconds for seconds, ssim, _ in theirs if ssim == goal)
    held = (seconds for i, (seconds, *_) in enumerate(ours) if all(ssim >= goal for _, ssim, _ in ours[i : i + 3]))
    row = Row(f"time to fastMRI's best SSIM, {goal:.4f}, held", "not reached", f"fastMRI {at:.1f} s")
    row.figures = {"here": next(held, None), "against": at}
    if row.figures["here"] is not None:
        row.here, row.ratio = f"{row.figures['here']:.1f} s", f"{row.figures['here'] / at:.2f} of its time"
    yield row
