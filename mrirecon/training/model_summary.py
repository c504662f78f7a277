"""The cost of a network, measured: parameters, operations for a slice, memory of a training step."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from mrirecon.config import OptimizerConfig
from mrirecon.data.samples import Sample, to_device
from mrirecon.training.prediction import Predict, predict_by_class
from mrirecon.training.recipe.optimizers import make_optimizer


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
    """Measure bytes of optimizer state per element of the parameters, by a step on small ones with as many axes."""
    axes = sorted({p.ndim for p in parameters})
    small = [nn.Parameter(torch.zeros((2,) * n)) for n in axes]
    optimizer = make_optimizer(config.name, small, 1e-3, config.weight_decay, **config.options)
    for p in small:
        p.grad = torch.ones_like(p)
    optimizer.step()
    states = [[t for t in optimizer.state[p].values() if isinstance(t, Tensor) and t.ndim > 0] for p in small]
    ratios = {p.ndim: sum(t.nbytes for t in state) / p.numel() for p, state in zip(small, states, strict=True)}
    return [ratios[p.ndim] for p in parameters]


def _memory(n: int) -> str:
    return f"{n / 2**30:,.1f} GiB" if n >= 0.95 * 2**30 else f"{n / 2**20:,.0f} MiB"
