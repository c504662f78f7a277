"""Freed memory stays with the process once that is asked for."""

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


def test_without_glibc_nothing_happens(monkeypatch):
    from mrirecon.models import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
