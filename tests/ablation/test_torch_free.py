"""What only looks at a study does not wait for torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pytorch_lightning", "fastmri")


def modules_after(code, *arguments):
    """Which heavy modules a program has loaded at its end."""
    check = f"\nimport sys\nprint('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + check, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "module",
    [
        *("study.grid_file", "study.plan", "study.folder", "work.prepare", "work.status", "work.run"),
        *("findings.analysis", "claims.ledger", "publish"),
    ],
)
def test_modules_load_without_torch(module):
    assert modules_after(f"import mrirecon.ablation.{module}") == "LOADED []"


@pytest.mark.parametrize("command", ["status", "report", "run"])
def test_commands_on_a_finished_study_load_no_torch(command, undisturbed):
    code = f"import sys\nfrom mrirecon.cli import main\nassert main(['ablate', '{command}', sys.argv[1]]) == 0"
    assert modules_after(code, str(undisturbed.folder.path)) == "LOADED []"


@pytest.mark.parametrize("command", ["run", "status", "report", "worker"])
def test_help_loads_no_torch(command):
    code = f"from mrirecon.cli import main\nassert main(['ablate', '{command}', '--help']) == 0"
    assert modules_after(code) == "LOADED []"
