"""Which floating-point precision pays on a device."""

from typing import Literal

import torch

Precision = Literal["bf16-mixed", "32-true"]


def auto_precision(device: str | torch.device) -> Precision:
    """`bf16-mixed` where the hardware multiplies bfloat16, else `32-true` (names of a Lightning `Trainer`).

    That is CUDA from Ampere on (compute capability 8.0) and CPUs with AVX512-BF16 or AMX; anything else
    emulates bfloat16 and becomes slower. fp16 is never chosen: k-space scales of 1e-5 underflow in it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability(device)[0] >= 8 else "32-true"
    if device.type == "cpu":
        return "bf16-mixed" if _cpu_multiplies_bf16() else "32-true"
    return "32-true"


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities:
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    # Before `get_capabilities` (torch 2.6 on) these private questions were the only ones.
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
