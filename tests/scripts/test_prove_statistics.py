"""The part of scripts/prove_statistics.py that fits into the tests: fewer settings and families, the same limits."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove_statistics.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prove_statistics", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


def test_what_reports_say_of_simulated_studies_is_true(script, capsys):  # 15 s: CI has to see it
    assert script.main(["--quick"]) == 0, capsys.readouterr().out


def test_a_verdict_that_errs_is_noticed(script, monkeypatch, capsys):
    """The proof can fail: with a half width a quarter too small equal methods are called different."""
    from mrirecon.evaluation.stats import verdict

    whole = verdict.half_width
    monkeypatch.setattr(verdict, "half_width", lambda parts, alpha: 0.75 * whole(parts, alpha))
    settings = [s for s in script.studies.settings(["normal"]) if (s.n_seeds, s.n_patients) == (10, 50)]
    assert not script.shown("equal methods", script.equal(settings, 400, 0))
    assert "MISSED" in capsys.readouterr().out
