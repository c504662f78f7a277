"""The rule of precision `auto`; `tests/workflows/test_train.py` shows what a training with it computes in."""

import subprocess
from pathlib import Path

import pytest
import torch

from mrirecon.models import auto_precision


def test_the_answer_agrees_with_the_flags_of_this_machine():
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "flags" not in flags:
        pytest.skip("no x86 flags in /proc/cpuinfo")
    assert (auto_precision("cpu") == "bf16-mixed") == bool({"avx512_bf16", "amx_bf16"} & set(flags))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_answer_agrees_with_the_driver_of_this_gpu():
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    generation = float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
    assert (auto_precision("cuda") == "bf16-mixed") == (generation >= 8.0)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),  # Cascade Lake
        ({"avx512_f": True, "avx512_vnni": True, "avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),  # Zen 4
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, "bf16-mixed"),  # Sapphire Rapids
        ({"avx2": True, "avx512_f": False}, "32-true"),  # Zen 3
        ({"neon": True}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_processors_that_are_not_here(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert auto_precision("cpu") == expected


@pytest.mark.parametrize(
    ("card", "expected"), [((7, 0), "32-true"), ((7, 5), "32-true"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_cards_that_are_not_here(monkeypatch, card, expected):
    """V100 and T4 have no bfloat16 products, A100 and H100 have (NVIDIA's table of tensor core precisions)."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: card)
    assert auto_precision("cuda:0") == expected


def test_other_devices_stay_in_fp32():
    assert auto_precision("mps") == "32-true"
