"""Calls BART (Uecker et al., mrirecon.github.io/bart), an independent program; tests that use it are marked `bart`."""

import os
import shutil
import subprocess

import numpy as np
import pytest

IS_THERE = shutil.which("bart") is not None


def needs_bart(test):
    """Mark a test that runs BART; it is skipped, with the reason, where BART is not installed."""
    return pytest.mark.bart(
        pytest.mark.skipif(not IS_THERE, reason="bart is not installed (Debian: apt-get install bart)")(test)
    )


def write_cfl(path, array):
    """Write an array in BART's format: a header of sizes, then complex floats, the first axis fastest."""
    sizes = [*array.shape, *[1] * (16 - array.ndim)]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")
    np.asfortranarray(array.astype(np.complex64)).T.tofile(path.with_suffix(".cfl"))


def read_cfl(path):
    sizes = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(sizes[::-1]).T.squeeze()


def run(folder, command, **arrays):
    """Run a command in which `{name}` stands for arrays `(height, width, 1, coils)` or images, and return `{out}`."""
    for name, array in arrays.items():
        write_cfl(folder / name, array)
    words = command.format(**{name: folder / name for name in (*arrays, "out")}).split()
    subprocess.run(
        ["bart", *words], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    return read_cfl(folder / "out")


def coils_last(kspace):
    """`(coils, height, width)` as BART has it, `(height, width, 1, coils)`."""
    return np.moveaxis(np.asarray(kspace), 0, -1)[:, :, None, :]


def pics(folder, problem, kspace, smaps, mask, penalty, iterations=100):
    """BART's `pics` of k-space `(coils, height, width)` in the units of a `Problem`, its weight as given (`-w1`).

    Its objective is lowest after about 100 iterations; more make it worse in Debian's 0.8.0.
    """
    return run(
        folder,
        f"pics -w1 -p {{pattern}} -i {iterations} -R {penalty} {{kspace}} {{smaps}} {{out}}",
        pattern=np.broadcast_to(mask, kspace.shape[-2:]),
        kspace=coils_last(kspace / problem.scale[0]),
        smaps=coils_last(smaps),
    )
