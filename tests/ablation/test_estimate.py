"""What a grid can find, as said before it runs."""

import pytest

from mrirecon.ablation.study.grid_file import make_grid
from mrirecon.ablation.work.estimate import describe, pilot_lines
from mrirecon.evaluation.stats import Variances, detectable_difference

GRID = {
    "name": "tiny",
    "factors": {"optimizer": ["momentum", "adam"]},
    "base": {"max_steps": 4},
    "reference": {"optimizer": "adam"},
}
TABLE = {"sd": {"method x seed": 0.01, "method x patient": 0.02, "rest": 0.01}, "n_patients": 8, "at": ""}


def grid(seeds, repeats=1):
    return make_grid({**GRID, "seeds": seeds, "tuning": {"trials": 4, "repeats": repeats}})


def test_a_design_says_what_it_finds():
    told = describe(grid(6), 1)
    assert f"a difference of {detectable_difference(Variances(1, 0, 0), 6, 50, 1):.2g} SD between seeds" in told
    assert "6 seeds x 8 patients find" in pilot_lines(grid(6), {"variances": [TABLE]})[0]


@pytest.mark.parametrize(
    ("seeds", "repeats", "units"), [(4, 1, "4 paired seeds"), (1, 1, "1 paired seed of"), (10, 2, "2 tuning draws")]
)
def test_a_design_that_can_have_no_verdict_promises_none(seeds, repeats, units):
    # ten seeds of two draws: it said what would be found in 80 % of studies
    told = describe(grid(seeds, repeats), 1)
    assert units in told
    assert "no verdict, which takes 5 of them or more" in told
    assert "80 %" not in told
    assert pilot_lines(grid(seeds, repeats), {"variances": [TABLE]}) == []


def test_one_patient_is_no_pilot():
    assert pilot_lines(grid(6), {"variances": [{**TABLE, "n_patients": 1}]}) == []
