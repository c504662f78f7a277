"""The rule of precision `auto`."""

from pathlib import Path

import pytest
import torch

from mrirecon.models import auto_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({"neon": True}, "32-true"),
    ],
)
def test_a_cpu_needs_bf16_instructions(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert auto_precision("cpu") == expected


def test_an_older_torch_is_asked_in_its_own_way(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert auto_precision("cpu") == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert auto_precision(torch.device("cpu")) == "bf16-mixed"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_cuda_needs_ampere(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert auto_precision("cuda:0") == expected


def test_other_devices_stay_in_fp32():
    assert auto_precision("mps") == "32-true"


def test_the_answer_agrees_with_the_flags_of_this_machine():
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "flags" not in flags:
        pytest.skip("no x86 flags in /proc/cpuinfo")
    assert (auto_precision("cpu") == "bf16-mixed") == bool({"avx512_bf16", "amx_bf16"} & set(flags))
