"""Damaged and hostile HDF5 files, checkpoints and YAML files: each must be refused in one line, or read rightly.

OMP_NUM_THREADS=1 python scripts/fuzz.py --hdf5 2000 --checkpoints 300 --yaml 200 --jobs 2
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))

from campaign import plan, run_all, some_by_shell
from counts import table
from kinds import KINDS


def main() -> int:
    """Run the cases, print counts by class, keep what failed; the exit code says whether anything did."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag, default in (("hdf5", 2000), ("checkpoints", 300), ("yaml", 200)):
        parser.add_argument(f"--{flag}", dest=flag.rstrip("s"), type=int, default=default, help="number of cases")
    parser.add_argument("--by-shell", type=int, default=20, help="cases that also go through the real command line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder of the cases that fail")
    options = parser.parse_args()
    start = time.monotonic()
    cases = []
    for kind, module in KINDS.items():
        cases += plan(kind, module, getattr(options, kind), options.seed)
    cases += some_by_shell(cases, options.by_shell)
    outcomes = run_all(cases, KINDS, options.jobs, options.keep)
    faults = [outcome for outcome in outcomes if outcome.fault]
    for case, fault in ((outcome.case, outcome.fault) for outcome in faults):
        print(f"{'command line, ' * case.by_shell}{case.kind} {case.number} ({case.mutation}): {fault}")
    print(table(outcomes))
    slowest, largest = max(o.seconds for o in outcomes if not o.case.by_shell), max(o.peak_bytes for o in outcomes)
    print(f"{time.monotonic() - start:.0f} s; slowest case {slowest:.1f} s, most memory {largest / 2**20:.0f} MiB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
