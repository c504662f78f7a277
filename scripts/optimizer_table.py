"""Every optimizer x every norm, 20 steps each from the command line: does it run, and does the loss fall?

    python scripts/optimizer_table.py [--steps 20] [--output optimizer-table]

Each run is `mrirecon train -c optimizer/NAME --norm NORM` with the shipped overlay on simulated data (96 x 96, U-Net
of 8 channels that predicts the image itself, batch 4, no validation but the last). The loss shown is `val_loss` of the
network as it is drawn (after a step of rate 1e-30, the same for all optimizers) and after the last step, on the same
validation masks and with the weights that are evaluated.
"""

import argparse
import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrirecon.tables.norms import NORMS
from mrirecon.tables.optimizers import OPTIMIZERS

PROGRAM = [sys.executable, "-c", "import sys; from mrirecon.cli import main; sys.exit(main())"]


def main() -> int:
    arguments = parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = arguments.output / "data"
    if not data.is_dir():
        words = ["data", "simulate", str(data), "--train", "8", "--val", "2", "--test", "1", "--matrix", "96", "96"]
        subprocess.run([*PROGRAM, *words, "--slices", "4", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    cells = [(name, norm) for name in OPTIMIZERS for norm in NORMS]
    with ThreadPoolExecutor(2) as pool:
        before = dict(zip(NORMS, pool.map(lambda norm: untrained(norm, arguments), NORMS), strict=True))
        after = dict(zip(cells, pool.map(lambda cell: trained(*cell, arguments), cells), strict=True))
    show(before, after, arguments.steps)
    return 0 if all(loss < before[norm] for (_, norm), (loss, _) in after.items()) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("optimizer-table"))
    return parser.parse_args()


def untrained(norm: str, arguments: argparse.Namespace) -> float:
    loss, said = final_loss(["sgd", norm], ["--max-steps", "1", "--val-every", "1", "--lr", "1e-30"], arguments)
    if said:
        raise SystemExit(said)
    return loss


def trained(name: str, norm: str, arguments: argparse.Namespace) -> tuple[float, str]:
    """The validation loss after the last step, or what was said when the run failed."""
    return final_loss(
        [name, norm], ["--max-steps", str(arguments.steps), "--val-every", str(arguments.steps)], arguments
    )


def final_loss(cell: list[str], steps: list[str], arguments: argparse.Namespace) -> tuple[float, str]:
    folder = arguments.output / "-".join([*cell, steps[1]])
    words = ["train", "-c", f"optimizer/{cell[0]}", "--data", str(arguments.output / "data"), "--norm", cell[1], *steps]
    words += ["--channels", "8", "--batch-size", "4", "--residual", "false"]
    words += ["--threads", "1", "--precision", "fp32", "--quiet"]
    done = subprocess.run(
        [*PROGRAM, *words, "--output", str(folder), "--overwrite"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return float("nan"), done.stderr.strip().splitlines()[-1]
    with (folder / "curves.csv").open(newline="") as handle:
        return [float(row["val_loss"]) for row in csv.DictReader(handle) if row["val_loss"]][-1], ""


def show(before: dict[str, float], after: dict[tuple[str, str], tuple[float, str]], steps: int) -> None:
    print(f"validation L1 after {steps} steps; * not lower than before\n")
    print("| optimizer | " + " | ".join(NORMS) + " |\n|" + "---|" * (len(NORMS) + 1))
    print("| (before) | " + " | ".join(f"{before[norm]:.3f}" for norm in NORMS) + " |")
    for name in dict.fromkeys(name for name, _ in after):
        losses = [after[name, norm][0] for norm in NORMS]
        cells = [f"{x:.3f}{'' if x < before[norm] else ' *'}" for x, norm in zip(losses, NORMS, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for (name, norm), (_, said) in after.items():
        if said:
            print(f"{name} x {norm}: {said}")


if __name__ == "__main__":
    sys.exit(main())
