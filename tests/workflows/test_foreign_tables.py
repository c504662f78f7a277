"""`compare` on tables of anybody: what they need, bad rows, methods and seeds in columns, what spreadsheets write."""

import csv
import json

import numpy as np
import pytest
from finished_runs import make_run, of, run, scored, write_table
from result_rows import changed_row, row

from mrirecon.cli import main
from mrirecon.errors import InputError

VOLUMES = [f"v{i}.h5" for i in range(8)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Tables are called by short names."""
    monkeypatch.chdir(tmp_path)


def scores_of(seed, n=8):
    return (0.8 + 0.02 * np.random.default_rng(seed).standard_normal(n)).tolist()


def write(path, *columns, delimiter=",", **more):
    """A table of the given columns, (name, values), all of one length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = dict(columns) | more
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


def test_volumes_and_scores_are_enough_and_what_is_not_known_is_said(tmp_path, capsys):
    a, b = scores_of(1), scores_of(2)
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=a)
    write(tmp_path / "b.csv", volume=VOLUMES[::-1], ssim=b[::-1])
    result = run(["a.csv", "b.csv"])
    (c,) = result["comparisons"]["ssim"]
    assert c["effect"] == pytest.approx(np.mean(b) - np.mean(a), rel=1e-12)
    assert [item["name"] for item in result["items"]] == ["a", "b"]
    assert (result["n_patients"], result["origin"], result["protocol"]) == (8, "unknown origin", "unknown")
    (note,) = result["warnings"]
    assert note == "no table has the patient of 8 volumes (v0.h5, ...): each volume counts as one of its own"
    assert "Masks or accelerations of a, b are undeclared" in result["paragraph"]
    assert "note: no table has the patient" in capsys.readouterr().out


def test_what_one_table_knows_counts_for_the_others(tmp_path):
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=scores_of(1))
    write(tmp_path / "b.csv", volume=VOLUMES, ssim=scores_of(2), patient=[f"p{i // 2}" for i in range(8)])
    result = run(["a.csv", "b.csv"])
    assert (result["n_volumes"], result["n_patients"], result["warnings"]) == (8, 4, [])


def test_a_table_that_says_less_is_not_taken_for_one_of_the_same_masks(tmp_path):
    make_run(tmp_path, "ours", scored(1), of("adam"))
    write(tmp_path / "theirs.csv", volume=VOLUMES, ssim=scores_of(2))
    with pytest.raises(InputError, match="theirs.csv declares no mask or acceleration; .*columns mask and"):
        run(["ours", "theirs.csv"])
    result = run(["ours", "theirs.csv"], allow_undeclared=True)
    assert (result["mask"], result["origin"], result["n_patients"]) == ("random", "measured", 8)


BAD = {
    "nan": ("nan", "ssim is NaN"),
    "empty": ("", "it has no ssim"),
    "text": ("good", "ssim is 'good', which is no number"),
    "above 1": ("1.2", "ssim is 1.2, and no SSIM is above 1; divide by 100?"),
    "below -1": ("-3", "ssim is -3, and none is worse than -1"),
    "infinite": ("-inf", "ssim is -inf"),
    "nmse below 0": ("0.8", "nmse is -0.1, and none is better than 0"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_row_costs_its_volume_in_all_methods_and_is_named(tmp_path, fault):
    tables = {name: scores_of(seed) for seed, name in enumerate("abc")}
    cell, why = BAD[fault]
    for name, scores in tables.items():
        values, nmse = [repr(s) for s in scores], ["0.1"] * 8
        if name == "b":
            values[3], nmse[3] = cell, "-0.1" if "nmse" in fault else "0.1"
        write(tmp_path / f"{name}.csv", volume=VOLUMES, ssim=values, nmse=nmse, patient=VOLUMES)
    result = run(["a.csv", "b.csv", "c.csv"], output="out")
    assert (result["n_volumes"], len(result["comparisons"]["ssim"])) == (7, 2)
    kept = [i for i in range(8) if i != 3]
    for c, name in zip(result["comparisons"]["ssim"], "bc", strict=True):
        wanted = np.mean([tables[name][i] - tables["a"][i] for i in kept])
        assert c["effect"] == pytest.approx(wanted, rel=1e-9)
    assert result["excluded"] == [{"volume": "v3.h5", "table": "b.csv", "row": 5, "why": why}]
    (note,) = result["warnings"]
    assert note == f"v3.h5 is left out of all that are compared: row 5 of b.csv cannot be used ({why})"
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["excluded"] == result["excluded"]


def test_one_bad_seed_of_many_costs_one_volume(tmp_path):
    for seed in range(6):
        for name in ("adam", "sgd"):
            rows = scored(seed + 10 * (name == "sgd"))
            if (name, seed) == ("sgd", 4):
                rows[2] = changed_row(rows[2], ssim=float("nan"))
            make_run(tmp_path, f"{name}-s{seed}", rows, of(name, seed))
    result = run([f"{name}-s{seed}" for name in ("adam", "sgd") for seed in range(6)])
    assert (result["n_volumes"], result["items"][1]["seeds"]) == (7, list(range(6)))
    assert result["comparisons"]["ssim"][0]["effect"] is not None
    assert result["excluded"][0]["table"].startswith("sgd-s4/evaluation/")


def test_bad_rows_do_not_hide_other_volumes(tmp_path):
    """A volume that a table has no row of at all is refused as ever, and one that has a bad row is not missing."""
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=scores_of(1))
    write(tmp_path / "b.csv", volume=VOLUMES, ssim=["nan", *scores_of(2)[1:]])
    write(tmp_path / "short.csv", volume=VOLUMES[:7], ssim=scores_of(2)[:7])
    write(tmp_path / "nothing.csv", volume=VOLUMES, ssim=["nan"] * 8)
    assert run(["a.csv", "b.csv"])["n_volumes"] == 7
    with pytest.raises(InputError, match=r"different volumes: short\.csv has no v7\.h5"):
        run(["a.csv", "short.csv"])
    with pytest.raises(InputError, match=r"nothing\.csv: no row can be used; v0\.h5 \(row 2\): ssim is NaN"):
        run(["a.csv", "nothing.csv"])
    half = [*["nan"] * 4, *scores_of(3)[4:]]
    write(tmp_path / "first.csv", volume=VOLUMES, ssim=half)
    write(tmp_path / "second.csv", volume=VOLUMES, ssim=half[::-1])
    with pytest.raises(InputError, match=r"no volume is left: .*first\.csv, v0\.h5, row 2: ssim is NaN"):
        run(["first.csv", "second.csv"])


def test_a_score_in_percent_is_asked_about_in_one_line(tmp_path, capsys):
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=scores_of(1))
    write(tmp_path / "percent.csv", volume=VOLUMES, ssim=[100 * s for s in scores_of(2)])
    assert main(["compare", "a.csv", "percent.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "percent.csv: v0.h5 (row 2): ssim is " in line
    assert line.endswith("and no SSIM is above 1; divide by 100?")


def test_columns_of_methods_and_seeds_split_a_table(tmp_path):
    scores = {
        (method, seed): scores_of(10 * seed + (method == "sgd")) for method in ("adam", "sgd") for seed in range(6)
    }
    cells = [(m, s, v, x) for (m, s), values in scores.items() for v, x in zip(VOLUMES, values, strict=True)]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(cells))
    columns = list(zip(*cells, strict=True))
    names = ("method", "seed", "volume", "ssim")
    write(tmp_path / "all.csv", *((name, [c[i] for i in order]) for name, c in zip(names, columns, strict=True)))
    found = run(["all.csv"])
    first = "sgd" if cells[order[0]][0] == "sgd" else "adam"
    assert found["reference"] == first
    assert sorted(item["name"] for item in found["items"]) == ["adam", "sgd"]
    assert all(item["seeds"] == list(range(6)) for item in found["items"])
    table = {m: np.array([scores[m, s] for s in range(6)]) for m in ("adam", "sgd")}
    sign = 1 if first == "adam" else -1
    assert found["comparisons"]["ssim"][0]["effect"] == pytest.approx(sign * (table["sgd"] - table["adam"]).mean())
    assert found["comparisons"]["ssim"][0]["n_seeds"] == 6


def test_seeds_alone_and_methods_alone_split_a_table_too(tmp_path):
    for name, shift in (("adam", 0), ("sgd", 50)):
        values = [s for seed in range(6) for s in scores_of(seed + shift)]
        write(tmp_path / f"{name}.csv", volume=VOLUMES * 6, ssim=values, seed=[s for s in range(6) for _ in VOLUMES])
    result = run(["adam.csv", "sgd.csv"])
    assert [(item["name"], item["seeds"]) for item in result["items"]] == [
        ("adam", list(range(6))),
        ("sgd", list(range(6))),
    ]
    write(tmp_path / "two.csv", volume=VOLUMES * 2, ssim=scores_of(1) + scores_of(2), method=["x"] * 8 + ["y"] * 8)
    assert [(item["name"], item["seeds"]) for item in run(["two.csv"])["items"]] == [("x", []), ("y", [])]
    write(tmp_path / "again.csv", volume=VOLUMES, ssim=scores_of(3), method=["x"] * 8)
    with pytest.raises(
        InputError, match=r"both of the method x, and nothing says of which seeds; add a column seed, or"
    ):
        run(["two.csv", "again.csv"])


@pytest.mark.parametrize("pattern", ["{}-s*.csv", "t/{}-s*/volumes.csv", "t/{}-s*", "{here}/t/{}-s*"])
def test_a_group_says_which_tables_are_seeds_of_one_method(tmp_path, capsys, pattern):
    for name, shift in (("adam", 0), ("sgd", 50)):
        for seed in (2, 10):
            where = tmp_path / ("t/{}-s{}/volumes.csv" if "t/" in pattern else "{}-s{}.csv").format(name, seed)
            write(where, volume=VOLUMES, ssim=scores_of(seed + shift), patient=VOLUMES)
    adam, sgd = (pattern.format(name, here=tmp_path) for name in ("adam", "sgd"))
    assert main(["compare", "--group", f"adam={adam}", "--group", f"sgd={sgd}", "-o", "out"]) == 0
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [(item["name"], item["seeds"]) for item in result["items"]] == [("adam", [2, 10]), ("sgd", [2, 10])]
    wanted = np.mean([np.subtract(scores_of(seed + 50), scores_of(seed)) for seed in (2, 10)])
    assert result["comparisons"]["ssim"][0]["effect"] == pytest.approx(wanted)
    assert result["warnings"] == []


def test_tables_without_numbers_are_numbered_and_that_is_said(tmp_path):
    for name in ("adam-x", "adam-y", "sgd-x", "sgd-y"):
        write(tmp_path / f"{name}.csv", volume=VOLUMES, ssim=scores_of(len(name) + ord(name[-1])), patient=VOLUMES)
    result = run([], group=["adam=adam-*", "sgd=sgd-*"])
    assert [item["seeds"] for item in result["items"]] == [[0, 1], [0, 1]]
    assert (
        "the tables of adam name no seeds: they are numbered 0 to 1 in the order of their names" in result["warnings"]
    )


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    a, b = scores_of(1), scores_of(2)
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=a)
    plain = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + plain)
    comma = [str(s).replace(".", ",") for s in a]
    write(tmp_path / "semicolon.csv", ("Volume", VOLUMES), ("SSIM ", comma), delimiter=";")
    write(tmp_path / "tab.csv", volume=VOLUMES, ssim=comma, delimiter="\t")
    write(tmp_path / "b.csv", volume=VOLUMES, ssim=b)
    effects = [
        run([f"{name}.csv", "b.csv"])["comparisons"]["ssim"][0]["effect"] for name in ("a", "bom", "semicolon", "tab")
    ]
    assert len(set(effects)) == 1


def test_volumes_of_equal_zero_filled_scores_are_named_as_possible_copies(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        rows = scored(seed)
        rows[5] = changed_row(rows[5], zf_nmse=rows[2].zf_nmse)
        write_table(tmp_path / name, [changed_row(r, reconstructor=name) for r in rows])
    (note,) = run(["a", "b"])["warnings"]
    assert note.startswith("v2.h5 and v5.h5 have equal zero-filled scores: possibly one scan under several names")
    assert f"note: {note}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["a.csv"], "compare takes two or more runs or tables, got 1"),
        ([], "compare takes two or more runs or tables, got 0"),
        (["a.csv", "--group", "b"], "--group b; give the name of a method and where its seeds are: adam=runs/adam-s*"),
        (["a.csv", "--group", "b=nowhere*"], "--group b=nowhere*: nothing has such a name"),
        (["--group", "b=a.csv", "--group", "b=b.csv"], "--group b is given twice"),
        (["a.csv", "--group", "b=a.csv"], "a.csv is given twice"),
        (
            ["a.csv", "no_volume.csv"],
            "no_volume.csv is not a table of .* it has no column 'volume', but 'file', 'ssim'",
        ),
        (["a.csv", "no_score.csv"], "no_score.csv is not a table of .* it has no column a score (ssim, "),
        (["a.csv", "no_name.csv"], "no_name.csv: row 3 names no volume"),
        (["a.csv", "bad_seed.csv"], "bad_seed.csv: row 3 has the seed 'x'; give a whole number"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, capsys, call, says):
    write(tmp_path / "a.csv", volume=VOLUMES, ssim=scores_of(1))
    write(tmp_path / "b.csv", volume=VOLUMES, ssim=scores_of(2))
    write(tmp_path / "no_volume.csv", file=VOLUMES, ssim=scores_of(1))
    write(tmp_path / "no_score.csv", volume=VOLUMES, colour=scores_of(1))
    write(tmp_path / "no_name.csv", volume=["v0.h5", "", "v2.h5"], ssim=[0.1, 0.2, 0.3])
    write(tmp_path / "bad_seed.csv", volume=VOLUMES[:2], ssim=[0.1, 0.2], seed=[0, "x"])
    assert main(["compare", *call]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in says.split(" .* "):
        assert part in line


def test_tables_of_evaluate_are_read_as_ever(tmp_path):
    """A full table says all, and nothing is filled in."""
    for name, seed in (("a", 1), ("b", 2)):
        write_table(tmp_path / name, [changed_row(r, reconstructor=name) for r in scored(seed)])
    result = run(["a", "b"])
    assert (result["warnings"], result["excluded"]) == ([], [])
    assert (result["mask"], result["protocol"], result["origin"]) == ("random", "fastmri-v1", "measured")
    perfect = [row(v, psnr=float("inf"), ssim=1.0, nmse=0.0, zf_nmse=i / 1e6) for i, v in enumerate(VOLUMES)]
    write_table(
        tmp_path / "perfect", [changed_row(r, reconstructor="p", mask_id=f"id{i}") for i, r in enumerate(perfect)]
    )
    with pytest.raises(InputError, match="different samples"):  # and no row is a fault
        run(["a", "perfect"])
