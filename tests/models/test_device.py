"""The rule of precision auto, and freed memory that stays with the process once that is asked for, or goes back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mrirecon.models import auto_precision

MEASURE = """
import resource, sys, torch
from mrirecon.models.device import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(40_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# An aligned block may not fit the hole that the last one left; after some tries it does.
print(min(faults() for _ in range(40)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_repeated_allocation_maps_no_new_pages():
    def faults(choice):
        command = [sys.executable, "-c", MEASURE, choice]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert faults("keep") < 100 < faults("leave")


GIVE_BACK = """
import ctypes
from pathlib import Path
from mrirecon.models.device import give_back_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(2000)]  # below the threshold: they lie in the heap
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one keeps the heap from shrinking
    libc.free(block)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
assert give_back_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_freed_memory_below_a_used_block_goes_back():
    given = subprocess.run([sys.executable, "-c", GIVE_BACK], capture_output=True, check=True, text=True).stdout
    assert int(given) > 0.9 * 1999 * 100_000


def test_without_glibc_nothing_happens(monkeypatch):
    from mrirecon.models import device

    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: object())
    assert device.keep_freed_memory() is False
    assert device.give_back_freed_memory() is False


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
