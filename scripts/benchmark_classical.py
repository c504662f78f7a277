"""ESPIRiT and total variation beside BART and sigpy, on one thread, in one run.

    python scripts/benchmark_classical.py FILE.h5 [--slice 0] [--acceleration 4] [--weight 0.01] [--figure OUT.png]

FILE is fully sampled multi-coil k-space in the fastMRI layout. Printed are medians of interleaved runs: seconds of the
maps, and seconds until total variation's objective is within 0.3 % of its minimum, which both solvers find in double
precision first. BART starts a process for each number of iterations (its start and its files count), the smallest that
gets there counts; sigpy is compared on the anisotropic objective that it minimises, by its own steps. A program that is
not installed is left out, and said.
"""

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bart_program import coils_last, run

from mrirecon.data import Volume
from mrirecon.physics import make_mask
from mrirecon.physics.espirit import espirit_smaps
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.tv import SOLVERS, TotalVariation, differences, total_variation

NEAR = 0.003
Curve = list[tuple[float, float]]  # seconds, distance of the objective from its minimum as a share


def tv(weight: float, solver: str, isotropic: bool, iterations: int, tolerance: float = 0.0) -> TotalVariation:
    return TotalVariation(
        solver, isotropic, lambda_=weight, iterations=iterations, tolerance=tolerance, maps="espirit", crop=0.0
    )


def timed(work: Callable[[], object], repeats: int = 3) -> tuple[float, object]:
    """Median seconds of a few runs, and what the last one gave."""
    seconds, result = [], None
    for _ in range(repeats):
        start = perf_counter()
        result = work()
        seconds.append(perf_counter() - start)
    return median(seconds), result


def first_near(curve: Curve) -> str:
    reached = [seconds for seconds, distance in curve if distance <= NEAR]
    return f"{reached[0]:.2f} s" if reached else f"not reached (best {min(d for _, d in curve):.2%})"


def our_curve(problem: Problem, weight: float, solver: str, isotropic: bool, lowest: float, iterations: int) -> Curve:
    curve, start = [], perf_counter()
    for _, objective in zip(
        range(iterations), (j for _, j in SOLVERS[solver](problem, weight, isotropic)), strict=False
    ):
        curve.append((perf_counter() - start, float(objective) / lowest - 1))
    return curve


def bart_curve(folder: Path, objective: Callable[[np.ndarray], float], arrays: dict, weight: float) -> Curve:
    curve = []
    for iterations in range(20, 121, 20):
        command = f"pics -w1 -p {{pattern}} -i {iterations} -R T:3:0:{weight} {{kspace}} {{smaps}} {{out}}"
        seconds, image = timed(lambda command=command: run(folder, command, **arrays), 1)
        curve.append((seconds, objective(image)))
    return curve


def sigpy_curve(kspace: np.ndarray, smaps: np.ndarray, columns: np.ndarray, objective, weight: float) -> Curve:
    import sigpy.mri

    curve = []
    for iterations in (25, 50, 100, 200, 400):
        app = sigpy.mri.app.TotalVariationRecon(
            kspace,
            smaps,
            weight,
            weights=np.broadcast_to(columns, kspace.shape).astype(np.float32),
            max_iter=iterations,
            show_pbar=False,
        )
        start = perf_counter()
        image = app.run()
        curve.append((perf_counter() - start, objective(image)))
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--slice", type=int, default=0)
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--weight", type=float, default=0.01)
    parser.add_argument("--figure", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    full = torch.from_numpy(Volume(args.file).kspace(args.slice))
    size = (full.shape[-2], full.shape[-1])
    mask = make_mask("random", size[1], 0.32 / args.acceleration, args.acceleration, 1)
    kspace = torch.where(mask.columns, full, 0)
    print(
        f"{Path(args.file).name}: {tuple(full.shape)}, {mask.acceleration_true:.2f}x, {mask.n_center} central columns"
    )

    seconds, smaps = timed(lambda: espirit_smaps(kspace, mask.n_center))
    has_bart, has_sigpy = shutil.which("bart") is not None, importlib.util.find_spec("sigpy") is not None
    folder = Path(tempfile.mkdtemp(prefix="bart-"))
    print(f"ESPIRiT maps          mrirecon {seconds:.2f} s", end="")
    if has_bart:
        theirs, _ = timed(lambda: run(folder, "ecalib -m1 {kspace} {out}", kspace=coils_last(kspace)))
        print(f", BART {theirs:.2f} s: {seconds / theirs:.2f} of it", end="")
    print()

    problem = Problem.of_kspace(kspace[None], mask.columns[None], smaps[None], size)
    double = Problem.of_kspace(
        kspace[None].to(torch.complex128), mask.columns[None], smaps[None].to(torch.complex128), size
    )
    arrays = {
        "pattern": mask.columns.expand(size).numpy(),
        "kspace": coils_last(kspace / problem.scale[0]),
        "smaps": coils_last(smaps),
    }
    curves: dict[str, Curve] = {}
    for isotropic in (True, False):
        found = {
            name: tv(args.weight, name, isotropic, iterations, 1e-12).solve(double)
            for name, iterations in (("pdhg", 1500), ("admm", 200))
        }
        lowest = min(float(solution.objective.min()) for solution in found.values())
        apart = abs(float(found["pdhg"].objective[-1]) / float(found["admm"].objective[-1]) - 1)
        kind = "isotropic" if isotropic else "anisotropic"
        print(f"{kind} total variation: minimum {lowest:.6g}, the solvers {apart:.1e} apart in double precision")

        def distance(image: np.ndarray, isotropic: bool = isotropic, lowest: float = lowest) -> float:
            x = torch.as_tensor(image, dtype=torch.complex128)[None]
            penalty = args.weight * total_variation(differences(x), isotropic)
            return float(double.misfit(x, double.normal(x)) + penalty) / lowest - 1

        for solver, iterations in (("admm", 60), ("pdhg", 300)):
            curves[f"mrirecon {solver}, {kind}"] = our_curve(
                problem, args.weight, solver, isotropic, lowest, iterations
            )
        if isotropic and has_bart:
            curves["BART, isotropic"] = bart_curve(folder, distance, arrays, args.weight)
        if not isotropic and has_sigpy:
            scaled = (kspace / problem.scale[0]).numpy()
            curves["sigpy, anisotropic"] = sigpy_curve(
                scaled, smaps.numpy(), mask.columns.numpy(), distance, args.weight
            )
    for name, curve in curves.items():
        print(f"within {NEAR:.1%} of the minimum: {name:30} {first_near(curve)}")
    for name, is_there in (("bart", has_bart), ("sigpy", has_sigpy)):
        if not is_there:
            print(f"{name} is not installed: not measured")
    if args.figure:
        draw(curves, Path(args.figure))


def draw(curves: dict[str, Curve], path: Path) -> None:
    """Draw distance from the minimum against seconds."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        style = "o-" if "mrirecon" not in name else "-"
        axes.semilogy(*zip(*curve, strict=True), style, label=name, lw=1.2, ms=3)
    axes.axhline(NEAR, color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="seconds, one thread", ylabel="objective above its minimum, share", ylim=(1e-4, 1))
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
