"""`mrirecon export` on the command line."""

import pytest

from mrirecon.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("export")
    for split in ("train", "val"):
        (root / "data" / split).mkdir(parents=True)
        volume_writer(root / "data" / split / f"{split}.h5", matrix=(32, 32), n_slices=3)
    words = ["train", "--data", str(root / "data"), "--channels", "4", "--pools", "2", "--max-steps", "1"]
    assert main([*words, "--device", "cpu", "--output", str(root / "run"), "--quiet"]) == 0
    return root


def test_files_go_into_the_run_folder_and_a_new_training_may_replace_them(trained, capfd):
    """The exporting libraries' own words do not reach the terminal."""
    run = trained / "run"
    assert main(["export", str(run), "--format", "safetensors", "onnx", "torch-export", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["safetensors", "onnx", "torch-export", "model"]
    assert err == ""
    files = {path.name for path in (run / "export").iterdir()}
    assert files == {"README.md", "model.onnx", "model.pt2", "model.safetensors"}
    assert main(["train", "-c", str(run / "config.yaml"), "--output", str(run), "--overwrite", "--quiet"]) == 0
    assert not (run / "export").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "export needs RUN"),
        (["nowhere"], "no run folder at nowhere"),
        (["RUN", "--format", "onix"], "unknown format 'onix'; did you mean 'onnx'"),
        (["RUN", "--format", "[]"], "--format is empty"),
        (["RUN", "--checkpoint", "first"], "unknown checkpoint 'first'"),
        (["RUN", "--data", "nowhere"], "nowhere"),
        (["RUN", "--split", "val"], "unknown option '--split'"),
    ],
)
def test_wrong_calls_exit_2_with_one_line_and_write_nothing(trained, tmp_path, words, message, capsys):
    words = [str(trained / "run") if word == "RUN" else word for word in words]
    assert main(["export", *words, "--output", str(tmp_path / "out"), "--quiet"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
