"""The device, the precision and the memory in which a network computes."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from mrirecon.config.train import DEVICES
from mrirecon.errors import InputError, unknown_name

PRECISIONS = ("fp32", "bf16-mixed")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_LARGEST_THRESHOLD = 2**31 - 1


def choose_device(name: str) -> torch.device:
    """Choose the device; `auto` is cuda where torch finds it, else cpu.

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
    """Make the context of a precision: bf16-mixed lets convolutions and matrix products run in bfloat16, fp32 nothing.

    Which operations those are is for torch to say: https://docs.pytorch.org/docs/stable/amp.html.

    Raises:
        InputError: Unknown precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Switch off gradients and TF32, which is on by default in convolutions and has ten bits of mantissa only.

    TF32: https://docs.pytorch.org/docs/stable/notes/cuda.html.
    """
    with torch.inference_mode():
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


Precision = Literal["bf16-mixed", "32-true"]


def auto_precision(device: str | torch.device) -> Precision:
    """Choose `bf16-mixed` where the hardware multiplies bfloat16, else `32-true` (names of a Lightning `Trainer`).

    That is CUDA from Ampere on (compute capability 8.0) and CPUs with AVX512-BF16 or AMX; anything else
    emulates bfloat16 and becomes slower. fp16 is never chosen: k-space scales of 1e-5 underflow in it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability(device)[0] >= 8 else "32-true"
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return "bf16-mixed" if found.get("avx512_bf16") or found.get("amx_bf16") else "32-true"
    return "32-true"


def keep_freed_memory() -> bool:
    """Let this process keep freed memory; False where the C library is not glibc, and nothing is changed.

    By default glibc gives large blocks back to the system, and every training step on a CPU maps its activations
    page by page again: 50,000 page faults and 15 % of the time of a bf16 step (32 channels, 320 x 320, batch 2). The
    price is that memory stays at its peak between steps. For programs that train, not for a library to decide.

    It sets both thresholds of mallopt(3) (https://man7.org/linux/man-pages/man3/mallopt.3.html) to their largest value.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return all([mallopt(_M_TRIM_THRESHOLD, _LARGEST_THRESHOLD), mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)])


def give_back_freed_memory() -> bool:
    """Give all freed memory of this process back to the system; False where the C library is not glibc.

    glibc reuses the holes that images leave in its heap badly: an evaluation of volumes of 34 MB, none of which it
    kept, grew by 25 MiB with each. Once per volume this holds it level.

    It calls malloc_trim(3) (https://man7.org/linux/man-pages/man3/malloc_trim.3.html).
    """
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True


def _of_glibc(name: str) -> Any:
    """Find the C function of that name; None where the C library has none."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return None
