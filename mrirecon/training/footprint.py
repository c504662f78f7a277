"""The size of a network and of a training step: parameters, operations, memory as counted and as measured."""

import copy
import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from mrirecon.config import OptimizerConfig
from mrirecon.data.samples import Sample, to_device
from mrirecon.models.device import give_back_freed_memory
from mrirecon.training.prediction import Predict, predict_by_class
from mrirecon.training.recipe.optimizers import make_optimizer

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class ModelSummary:
    """Size of a network and of its training step; memory in bytes.

    What a step really takes is more: the gradients of the largest images and the buffers of single operations (up
    to 20 % for the default network on a CPU, up to half with holes in the heap), and the results of dropout.
    """

    parameters: int
    flop_per_slice: int  # forward; a multiply-add is 2
    image_shape: tuple[int, int]  # (height, width) of that slice
    batch_size: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int  # kept for the backward pass, of the whole batch

    @property
    def step_bytes(self) -> int:
        """Memory that a training step holds when its backward pass begins, gradients included."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"image_shape": list(self.image_shape), "step_bytes": self.step_bytes}

    def __str__(self) -> str:
        size = " x ".join(map(str, self.image_shape))
        flop = self.flop_per_slice
        cost = f"{flop / 1e9:,.1f} GFLOP" if flop >= 1e8 else f"{flop / 1e6:,.1f} MFLOP"
        slices = f"{self.batch_size} slice{'s' if self.batch_size > 1 else ''}"
        return (
            f"{self.parameters:,} parameters, {cost} per {size} slice, about "
            f"{_memory(self.step_bytes)} for a training step of {slices} ({_memory(self.activation_bytes)} activations)"
        )


def summarize(
    model: nn.Module,
    sample: Sample,
    batch_size: int,
    optimizer: OptimizerConfig,
    device: torch.device | str = "cpu",
    precision: AbstractContextManager | None = None,
    predict: Predict | None = None,
) -> ModelSummary:
    """Measure one forward pass, in evaluation mode, of a copy of `model`; nothing of the caller's changes.

    Operations are those that torch's `FlopCounterMode` knows, activations what autograd saves (hooks for saved tensors,
    https://docs.pytorch.org/docs/stable/autograd.html).

    Args:
        model: The network to be trained, on any device.
        sample: A batch of one slice, `image` `(1, height, width)`.
        batch_size: Slices of a training step.
        optimizer: Its method; the state is measured on small parameters.
        device: Where the training runs.
        precision: The context that it runs in.
        predict: What the network makes of a sample; None: what `predict_by_class` finds.
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        network = copy.deepcopy(model).to(device).eval()
        flop, fixed, per_slice = _forward(
            network, predict or predict_by_class(model), to_device(sample, device), precision or nullcontext()
        )
        trained = [p for p in network.parameters() if p.requires_grad]
        state = sum(p.numel() * ratio for p, ratio in zip(trained, _state_ratios(trained, optimizer), strict=True))
    return ModelSummary(
        parameters=sum(p.numel() for p in network.parameters()),
        flop_per_slice=flop,
        image_shape=(sample.image.shape[-2], sample.image.shape[-1]),
        batch_size=batch_size,
        weight_bytes=sum(p.nbytes for p in network.parameters()),
        gradient_bytes=sum(p.nbytes for p in trained),
        optimizer_bytes=round(state),
        activation_bytes=fixed + batch_size * per_slice,
    )


def _forward(
    network: nn.Module, predict: Predict, sample: Sample, precision: AbstractContextManager
) -> tuple[int, int, int]:
    """Count FLOP, and bytes kept for the backward pass: of weights in another precision, and for each slice."""
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    shapes = {p.shape for p in network.parameters()}
    fixed: dict[int, int] = {}
    per_slice: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept = fixed if _is_cast(tensor, shapes) else per_slice
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # keeps its address; the tensor itself would be a cycle through the graph, never freed

    from torch.utils.flop_counter import FlopCounterMode  # loads triton, which only this needs

    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor), counter, precision:
        output = predict(network, sample)
    del output
    return counter.get_total_flops(), sum(fixed.values()), sum(per_slice.values())


def _is_cast(tensor: Tensor, shapes: set[torch.Size]) -> bool:
    """Tell whether a tensor is a weight, or a part of one, in another precision: it does not grow with the batch."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.shape in shapes or (tensor.shape[:1] != (1,) and any(size == shape.numel() for shape in shapes))


def _state_ratios(parameters: list[nn.Parameter], config: OptimizerConfig) -> list[float]:
    """Measure bytes of optimizer state per element of the parameters, by a step on small ones with as many axes.

    Kernels of one pixel stay so: Muon treats these otherwise.
    """
    small_shapes = [(2,) * min(p.ndim, 2) + tuple(min(n, 2) for n in p.shape[2:]) for p in parameters]
    small = {shape: nn.Parameter(torch.zeros(shape)) for shape in sorted(set(small_shapes))}
    optimizer = make_optimizer(config.name, small.values(), 1e-3, config.weight_decay, **config.options)
    for p in small.values():
        p.grad = torch.ones_like(p)
    optimizer.step()
    ratios = {}
    for shape, p in small.items():
        state = [t for t in optimizer.state[p].values() if isinstance(t, Tensor) and t.ndim > 0]
        ratios[shape] = sum(t.nbytes for t in state) / p.numel()
    return [ratios[shape] for shape in small_shapes]


def _memory(n: int) -> str:
    return f"{n / 2**30:,.1f} GiB" if n >= 0.95 * 2**30 else f"{n / 2**20:,.0f} MiB"


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Count the bytes of the tensors that `optimizer` keeps between steps, 0 before the first one.

    Tensors without axes, such as Adam's counters of steps, are left out: they do not grow with the network.
    """
    tensors = {id(t): t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)}
    return sum(t.nbytes for t in tensors.values() if t.ndim > 0)


def machine_memory(device: str = "cpu") -> int:
    """Return the bytes of memory of this machine (at most what its control group allows), or of the GPU.

    The limit of a group is its `memory.max` (https://docs.kernel.org/admin-guide/cgroup-v2.html) or that of version 1.
    """
    if device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _CGROUPS:
        with suppress(OSError, ValueError):  # no such control group, or `max`
            found = min(found, int(file.read_text()))
    return found


def memory_of(device: str) -> str:
    """Say how much memory there is."""
    return f"{'the GPU' if device == 'cuda' else 'this machine'} has {as_gib(machine_memory(device))}"


def as_gib(n: int) -> str:
    """Format a number of bytes in GiB (2^30 bytes)."""
    return f"{n / 2**30:,.1f} GiB"


class PeakMemory:
    """Context that measures the peak memory of the work in it: `bytes` after it has ended.

    On a CPU it is the resident memory of the whole process, libraries included. Linux's own mark is set back at the
    start (`clear_refs`), and freed memory that the process has kept is given back, so that earlier work in it does not
    count; where that is not allowed, `bytes` is the peak since the process began, and `since_start` is true. On a GPU
    it is what torch's tensors took there.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.bytes, self.since_start = 0, False

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.since_start = not _set_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self.bytes = _peak_since_start() if self.since_start else _high_water_mark()


def _set_back() -> bool:
    """Set the high-water mark to what is in use now; False where the system does not allow it."""
    give_back_freed_memory()  # trainings on a CPU let the process keep it
    try:
        _CLEAR.write_text("5")
        return _high_water_mark() > 0
    except OSError:
        return False


def _high_water_mark() -> int:
    lines = _STATUS.read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _peak_since_start() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
