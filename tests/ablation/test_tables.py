"""The tables hold every evaluation once, with all digits, in one order."""

import csv
import json
import math
import random
from dataclasses import replace

import pytest
from synthetic import LR, make_study

from mrirecon.ablation.findings.analysis import analyse
from mrirecon.ablation.publish import write_results_csv, write_results_json, write_timing_csv
from mrirecon.ablation.study.records import Timing, read_record, write_record


@pytest.fixture(scope="module")
def study():
    return make_study(seeds=range(3), n_volumes=4, accelerations=(4.0, 8.0), diverged=[("sgd/batch", 1)], trials=4)


def read(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_one_row_for_every_evaluation_with_all_digits(tmp_path, study):
    grid, results, _ = study
    write_results_csv(tmp_path / "results.csv", grid, results)
    rows = read(tmp_path / "results.csv")
    assert len(rows) == sum(len(r.points) + len(r.scores) for r in results)
    found = {(r["run"], r["split"], r["step"], r["volume"], r["acceleration"]): r for r in rows}
    assert len(found) == len(rows)
    for run in results:
        for point in run.points:
            row = found[run.run, "val", str(point.step), "", ""]
            assert (float(row["val_loss"]), float(row["ssim"])) == (point.val_loss, point.scores["ssim"])
        for score in run.scores:
            row = found[run.run, "test", str(run.n_steps), score.volume, str(score.acceleration)]
            assert (float(row["nmse"]), float(row["zf_psnr"])) == (score.scores["nmse"], score.zero_filled["psnr"])
            assert float(row[LR]) == run.values[LR]
            assert row["factor.norm"] == run.levels["norm"]


def test_equal_studies_give_equal_bytes_whatever_the_order_and_the_machine(tmp_path, study):
    grid, results, _ = study
    elsewhere = [replace(r, timing=Timing(1.0, 2.0, 3, "other", "cuda")) for r in results]
    random.Random(0).shuffle(elsewhere)
    scrambled = [replace(r, scores=r.scores[::-1], points=r.points[::-1]) for r in elsewhere]
    write_results_csv(tmp_path / "one.csv", grid, results)
    write_results_csv(tmp_path / "two.csv", grid, scrambled)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    write_timing_csv(tmp_path / "t1.csv", results)
    write_timing_csv(tmp_path / "t2.csv", random.Random(1).sample(results, len(results)))
    assert (tmp_path / "t1.csv").read_bytes() == (tmp_path / "t2.csv").read_bytes()


def test_records_that_were_stored_and_read_give_the_same_table(tmp_path, study):
    grid, results, _ = study
    stored = []
    for i, result in enumerate(results):
        write_record(tmp_path / f"{i}.json", result)
        stored.append(read_record(tmp_path / f"{i}.json"))
    write_results_csv(tmp_path / "one.csv", grid, results)
    write_results_csv(tmp_path / "two.csv", grid, stored)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_a_run_that_diverged_before_its_first_validation_has_a_row(tmp_path, study):
    grid, results, _ = study
    early = replace(results[0], points=[], scores=[], diverged_at=7)
    write_results_csv(tmp_path / "results.csv", grid, [early])
    (row,) = read(tmp_path / "results.csv")
    assert (row["run"], row["diverged_at"], row["split"], row["ssim"]) == (early.run, "7", "", "")


def test_timing_has_one_row_per_run(tmp_path, study):
    _, results, _ = study
    unknown = replace(results[0], run="zz", timing=Timing())
    write_timing_csv(tmp_path / "timing.csv", [*results, unknown])
    rows = {row["run"]: row for row in read(tmp_path / "timing.csv")}
    assert len(rows) == len(results) + 1
    assert float(rows[results[0].run]["step_seconds"]) == results[0].timing.step_seconds
    assert rows["zz"]["seconds"] == ""


def test_results_json_is_the_study_with_null_for_what_is_not_finite(tmp_path, study):
    analysed = analyse(*study)
    write_results_json(tmp_path / "results.json", analysed | {"claims": [{"effect": math.nan, "low": -math.inf}]})
    stored = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert stored["claims"] == [{"effect": None, "low": None}]
    assert {**stored, "claims": []} == analysed
