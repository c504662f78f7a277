"""curves.csv survives stops: rows of steps that will be done again go, a row cut short goes."""

import csv

from mrirecon.training.loop.curves import Journal, columns


def filled(path):
    journal = Journal(path)
    journal.begin(0)
    for step in (10, 20, 30):
        journal.add(step=step, train_loss=1 / step, seconds=float(step))
        journal.add(step=step, val_ssim=0.5, seconds=float(step))
    return journal


def steps(journal):
    return [int(row["step"]) for row in journal.rows()]


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    journal = filled(tmp_path / "curves.csv")
    journal.begin(20)
    assert steps(journal) == [10, 10, 20, 20]
    journal.begin(0)
    assert steps(journal) == []


def test_a_row_cut_short_by_a_crash_is_left_out(tmp_path):
    journal = filled(tmp_path / "curves.csv")
    with journal.path.open("a") as handle:
        handle.write("40,0.1")
    assert steps(journal) == [10, 10, 20, 20, 30, 30]
    journal.begin(40)
    with journal.path.open(newline="") as handle:
        assert next(iter(csv.reader(handle))) == list(columns())


def test_numbers_keep_nine_digits(tmp_path):
    journal = Journal(tmp_path / "curves.csv")
    journal.begin(0)
    journal.add(step=1, train_loss=0.123456789012, seconds=1.0)
    assert float(journal.rows()[0]["train_loss"]) == 0.123456789
