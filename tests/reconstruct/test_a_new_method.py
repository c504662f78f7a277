"""One file and one entry of METHODS: `evaluate`, `reconstruct` and `compare` know the method and its options."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from toy_method import LANDWEBER

from mrirecon.cli import main
from mrirecon.config import EvaluateConfig
from mrirecon.data import SliceDataset
from mrirecon.errors import InputError
from mrirecon.physics import low_resolution_smaps
from mrirecon.reconstruct import find_reconstructor
from mrirecon.tables.methods import METHODS, Method

COLUMNS = np.zeros(40, np.uint8)
COLUMNS[::3] = COLUMNS[16:24] = 1
KNOWN = ", ".join([*METHODS, "landweber"])


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "landweber", LANDWEBER)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    """Volumes of other coils and other sizes."""
    root = tmp_path_factory.mktemp("data")
    for i, (n_coils, matrix) in enumerate([(4, (48, 40)), (2, (48, 40)), (3, (32, 36)), (1, (32, 36))]):
        volume_writer(root / f"v{i}.h5", n_coils=n_coils, matrix=matrix, seed=i)
    return root


def call(*words):
    return main([*map(str, words), "--quiet"])


def of_all(data):
    return ["--data", data, "--coils", "both", "--split", "all"]


def evaluated(data, name, *words):
    assert call("evaluate", "landweber", *of_all(data), "--output", name, *words) == 0
    with Path(name, "volumes.csv").open() as handle:
        return list(csv.DictReader(handle))


def images(path):
    with h5py.File(path) as file:
        return file["reconstruction"][()], dict(file.attrs)


def test_it_is_evaluated_with_its_options_and_compared_with_itself(data, tmp_path, capsys):
    plain = evaluated(data, "plain")
    more = evaluated(data, "more", "--method.iterations", "12", "--batch-size", "2")
    assert {row["reconstructor"] for row in plain} == {"landweber"}
    assert len(plain) == len(more) == 4
    for before, after in zip(plain, more, strict=True):
        assert before["mask_id"] == after["mask_id"]
        assert before["zf_ssim"] == after["zf_ssim"]  # of one zero-filled image
        assert float(before["nmse"]) != float(after["nmse"])
    stored = [json.loads((tmp_path / name / "summary.json").read_text())["options"] for name in ("plain", "more")]
    assert stored == [{"iterations": 2}, {"iterations": 12}]
    capsys.readouterr()
    assert call("compare", "plain", "more", "--output", "compared") == 0
    assert [item["name"] for item in json.loads((tmp_path / "compared" / "comparison.json").read_text())["items"]] == [
        "plain",
        "more",
    ]


def test_tables_of_other_options_stand_in_folders_of_their_own(data, tmp_path):
    for words in ([], ["--method.iterations=2"], ["--method.iterations", "3"]):
        assert call("evaluate", "landweber", *of_all(data), "--overwrite", *words) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["landweber", "landweber-iterations-3"]


def test_it_reconstructs_what_numpy_makes_of_the_same_kspace(data, tmp_path, volume_writer):
    """One step from zero is the adjoint: coils combined with their maps."""
    volume_writer(tmp_path / "own.h5", n_coils=3, mask=COLUMNS, attrs={"acceleration": 3})
    assert call("reconstruct", "landweber", "own.h5", "-o", "out", "--method.iterations", "1") == 0
    got, attrs = images(tmp_path / "out" / "own.h5")
    assert json.loads(attrs["options"]) == {"iterations": 1}
    for image, kept in zip(got, SliceDataset(tmp_path, mask=None), strict=True):
        shifted = np.fft.ifftshift(kept.masked_kspace.numpy(), axes=(-2, -1))
        coils = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))
        smaps = low_resolution_smaps(kept.masked_kspace, min(kept.n_center, 32)).numpy()
        whole = np.abs((coils * smaps.conj()).sum(0))
        height, width = image.shape
        top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
        expected = whole[top : top + height, left : left + width]
        np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_images_of_other_options_are_not_taken_for_finished_ones(data, tmp_path, capsys):
    words = ["reconstruct", "landweber", data, "-o", "out"]
    assert call(*words) == 0
    (tmp_path / "options.yaml").write_text("method: {iterations: 3}\n")
    capsys.readouterr()
    assert call(*words, "-c", "options.yaml") == 2
    assert 'made with options none, now {"iterations": 3}' in capsys.readouterr().err
    assert call(*words, "-c", "options.yaml", "--method.iterations", "2") == 0  # flags win: nothing to do
    assert "left:          4 volumes" in capsys.readouterr().out
    assert call(*words, "-c", "options.yaml", "--overwrite") == 0
    assert json.loads(images(tmp_path / "out" / "v0.h5")[1]["options"]) == {"iterations": 3}


@pytest.mark.parametrize("command", ["evaluate", "reconstruct"])
@pytest.mark.parametrize(
    ("reconstructor", "options", "says"),
    [
        (
            "landweber",
            ["--method.iteration", "3"],
            "no option 'iteration'; did you mean 'iterations'? its",
        ),
        ("landweber", ["--method.lambda", "3"], "landweber has no option 'lambda'; its options are iterations"),
        ("landweber", ["--method.iterations", "many"], "landweber: iterations: Expected an int"),
        ("landweger", ["--method.iterations", "3"], "unknown method 'landweger'; did you mean 'landweber'?"),
        ("landweber", ["--method.iterations"], "--method.iterations needs a value"),
        ("landweber", ["-c", "options.yaml"], "landweber has no option 'lambda'; its options are iterations"),
        (
            "zero-filled",
            ["--method.iterations", "3"],
            "zero-filled has no option 'iterations'; it has none: ",
        ),
        (
            "weights.pt",
            ["--method.iterations", "3"],
            f".iterations is for methods ({KNOWN}); weights.pt",
        ),
        (
            "weights.pt",
            ["-c", "options.yaml"],
            f"--method.lambda is for methods ({KNOWN}); weights",
        ),
    ],
)
def test_options_that_are_none_are_refused_in_one_line(data, tmp_path, capsys, command, reconstructor, options, says):
    (tmp_path / "options.yaml").write_text("method:\n  lambda: 3\n")
    torch.save({}, tmp_path / "weights.pt")
    place = [*of_all(data), "--output", "out"] if command == "evaluate" else [data, "--output", "out"]
    assert call(command, reconstructor, *place, *options) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_images_that_are_too_small_for_it_are_refused(tmp_path, volume_writer, capsys):
    volume_writer(tmp_path / "small.h5", matrix=(16, 7))
    assert call("reconstruct", "landweber", "small.h5", "-o", "out") == 2
    assert "small.h5: images of 16 x 7 pixels are too small: landweber needs 8 x 8" in capsys.readouterr().err


def test_the_help_shows_it_and_its_options(capsys):
    for command in ("evaluate", "reconstruct"):
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"a method ({KNOWN})" in text
        assert "landweber                gradient steps for SENSE" in text
        assert "--method.iterations      Gradient steps from an image of zeros. [2]" in text
    assert main(["evaluate", "landweber", "--method.iterations", "7", "--print-config"]) == 0
    assert "method:\n  iterations: 7\n" in capsys.readouterr().out


@dataclass(frozen=True)
class RegularisedOptions:
    lambda_: float = 0.01
    """Weight of the penalty."""
    levels: list[int] = field(default_factory=lambda: [1, 2])
    """Of the wavelets."""
    positive: bool = False
    """Whether it is."""


def test_options_of_every_kind_and_one_that_is_a_word_of_python(monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "regularised", Method("", dict, RegularisedOptions))
    words = ["--method.lambda", "1e-3", "--method.levels", "3", "4", "--method.positive", "--split", "val"]
    assert main(["evaluate", "regularised", *words, "--print-config"]) == 0
    assert "method:\n  lambda: 0.001\n  levels: [3, 4]\n  positive: true\nsplit: val" in capsys.readouterr().out
    found = find_reconstructor("regularised", EvaluateConfig(method={"lambda": 0.5}), torch.device("cpu"))
    assert found.reconstruct == {
        "lambda_": 0.5,
        "levels": [1, 2],
        "positive": False,
    }  # the builder
    assert found.options == {"lambda": 0.5}
    assert found.method_options == {"lambda": 0.5, "levels": [1, 2], "positive": False}
    for wrong in ({"lambda": "much"}, {"lambda": None}, {"levels": 3}):
        with pytest.raises(InputError, match="^regularised: .*"):
            find_reconstructor("regularised", EvaluateConfig(method=wrong), torch.device("cpu"))
