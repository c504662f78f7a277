"""Where and how exactly a network computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mrirecon.config.train import DEVICES
from mrirecon.errors import InputError, unknown_name

PRECISIONS = ("fp32", "bf16-mixed")


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where torch finds it, else cpu.

    Raises:
        InputError: Unknown name, or cuda without a device.
    """
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise InputError("--device cuda, but torch finds no CUDA device here; use --device auto")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """fp32 computes as it is; bf16-mixed lets convolutions and matrix products run in bfloat16.

    Raises:
        InputError: Unknown precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """No gradients, and fp32 means fp32: TF32, on by default in convolutions, has ten bits only."""
    with torch.inference_mode(), _without_tf32(device):
        yield


@contextmanager
def _without_tf32(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    matmul, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = convolutions
