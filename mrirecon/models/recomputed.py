"""Modules whose intermediate results are computed a second time for the gradient, in place of being kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *inputs: Any) -> Any:
    """Return `module(*inputs)`, of which the inputs alone are kept (gradient checkpointing, Chen et al. 2016).

    The gradient is that of a plain call, in the same precision, with the same dropout. What the module counts in its
    buffers, as BatchNorm its running statistics, it counts once. Without gradients it is a plain call.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return module(*inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _buffers_kept(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Give `module` its buffers back as they were; autograd, which may have saved them, is not told."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)
