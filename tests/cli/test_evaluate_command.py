"""`mrirecon evaluate` on the command line: what it takes from the run, what it refuses."""

import csv
import json
import subprocess
import sys

import pytest

from mrirecon.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory, volume_writer):
    """A run trained at 8x with random masks on a flat folder, split by seed 3."""
    root = tmp_path_factory.mktemp("cli")
    (root / "data").mkdir()
    for i in range(6):
        volume_writer(root / "data" / f"v{i}.h5", matrix=(32, 32), n_slices=2, seed=i)
    words = ["train", "--data", str(root / "data"), "--acceleration", "8", "--mask", "random", "--seed", "3"]
    words += ["--channels", "4", "--pools", "2", "--max-steps", "2", "--output", str(root / "run"), "--quiet"]
    assert main(words) == 0
    return root


def volumes(folder):
    with (folder / "volumes.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_a_run_is_evaluated_as_it_was_trained(trained, capsys):
    """Data, masks and split come from the run; its validation volumes are none of its training volumes."""
    assert main(["evaluate", str(trained / "run"), "--split", "val", "--quiet"]) == 0
    assert "true R" in capsys.readouterr().out
    rows = volumes(trained / "run" / "evaluation" / "data-val-random-8x")
    split = json.loads((trained / "run" / "split.json").read_text())
    assert {row["volume"] for row in rows} == set(split["val"])
    assert {float(row["acceleration"]) for row in rows} == {8.0}


def test_a_checkpoint_of_a_run_is_that_run_with_that_checkpoint(trained, tmp_path):
    run = trained / "run"
    words = {"named": [str(run), "--checkpoint", "last"], "given": [str(run / "checkpoints" / "last.ckpt")]}
    for name, word in words.items():
        assert main(["evaluate", *word, "--output", str(tmp_path / name), "--quiet"]) == 0
        assert (
            main(
                [
                    "reconstruct",
                    *word[:1],
                    str(trained / "data" / "v0.h5"),
                    *word[1:],
                    "-o",
                    str(tmp_path / "im"),
                    "--quiet",
                ]
            )
            == 0
        )
    named, given = ([{k: v for k, v in row.items() if k != "seconds"} for row in volumes(tmp_path / n)] for n in words)
    assert named == given
    assert {row["checkpoint"] for row in given} == {"last"}


def test_flags_win_over_the_run(trained):
    words = ["evaluate", str(trained / "run"), "--acceleration", "4", "--mask", "equispaced", "--quiet"]
    assert main(words) == 0
    assert volumes(trained / "run" / "evaluation" / "data-val-equispaced-4x")


def test_results_are_not_replaced_unless_asked(trained, capsys):
    words = ["evaluate", "zero-filled", "--data", str(trained / "data"), "--split", "all", "--quiet"]
    words += ["--output", str(trained / "zf")]
    assert main(words) == 0
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_one_process_needs_no_trainer(trained, tmp_path):
    """What these modules take to import is more than a small evaluation takes."""
    run, data = str(trained / "run"), str(trained / "data")
    calls = [
        ["evaluate", "zero-filled", "--data", data, "--output", str(tmp_path / "zero-filled")],
        ["evaluate", run, "--output", str(tmp_path / "run"), "--save"],
        ["reconstruct", run, data, "--output", str(tmp_path / "images")],
        ["score", str(tmp_path / "images"), data, "--output", str(tmp_path / "scores")],
    ]
    heavy = {"pytorch_lightning", "lightning_fabric", "torchmetrics", "torchvision", "pandas", "matplotlib.figure"}
    code = (
        "import sys; from mrirecon.cli import main\n"
        f"for words in {calls!r}:\n"
        "    assert main([*words, '--quiet']) == 0, words\n"
        f"    heavy = {heavy!r} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zero-fild"], "did you mean 'zero-filled'"),
        (["zero-filled", "--split", "vall"], "did you mean 'val'"),
        (["zero-filled", "--acceleration", "0"], "acceleration"),
        (["zero-filled", "--center-fraction", "0.5"], "center fraction 0.5"),
        (["zero-filled", "--mask", "radial"], "unknown mask 'radial'"),
        (["zero-filled", "--mask-draws", "0"], "mask_draws is 0; it must be at least 1"),
        (["zero-filled", "--threads", "-1"], "threads is -1; it must be at least 0"),
        (["zero-filled", "--workers", "-1"], "data.workers is -1; it must be at least 0"),
        (["zero-filled", "--seed", "-1"], "seed is -1; it must be at least 0"),
        (["zero-filled", "--figures", "99"], "99"),
        (["zero-filled", "--acquisition", "AXT9"], "AXT9"),
        (["zero-filled", "--device", "tpu"], "unknown device"),
    ],
)
def test_wrong_calls_exit_2_with_one_line_and_write_nothing(trained, tmp_path, words, message, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", *words, "--data", str(trained / "data"), "--quiet", "--output", str(out)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not out.exists()
