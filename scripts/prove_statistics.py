"""The statistics of comparisons, held against simulated studies whose truth is known and against exact enumeration.

    python scripts/prove_statistics.py [--studies 1000] [--families 1000] [--seed 0]

Prints each setting with what was measured and what is asked; the exit code is 1 when anything misses. The simulations
are tests/evaluation/simulated_studies.py.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "evaluation"))

import simulated_studies as studies

from mrirecon.evaluation.stats import minimum_detectable_effect

Line = tuple[str, float, float, float]  # setting, measured, lowest and highest allowed
POINTS = 0.03  # of a power


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--studies", type=int, default=1000, help="in each setting of coverage; powers take 4 times more"
    )
    parser.add_argument("--families", type=int, default=1000, help="in each setting of equal methods")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    parts = {
        f"coverage of the 95 % interval, {arguments.studies} studies each, true difference {studies.TRUTH}": coverage,
        f"equal methods, {arguments.families} families of {studies.N_COMPARISONS} comparisons with one reference": wins,
        f"power of the sign-flip test, {4 * arguments.studies} studies each, against enumeration": power,
        f"power at the minimum detectable effect, {4 * arguments.studies} studies each, against 80 %": detectable,
    }
    kept = [shown(title, part(arguments)) for title, part in parts.items()]
    return 0 if all(kept) else 1


def shown(title: str, lines: Iterator[Line]) -> bool:
    print(f"\n== {title}", flush=True)
    start, kept = time.perf_counter(), True
    for setting, measured, low, high in lines:
        holds = low <= measured <= high
        kept &= holds
        asked = f"asked {100 * low:.1f} to {100 * high:.1f}"
        print(f"{setting}: {100 * measured:.1f} % ({asked}) {'holds' if holds else 'MISSED'}", flush=True)
    print(f"   {time.perf_counter() - start:.0f} s", flush=True)
    return kept


def coverage(arguments: argparse.Namespace) -> Iterator[Line]:
    for index, setting in enumerate((*studies.SETTINGS, *studies.RESIDUAL_ONLY)):
        highest = 1.0 if setting in studies.RESIDUAL_ONLY else 0.98
        yield str(setting), studies.coverage(setting, arguments.studies, arguments.seed + index), 0.92, highest


def wins(arguments: argparse.Namespace) -> Iterator[Line]:
    n = arguments.families
    highest = 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)
    for index, setting in enumerate((*studies.SAME_METHOD, *studies.ZERO_ON_AVERAGE)):
        seed = arguments.seed + index
        yield f"false wins, {setting}", studies.false_wins(setting, n, seed), 0, highest
        if setting in studies.SAME_METHOD:
            yield f"sign flips alone, {setting}", studies.false_flips(setting, n, seed), 0, highest


def power(arguments: argparse.Namespace) -> Iterator[Line]:
    for outcomes, n_seeds in studies.POWERS:
        exact = studies.exact_power(outcomes, n_seeds)
        measured = studies.simulated_power(outcomes, n_seeds, 4 * arguments.studies, arguments.seed)
        words = f"{n_seeds:2} seeds, {len(outcomes.values[0])} comparison(s), exact power {100 * exact:.2f} %"
        yield words, measured, exact - POINTS, exact + POINTS


def detectable(arguments: argparse.Namespace) -> Iterator[Line]:
    for index, setting in enumerate(studies.SETTINGS):
        effect = minimum_detectable_effect(studies.true_effect(setting))
        measured = studies.found(setting, effect, 4 * arguments.studies, arguments.seed + index)
        yield f"{setting}, {effect:.3f}", measured, 0.8 - POINTS, 0.8 + POINTS


if __name__ == "__main__":
    sys.exit(main())
