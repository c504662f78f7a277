"""Freed memory stays with the process once that is asked for, or goes back."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import resource, sys, torch
from mrirecon.models.memory import keep_freed_memory
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
from mrirecon.models.memory import give_back_freed_memory
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
    from mrirecon.models import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
    assert memory.give_back_freed_memory() is False
