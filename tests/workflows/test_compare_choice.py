"""`compare`: which runs are one, which tables are used, what is refused and what is warned of."""

from dataclasses import replace

import pytest
from finished_runs import NAME, make_run, of, run, scored

from mrirecon import configfile
from mrirecon.config import DataConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.files import write_json


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Runs are called by short names."""
    monkeypatch.chdir(tmp_path)


def test_what_does_not_decide_the_result_does_not_part_the_seeds(tmp_path):
    elsewhere = of("adam", 1, data=DataConfig(path="/elsewhere", workers=3), threads=2, device="cpu", logger="none")
    make_run(tmp_path, "a0", scored(1), of("adam"))
    make_run(tmp_path, "a1", scored(2), elsewhere)
    make_run(tmp_path, "b0", scored(3), of("adam", data=DataConfig(acceleration=[8])))
    result = run(["a0", "a1", "b0"])
    assert [item["seeds"] for item in result["items"]] == [[0, 1], [0]]
    assert result["items"][1]["settings"] == {"data.acceleration": [8]}


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (["adam-s0", "adam-s1"], "adam"),
        (["adam0", "adam1"], "adam"),
        (["adam-seed9", "adam-seed10"], "adam"),
        (["adam/0", "adam/1"], "adam"),
        (["first", "second"], "first"),
    ],
)
def test_the_name_of_seeds(tmp_path, folders, name):
    for seed, folder in enumerate(folders):
        make_run(tmp_path, folder, scored(seed), of("adam", seed))
    make_run(tmp_path, "other", scored(9), of("sgd"))
    assert run([*folders, "other"])["reference"] == name
    assert run([*folders, "other"], names=["x", "y"])["reference"] == "x"


def test_equal_names_give_way_to_what_was_typed(tmp_path):
    for folder, optimizer in (("x/run", "adam"), ("y/run", "sgd")):
        make_run(tmp_path, folder, scored(ord(folder[0])), of(optimizer))
    assert [item["name"] for item in run(["x/run", "y/run"])["items"]] == ["x/run", "y/run"]


def test_a_table_may_be_given_as_run_folder_evaluation_folder_or_file(tmp_path):
    make_run(tmp_path, "a", scored(1), of("adam"))
    make_run(tmp_path, "b", scored(2), of("sgd"))
    make_run(tmp_path, "b", scored(3), of("sgd"), evaluation="data-val-random-4x", split="val")
    found = [
        run(["a", word])["comparisons"]["ssim"][0]["effect"]
        for word in ("b", f"b/evaluation/{NAME}", f"b/evaluation/{NAME}/volumes.csv")
    ]
    assert len(set(found)) == 1


def test_of_several_common_evaluations_one_is_chosen(tmp_path):
    places = {"data-val-random-4x": ("val", 4), "data-test-random-8x": ("test", 8), NAME: ("test", 4)}
    for i, name in enumerate(("a", "b")):
        for place, (split, acceleration) in places.items():
            rows = [replace(r, acceleration=acceleration) for r in scored(i)]
            make_run(
                tmp_path, name, rows, of(["adam", "sgd"][i]), evaluation=place, split=split, acceleration=acceleration
            )
    with pytest.raises(InputError, match=r"several .*\(data-test-random-4x, .*-8x, data-val-.*\); choose with --eval"):
        run(["a", "b"])
    with pytest.raises(InputError, match="several .* choose"):
        run(["a", "b"], split="test")
    assert run(["a", "b"], split="val")["split"] == "val"
    assert run(["a", "b"], split="test", acceleration=8)["acceleration"] == [8]
    assert run(["a", "b"], evaluation=NAME)["split"] == "test"
    with pytest.raises(InputError, match="a has no such evaluation, but data-test-random-4x, data-test-random-8x, d"):
        run(["a", "b"], evaluation="data-test-random-5x")


def test_no_common_evaluation_lists_those_there_are(tmp_path):
    for name, split in (("a", "val"), ("a", "test"), ("b", "train"), ("b", "all")):
        make_run(tmp_path, name, scored(1), evaluation=f"d-{split}", split=split)
    with pytest.raises(InputError, match=r"\(a: d-test, d-val; b: d-all, d-train\)"):
        run(["a", "b"])


def test_differences_besides_the_methods_are_warned_of(tmp_path, capsys):
    for name, steps, sha, commit in (("a", 200, "1" * 64, "aaa"), ("b", 100, "2" * 64, "bbb")):
        facts = {"mrirecon": "0.1.0", "git": {"commit": commit, "dirty": False}, "data_manifest": {"sha256": sha}}
        make_run(
            tmp_path, name, scored(1), of({"a": "adam", "b": "sgd"}[name]),
            steps=steps, provenance=facts,
        )  # fmt: skip
    out = "\n".join(run(["a", "b"])["warnings"])
    assert "different data in the trainings (manifest): 111111111111 (a), 222222222222 (b)" in out
    assert "different code in the trainings: 0.1.0 aaa (a), 0.1.0 bbb (b)" in out
    assert "different training budgets: 200 steps x 2 slices (a), 100 steps x 2 slices (b)" in out
    assert "note: different training budgets" in capsys.readouterr().out


def test_a_budget_counts_the_slices_of_all_processes(tmp_path):
    make_run(tmp_path, "one", scored(1), of("adam", batch_size=4), steps=20)
    make_run(tmp_path, "two", scored(1), of("sgd", batch_size=2, devices=2), steps=20)
    recorded = {"batch": {"size": 1, "processes": 1, "accumulate": 3, "slices_per_step": 3}}
    make_run(tmp_path, "three", scored(1), of("momentum", batch_size=1), steps=20, provenance=recorded)
    assert not [note for note in run(["one", "two"])["warnings"] if "budgets" in note]
    (note,) = [note for note in run(["two", "three"])["warnings"] if "budgets" in note]
    assert note == "different training budgets: 20 steps x 4 slices (two), 20 steps x 3 slices (three)"


def test_runs_alike_but_for_the_method_give_no_warning(tmp_path):
    make_run(tmp_path, "a", scored(1), of("adam"))
    make_run(tmp_path, "b", scored(2), of("sgd"))
    assert run(["a", "b"])["warnings"] == []


def test_scores_that_flatter_are_warned_of(tmp_path):
    for name, optimizer in (("a", "adam"), ("b", "sgd")):
        make_run(tmp_path, name, scored(1), of(optimizer, data=DataConfig(path="data")), split="val")
    write_json(tmp_path / "b" / "split.json", {"train": ["v3.h5", "v9.h5", "v1.h5"], "val": []})
    flattered, chosen = run(["a", "b"])["warnings"]
    assert flattered == "b was trained on 2 of these volumes (v1.h5): its scores flatter it"
    assert "the checkpoint of a, b was chosen by the scores of the split val" in chosen


FAULTS = {
    "one": (["a"], {}, "two or more runs or tables, got 1"),
    "twice": (["a", "a"], {}, "a is given twice"),
    "twice in other words": (["a", f"a/evaluation/{NAME}"], {}, "a/evaluation/.* and a are one table"),
    "nowhere": (["a", "xyz"], {}, "no run folder or table at xyz; tables come from"),
    "typo": (["a", "otther"], {}, "no run folder or table at otther; did you mean 'other'"),
    "not a table": (["a", "a/config.yaml"], {}, r"config\.yaml is no volumes\.csv"),
    "not evaluated": (["a", "bare"], {}, "bare has not been evaluated; mrirecon evaluate bare --split test"),
    "empty": (["a", "empty"], {}, r"empty holds no volumes\.csv"),
    "seeds alone": (["a", "a1"], {}, "a, a1 differ in their seed alone"),
    "one seed twice": (["a", "again", "b"], {}, r"a and again are one configuration with one seed \(0\)"),
    "names": (["a", "b"], {"names": ["x"]}, "--names x; give 2 different names, for a, b in this order"),
    "equal names": (["a", "b"], {"names": ["x", "x"]}, "give 2 different names"),
    "metric": (["a", "b"], {"metric": "sssim"}, "unknown metric 'sssim'; did you mean 'ssim'"),
    "margin": (["a", "b"], {"margin": "small"}, "--margin small; give a share"),
    "margin 0": (["a", "b"], {"margin": "0%"}, "--margin 0%"),
    "margin inf": (["a", "b"], {"margin": "inf"}, "--margin inf"),
    "seed": (["a", "b"], {"seed": -1}, "seed is -1; it must be at least 0"),
    "output": (["a", "b"], {"output": "a"}, "a holds something else than results"),
    "origin": (["a", "b"], {"origin": "simulated"}, "a has no volumes of the origin 'simulated', but of measured"),
    "other volumes": (["a", "other"], {}, r"different volumes: other has no v7\.h5"),
    "damaged": (["a", "damaged"], {}, "damaged/volumes.csv is not a table of `mrirecon evaluate`"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_call_is_one_line_and_writes_nothing(tmp_path, fault, capsys):
    words, keys, says = FAULTS[fault]
    make_run(tmp_path, "a", scored(1), of("adam"))
    make_run(tmp_path, "a1", scored(2), of("adam", 1))
    make_run(tmp_path, "again", scored(1), of("adam"))
    make_run(tmp_path, "b", scored(3), of("sgd"))
    make_run(tmp_path, "other", scored(4, n=7), of("rmsprop"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    configfile.save(TrainConfig(), tmp_path / "bare" / "config.yaml")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "volumes.csv").write_text("volume,colour\nv0.h5,0.5\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=says) as caught:
        run(words, **{"output": "out", **keys})
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert sorted(tmp_path.rglob("*")) == before
