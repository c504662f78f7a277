"""What a GPU gives, in one run of under 8 minutes without network, for anyone with a CUDA machine.

    python scripts/benchmark_gpu.py [--out FILE.json] [--only SECTION ...]

Prints one Markdown table, headed by the machine's name, and writes the same as JSON. First CPU and GPU are compared
without TF32: the largest difference, as a share of the largest value, beside its bound. Then time, memory and quality
are measured beside fastMRI, competitors taking turns (medians). A section ends when its budget is spent; one that no
longer fits into the limit is left out, and said. Exit code 1: a comparison FAILs, or a section ended with an error.
`--device cpu --tiny` goes the same ways within seconds, to test them; its figures mean nothing.
"""

import argparse
import gc
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from gpu_beside_fastmri import (
    TINY,
    Machine,
    Row,
    Rows,
    Size,
    compiled,
    data_path,
    evaluation,
    in_a_line,
    our_unet,
    our_varnet,
    read_curves,
    tf32,
    time_to_quality,
    unet_steps,
    varnet_steps,
)
from torch import Tensor

from mrirecon import __version__, progress
from mrirecon.data.samples import collate, to_device
from mrirecon.data.transforms import apply_mask, image_statistics, zero_filled
from mrirecon.errors import InputError
from mrirecon.evaluation import VolumeMetrics
from mrirecon.files import write_json
from mrirecon.models.device import choose_device
from mrirecon.physics.espirit import espirit_smaps
from mrirecon.reconstruct.maps import forget_maps
from mrirecon.reconstruct.tv import SOLVERS, TotalVariation
from mrirecon.tables.metrics import chosen_metrics

LIMIT_S = 470.0  # of 8 minutes; importing takes the rest
CPU = torch.device("cpu")


class OutOfTime(BaseException):
    """The budget of a section is spent; no Exception, so that nobody in between takes it for an error of their own."""


def data(machine: Machine) -> Rows:
    start, n, size = perf_counter(), len(list(machine.data().rglob("*.h5"))), machine.size
    what = f"{n * size.slices} slices, {size.matrix} x {size.matrix}, {size.coils} coils"
    yield Row("simulated heads", f"{what}, in {perf_counter() - start:.1f} s")


def difference(device: torch.device, what: str, bound: float, work: Callable[[torch.device], Tensor]) -> Row:
    """Do the same on the CPU, then on the device; the largest difference as a share of the CPU's largest value."""
    limit = f"(bound {bound:.0e})"
    try:
        with tf32(False):
            expected, found = (work(place).detach().cpu() for place in (CPU, device))
        largest = float((expected - found).abs().max() / expected.abs().max())
    except Exception as error:
        return Row(what, in_a_line(error), "CPU", limit, "ERROR")
    verdict = "PASS" if largest <= bound else "FAIL"  # NaN is no pass
    figures = {"difference": largest if math.isfinite(largest) else None, "bound": bound}
    return Row(what, f"{largest:.1e}", "CPU", limit, verdict, figures)


def equality(machine: Machine) -> Rows:
    """Networks with their gradients, the transform, scores, ESPIRiT and total variation."""
    size, samples, device = machine.size, machine.samples("kspace", "mask"), machine.device
    first, batch = collate(samples[:1]), collate(samples)
    given = first.masked_kspace / first.image.max(), first.mask, first.n_center
    networks = {"U-Net": (our_unet, (torch.randn(1, 1, *size.image),)), "VarNet": (our_varnet, given)}

    def network(name: str, with_gradient: bool, place: torch.device) -> Tensor:
        torch.manual_seed(0)
        model = networks[name][0](size).to(place)
        output = model(*(x.to(place) for x in networks[name][1]))
        if not with_gradient:
            return output
        output.square().mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    def image(place: torch.device) -> Tensor:
        there = to_device(batch, place)
        return zero_filled(apply_mask(there.masked_kspace, there.mask[:, None, None]), (size.matrix, size.matrix))

    def scores(name: str, place: torch.device) -> Tensor:
        metrics, there = VolumeMetrics(sorted(set(batch.volume))), to_device(batch, place)
        metrics.update(there.target, there.image, batch.data_range, batch.volume, batch.slice_idx)
        return torch.tensor([score.scores[name] for score in metrics.compute().values()])

    def maps(place: torch.device) -> Tensor:
        found = espirit_smaps(first.masked_kspace[0].to(place), int(first.n_center[0]), crop=0.0)
        inside = found[:, (first.target[0] > 0.1 * first.target.max()).to(place)]
        return inside[:, None] * inside.conj()  # without the phase of all coils together, which is arbitrary

    def total_variation(solver: str, place: torch.device) -> Tensor:
        forget_maps()
        options = {"lambda_": 0.002, "iterations": 30, "tolerance": 0.0, "maps": "espirit", "crop": 0.0}
        return TotalVariation(solver, True, **options)(to_device(first, place))

    # bounds: ten times and more what single precision is away from double on a CPU (VarNet's gradient: 3e-3)
    for name, bound in zip(networks, (1e-3, 3e-2), strict=True):
        yield difference(device, f"{name}, output", 1e-4, lambda at, name=name: network(name, False, at))
        yield difference(device, f"{name}, gradient", bound, lambda at, name=name: network(name, True, at))
    yield difference(device, "k-space to zero-filled image", 1e-5, image)
    yield difference(device, "its statistics", 1e-6, lambda at: torch.stack(image_statistics(first.image[0].to(at))))
    for name in chosen_metrics(None):
        yield difference(device, name, 1e-6, lambda at, name=name: scores(name, at))
    yield difference(device, "ESPIRiT maps", 1e-3, maps)
    for name in SOLVERS:
        yield difference(device, f"total variation, {name}", 1e-4, lambda at, name=name: total_variation(name, at))


# ---- two GPUs


def two_processes(machine: Machine) -> Rows:
    """The same training by one process and by two, half of the batch each."""
    backend = "nccl" if machine.is_gpu else "gloo"
    if machine.is_gpu and torch.cuda.device_count() < 2:
        yield Row("two processes, nccl", "one GPU: not run")
        return
    ends, (channels, pools) = [], machine.size.unet
    for n in (1, 2):
        run = machine.folder / f"of-{n}"
        words = f"--devices {n} --batch-size {4 // n} --max-steps {machine.size.steps} --channels {channels}"
        words += f" --pools {pools} --precision fp32 --mask random --device {machine.device.type} --quiet -o {run}"
        command = [sys.executable, "-m", "mrirecon", "train", "--data", str(machine.data()), *words.split()]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{n} of them ended with exit code {done.returncode}: {done.stderr[-120:]}")
        rows, curve = read_curves(run)
        ends.append((curve[-1][1], float([row["slices_per_s"] for row in rows if row["slices_per_s"]][-1])))
    (alone, pace_alone), (together, pace) = ends
    verdict = "PASS" if abs(together - alone) <= 1e-3 else "FAIL"
    yield Row(f"final SSIM, {backend}", f"{together:.5f}", f"one process {alone:.5f}", "(bound 1e-03)", verdict)
    ratio = f"{pace / pace_alone:.2f}x as fast"
    yield Row(f"training, {backend}", f"{pace:.1f} slices/s", f"one process {pace_alone:.1f}", ratio)


# ---- the run


class Section(NamedTuple):
    """What fills a part of the table, and the seconds that it may take."""

    work: Callable[[Machine], Rows]
    seconds: float


SECTIONS = {
    "data": Section(data, 50),
    "equality": Section(equality, 50),
    "U-Net step": Section(unet_steps, 35),
    "VarNet step": Section(varnet_steps, 70),
    "data path": Section(data_path, 20),
    "evaluation": Section(evaluation, 20),
    "time to quality": Section(time_to_quality, 95),
    "two processes": Section(two_processes, 60),
    "compiled": Section(compiled, 70),
}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds of what is done here."""

    def ring(*_: object) -> None:
        raise OutOfTime(f"cut after {seconds:.0f} s, its budget")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(machine: Machine, names: Iterable[str], limit_s: float) -> list[Row]:
    """Return the lines of all sections; one that fails or does not fit leaves a line that says so."""
    rows: list[Row] = []
    start = perf_counter()
    for name in names:
        section, left, n = SECTIONS[name], limit_s - (perf_counter() - start), len(rows)
        print(f"{perf_counter() - start:4.0f} s: {name}", file=sys.stderr, flush=True)
        torch.manual_seed(0)
        if section.seconds > left:
            why = f"not run: it may take {section.seconds:.0f} s, and {max(left, 0):.0f} s are left"
            rows.append(Row("all of it", why, verdict="SKIPPED"))
        else:
            try:
                with at_most(section.seconds):
                    for row in section.work(machine):
                        rows.append(row)  # those before an error stay
            except (Exception, OutOfTime) as error:
                rows.append(Row("the rest" if len(rows) > n else "all of it", in_a_line(error), verdict="ERROR"))
        for row in rows[n:]:
            row.section = name
        gc.collect()
        if machine.is_gpu:
            torch.cuda.empty_cache()
    return rows


def machine_name(device: torch.device) -> str:
    words = [f"{platform.machine()} CPU with {os.cpu_count()} cores"]
    if device.type == "cuda":
        try:
            ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            driver = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            driver = "unknown"
        gpus = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        words = [gpus, f"driver {driver}", f"CUDA {torch.version.cuda}", *words]
    return ", ".join([*words, f"torch {torch.__version__}", f"mrirecon {__version__}", date.today().isoformat()])


def markdown(name: str, rows: Iterable[Row]) -> str:
    lines = [["section", "what", "here", "against", "ratio or bound"], ["---"] * 5]
    for row in rows:
        cells = (row.section, row.what, row.here, row.against, f"{row.verdict} {row.ratio}".strip())
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return f"## {name}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmark_gpu.json"), help="the JSON file (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="sections (all)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="sizes to try the script with")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of all sections together (%(default)g)")
    args = parser.parse_args(words)
    if args.out.is_dir() or not args.out.absolute().parent.is_dir():
        parser.error(f"--out is {args.out}; give a file in a folder that is there")
    try:
        device = choose_device(args.device)
    except InputError as error:
        parser.error(str(error))
    start, progress.quiet = perf_counter(), True
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-") as folder:
        rows = measure(Machine(device, TINY if args.tiny else Size(), Path(folder)), args.only, args.limit)
    name = machine_name(device) + (", tiny sizes, whose figures mean nothing" if args.tiny else "")
    print(markdown(name, rows))
    write_json(args.out, {"machine": name, "seconds": perf_counter() - start, "rows": [asdict(row) for row in rows]})
    return int(any(row.verdict in {"FAIL", "ERROR"} for row in rows))


if __name__ == "__main__":
    sys.exit(main())
