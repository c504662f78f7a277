"""`evaluate --regions`: scores inside boxes equal scikit-image's of the images that it writes."""

import csv
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from mrirecon.cli import main
from mrirecon.config import DataConfig, EvaluateConfig
from mrirecon.errors import InputError
from mrirecon.workflows.evaluate import evaluate

HEIGHTS = (48, 44)  # of even and odd files
COLUMNS = "file,slice,study_level,x,y,width,height,label"
LABELS = ("Tear", "Edema")


def boxes_of(i):
    """Boxes of file i in the array as stored: slice, x, y, width, height, label."""
    return [(1, 10 + i, 5, 9, 12, LABELS[0]), (0, 20, 15 + i, 7, 8, LABELS[i % 2])]


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    """Six patients, two sizes; each file says where its boxes are, but for the last one."""
    root = tmp_path_factory.mktemp("data")
    for i in range(6):
        keys = ("slice", "x", "y", "width", "height", "label")
        objects = [dict(zip(keys, box, strict=True)) for box in boxes_of(i)]
        volume_writer(
            root / "val" / f"file{i}.h5",
            n_slices=2,
            matrix=(HEIGHTS[i % 2], 40),
            seed=i,
            attrs={"annotations": json.dumps(objects)} if i < 5 else {},
        )
    return root


@pytest.fixture
def annotated(tmp_path):
    """The same boxes as fastMRI+ writes them, with y from the bottom, and rows of other files and of whole studies."""
    lines = [COLUMNS, "file1000001,3,No,1,1,5,5,Tear", "file0,0,Yes,,,,,Normal"]
    for i in range(5):
        for index, x, y, width, height, label in boxes_of(i):
            lines.append(f"file{i},{index},No,{x},{HEIGHTS[i % 2] - y - height},{width},{height},{label}")
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "boxes.csv"


def config(data, output, **changes):
    settings = {"data": DataConfig(path=str(data), mask="random"), "output": str(output), "threads": 1}
    return EvaluateConfig(**settings | changes)


def rows_of(folder):
    with (folder / "regions.csv").open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("source", ["table", "attribute"])
def test_regions_are_scored_where_they_are(data, annotated, tmp_path, source, capsys):
    regions = "attribute" if source == "attribute" else str(annotated)
    (folder,) = evaluate(config(data, tmp_path / "out", regions=regions, save=True, mask_draws=2), "zero-filled")
    rows = rows_of(folder)
    assert len(rows) == 2 * 2 * 5
    expected = [(d, f"val/file{i}.h5", *box) for d in range(2) for i in range(5) for box in boxes_of(i)]
    for row, (draw, file, index, x, y, width, height, label) in zip(rows, expected, strict=True):
        assert (row["file"], int(row["slice"]), row["label"], int(row["mask_draw"])) == (file, index, label, draw)
        assert [int(row[key]) for key in ("x", "y", "width", "height")] == [x, y, width, height]
        with h5py.File(folder / "reconstructions" / f"draw-{draw}" / file) as made, h5py.File(data / file) as stored:
            image, volume = made["reconstruction"][index].astype(float), stored["reconstruction_rss"][()].astype(float)
        target, top = volume[index], volume.max()
        _, full = structural_similarity(target, image, data_range=top, full=True)
        full[:3] = full[-3:] = full[:, :3] = full[:, -3:] = np.nan
        where = np.s_[y : y + height, x : x + width]
        assert float(row["ssim"]) == pytest.approx(np.nanmean(full[where]), rel=1e-6)
        assert float(row["psnr"]) == pytest.approx(
            peak_signal_noise_ratio(target[where], image[where], data_range=top), rel=1e-6
        )
        assert float(row["nmse"]) == pytest.approx(normalized_root_mse(target[where], image[where]) ** 2, rel=1e-6)
        assert int(row["n_windows"]) == np.isfinite(full[where]).sum()
        assert [row[f"zf_{name}"] for name in ("ssim", "psnr", "nmse")] == [row[n] for n in ("ssim", "psnr", "nmse")]
    out, err = capsys.readouterr()
    assert "Tear: 8 boxes, 5 patients" in out
    assert "Edema: 2 boxes, 2 patients" in out
    assert out.count("boxes, ") == 2
    if source == "table":
        assert (
            "note: regions: 10 boxes in 5 files; left out: 1 about a whole study, without a box, 1 of files that "
            "are not scored (1 file: file1000001)\n" in err
        )
    else:
        assert "note: regions: 10 boxes in 5 files; 1 of 6 files have no such attribute\n" in err
    described = json.loads((folder / "summary.json").read_text())["regions"]
    tears = [float(row["ssim"]) for row in rows if row["label"] == "Tear"]
    assert described["Tear"]["ssim"]["mean"] == pytest.approx(np.mean(tears))
    assert described["Tear"]["ssim"]["low"] < np.mean(tears) < described["Tear"]["ssim"]["high"]
    assert described["Edema"]["ssim"]["low"] is None


def test_nothing_else_changes(data, annotated, tmp_path, capsys):
    (plain,) = evaluate(config(data, tmp_path / "plain"), "zero-filled")
    said = capsys.readouterr().out
    (regions,) = evaluate(config(data, tmp_path / "regions", regions=str(annotated)), "zero-filled")
    told = capsys.readouterr().out
    without, with_them = (json.loads((folder / "summary.json").read_text()) for folder in (plain, regions))
    assert set(with_them) - set(without) == {"regions"}
    assert with_them["overall"] == without["overall"]
    assert not (plain / "regions.csv").exists()
    head, told = ([line for line in text.split("\n") if "seconds" not in line] for text in (said, told))
    head = head[: next(i for i, line in enumerate(head) if line.startswith("tables:"))]
    assert told[: len(head)] == head
    assert told[len(head)] == "inside the regions"


def test_slices_that_are_not_scored_have_no_regions(data, annotated, tmp_path, capsys):
    only = config(data, tmp_path / "out", regions=str(annotated))
    (folder,) = evaluate(replace(only, data=replace(only.data, slices=[1, 1])), "zero-filled")
    assert {row["slice"] for row in rows_of(folder)} == {"1"}
    assert "5 of slices that are not scored" in capsys.readouterr().err


def test_annotations_of_other_files_alone_are_said_and_whole_images_scored(data, tmp_path, capsys):
    (tmp_path / "boxes.csv").write_text(f"{COLUMNS}\nfile1000001,3,No,1,1,5,5,Tear\n")
    (folder,) = evaluate(config(data, tmp_path / "out", regions=str(tmp_path / "boxes.csv")), "zero-filled")
    assert rows_of(folder) == []
    out, err = capsys.readouterr()
    assert "regions: 0 boxes in 0 files; left out: 1 of files that are not scored (1 file: file1000001)" in err
    assert "regions: no box lies in a scored slice" in out
    assert (folder / "volumes.csv").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{COLUMNS}\nfile0,0,No,1,2,x,4,Tear\n", "line 2: width is 'x', not a whole number"),
        ("file,slice\nfile0,0\n", "no column study_level"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_broken_annotations_are_refused_before_any_work(data, tmp_path, text, message, capsys, monkeypatch):
    monkeypatch.setattr(
        "mrirecon.workflows.setup.evaluations.open_split", lambda *_a, **_k: pytest.fail("work has begun")
    )
    if text:
        (tmp_path / "boxes.csv").write_text(text)
    words = ["--data", str(data), "--output", str(tmp_path / "out"), "--regions", str(tmp_path / "boxes.csv")]
    assert main(["evaluate", "zero-filled", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_attributes_that_no_file_has_are_refused(tmp_path, volume_writer):
    volume_writer(tmp_path / "data" / "val" / "a.h5")
    with pytest.raises(InputError, match=r"none of the 1 files has an attribute 'annotations'; write it"):
        evaluate(config(tmp_path / "data", tmp_path / "out", regions="attribute"), "zero-filled")
    assert not (tmp_path / "out").exists()


def add_masks(path, n_slices, shape, labels=None, values=(1, 7)):
    """A disc and a ring in the first slice, the ring again in the last."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = np.hypot(y - 22, x - 20)
    masks = np.zeros((n_slices, *shape), np.uint8)
    masks[0][away < 6], masks[0][np.abs(away - 11) < 3], masks[-1][np.abs(away - 11) < 3] = (
        values[0],
        values[1],
        values[1],
    )
    with h5py.File(path, "a") as file:
        file["regions"] = masks
        if labels:
            file.attrs["region_labels"] = labels
    return masks


def test_masks_are_scored_by_their_pixels(tmp_path, volume_writer, capsys):
    path = tmp_path / "data" / "val" / "a.h5"
    volume_writer(path, n_slices=2, matrix=(44, 40))
    volume_writer(tmp_path / "data" / "val" / "b.h5", n_slices=2, matrix=(44, 40), seed=1)
    masks = add_masks(path, 2, (44, 40), '{"1": "lesion"}')
    (folder,) = evaluate(config(tmp_path / "data", tmp_path / "out", regions="masks", save=True), "zero-filled")
    rows = rows_of(folder)
    assert [(row["slice"], row["label"], row["annotation"]) for row in rows] == [
        ("0", "lesion", "1"),
        ("0", "region 7", "7"),
        ("1", "region 7", "7"),
    ]
    with h5py.File(folder / "reconstructions" / "val" / "a.h5") as made, h5py.File(path) as stored:
        images, targets = made["reconstruction"][()].astype(float), stored["reconstruction_rss"][()].astype(float)
    for row in rows:
        index, inside = int(row["slice"]), masks[int(row["slice"])] == int(row["annotation"])
        image, target = images[index], targets[index]
        _, full = structural_similarity(target, image, data_range=targets.max(), full=True)
        assert float(row["ssim"]) == pytest.approx(full[inside].mean(), rel=1e-6)
        assert float(row["nmse"]) == pytest.approx(normalized_root_mse(target[inside], image[inside]) ** 2, rel=1e-6)
        assert int(row["n_windows"]) == inside.sum()
    assert "3 regions of slices in 1 file; 1 of 2 files have no data set 'regions'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: None, "none of the 1 files has a data set 'regions'"),
        (lambda file: file.create_dataset("regions", data=np.zeros((1, 32, 32), int)), "has a data set 'regions' with"),
        (lambda file: file.create_dataset("regions", data=np.ones((1, 4, 4), int)), "must be of shape (1, 32, 32)"),
        (lambda file: file.create_dataset("regions", data=np.full((1, 32, 32), -2)), "'regions' hold -2"),
        (lambda file: file.create_dataset("regions", data=np.ones((1, 32, 32))), "'regions' is float64"),
        (
            lambda file: [
                file.create_dataset("regions", data=np.ones((1, 32, 32), int)),
                file.attrs.update(region_labels="["),
            ],
            "'region_labels' is no JSON object of texts",
        ),
    ],
)
def test_masks_that_cannot_be_used_are_refused(tmp_path, volume_writer, change, words, capsys):
    path = tmp_path / "data" / "val" / "a.h5"
    volume_writer(path, n_slices=1, matrix=(32, 32))
    with h5py.File(path, "a") as file:
        change(file)
    arguments = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--regions", "masks"]
    assert main(["evaluate", "zero-filled", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
