"""`mrirecon reconstruct` on the command line."""

import subprocess
import sys

import h5py
import pytest

from mrirecon.cli import main


@pytest.fixture
def files(tmp_path, monkeypatch, volume_writer):
    """Two small files in the current folder."""
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        volume_writer(tmp_path / f"v{i}.h5", n_slices=2, matrix=(16, 16), seed=i)
    return ["v0.h5", "v1.h5"]


@pytest.mark.parametrize("flag", ["-o", "--output"])
def test_any_number_of_files(files, flag, capsys):
    assert main(["reconstruct", "zero-filled", *files, flag, "out put", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("reconstructed: 2 volumes, 4 slices, ")
    assert "slices/s" in out
    assert out.endswith("folder:        out put\nnext:          mrirecon score 'out put' TARGETS\n")
    for name in files:
        with h5py.File(f"out put/{name}") as file:
            assert file["reconstruction"].shape == (2, 16, 16)


def test_again(files, capsys):
    words = ["reconstruct", "zero-filled", *files, "-o=out", "--format", "h5", "png"]
    assert main(words) == main(words) == 0
    out, err = capsys.readouterr()
    assert "zero-filled: 4 slices in " in err
    assert "left:          2 volumes, there already" in out


def test_pictures_alone_are_nothing_to_score(files, capsys, tmp_path):
    assert main(["reconstruct", "zero-filled", "v0.h5", "--format", "png", "--output", "out"]) == 0
    assert "next:" not in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["v0.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "reconstruct needs RUN|METHOD"),
        (["zero-filled"], "reconstruct needs FILES..."),
        (["zero-filled", "-o", "out"], "reconstruct needs FILES..."),
        (["zero-filled", "v0.h5"], "no output folder given; name one that gets the reconstructions (-o OUT)"),
        (["zero-filled", "v0.h5", "-o"], "-o needs a value"),
        (["zero-filled", "v0.h5", "-x", "out"], "'-x' is not expected here"),
        (["zero-filled", "v0.h5", "v2.h5", "-o", "out"], "there is no file or folder v2.h5"),
        (["zero-filled", "v0.h5", "v0.h5", "-o", "out"], "both called v0.h5"),
        (["zero-filed", "v0.h5", "-o", "out"], "did you mean 'zero-filled'"),
        (["zero-filled", "v0.h5", "-o", "out", "--format", "jpg"], "unknown format 'jpg'"),
        (["zero-filled", "v0.h5", "-o", "v1.h5"], "v1.h5 is not a folder"),
        (["zero-filled", "v0.h5", "-o", ".", "--overwrite"], "v0.h5 holds k-space"),
    ],
)
def test_wrong_calls_exit_2_with_one_line_and_write_nothing(files, tmp_path, words, message, capsys):
    assert main(["reconstruct", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_o_is_output_of_every_command(tmp_path, capsys):
    for command in (["train"], ["evaluate", "RUN"], ["score"], ["demo"], ["data", "simulate"], ["reconstruct"]):
        assert main([*command, "-o", "somewhere", "--print-config"]) == 0
        assert "output: somewhere\n" in capsys.readouterr().out
        main([*command, "--help"])
        assert "  -o, --output " in capsys.readouterr().out


def test_help_needs_no_torch():
    code = (
        "import sys; from mrirecon.cli import main; main(['reconstruct', '--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
