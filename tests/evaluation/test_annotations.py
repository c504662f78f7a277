"""Boxes of fastMRI+ and of the attribute: where they lie in the stored array, what is left out and said, bad ones."""

import csv
import json
from dataclasses import astuple

import numpy as np
import pytest

from mrirecon.errors import InputError
from mrirecon.evaluation.regions import COLUMNS, Shape, parse_annotations, place, read_annotations

ONE = {"file": "file1", "slice": 1, "study_level": "No", "x": 5, "y": 15, "width": 4, "height": 3, "label": "Tear"}


def table(path, *rows, columns=COLUMNS):
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def shapes(*names, height=20, width=12, slices=range(3)):
    return {name: Shape(height, width, slices) for name in names}


@pytest.fixture
def slice_with_a_patch():
    """A slice `(20, 12)` as it is stored, whose rows 2 to 4, columns 5 to 8 are different numbers, the rest zeros."""
    image = np.zeros((20, 12))
    image[2:5, 5:9] = 1 + np.arange(12).reshape(3, 4)
    return image


def test_a_box_of_fastmri_plus_is_of_the_image_flipped_up_down(tmp_path, slice_with_a_patch):
    shown = slice_with_a_patch[::-1]  # what their annotators saw: `img_data[:, ::-1, :]` in their notebook
    (y, *_), (x, *_) = (sorted(set(indices.tolist())) for indices in np.nonzero(shown))
    assert (x, y) == (5, 15)
    boxes, said = place([read_annotations(table(tmp_path / "a.csv", ONE))], shapes("val/file1.h5"))
    assert astuple(boxes[0]) == ("val/file1.h5", 1, "Tear", 5, 2, 4, 3, 2, False)
    np.testing.assert_array_equal(slice_with_a_patch[boxes[0].pixels], shown[y : y + 3, x : x + 4][::-1])
    assert slice_with_a_patch[boxes[0].pixels].sum() == slice_with_a_patch.sum()
    assert said == "1 box in 1 file"


def test_a_box_of_the_attribute_is_of_the_array_as_stored(slice_with_a_patch):
    text = json.dumps([{"slice": 1, "x": 5, "y": 2, "width": 4, "height": 3, "label": "Tear"}])
    boxes, said = place([parse_annotations(text, "val/file1.h5")], shapes("val/file1.h5"))
    assert astuple(boxes[0]) == ("val/file1.h5", 1, "Tear", 5, 2, 4, 3, 1, False)
    np.testing.assert_array_equal(slice_with_a_patch[boxes[0].pixels], slice_with_a_patch[2:5, 5:9])
    assert said == "1 box in 1 file"


def test_what_is_left_out_is_counted_by_its_reason(tmp_path):
    rows = [
        ONE,
        ONE,  # twice
        ONE | {"label": "Joint Effusion "},  # theirs ends with a space
        ONE | {"slice": 3},
        ONE | {"file": "file9"},
        ONE | {"file": "file8"},
        ONE | {"study_level": "Yes", "x": "", "y": "", "width": "", "height": "", "label": "Normal"},
        ONE | {"x": 12},
        ONE | {"y": -3},
        ONE | {"width": 0},
        ONE | {"x": 10, "y": -1},  # cut: two columns, two rows
    ]
    boxes, said = place([read_annotations(table(tmp_path / "a.csv", *rows))], shapes("file1.h5"))
    assert [(b.label, b.x, b.y, b.width, b.height, b.annotation) for b in boxes] == [
        ("Tear", 5, 2, 4, 3, 2),
        ("Joint Effusion", 5, 2, 4, 3, 4),
        ("Tear", 10, 18, 2, 2, 12),
    ]
    assert said == (
        "3 boxes in 1 file, 1 of them cut at the edge of the image; left out: 1 about a whole study, without a box, "
        "2 of files that are not scored (2 files: file8, ...), 1 of slices that are not scored, 2 wholly outside of "
        "the image, 1 without area, 1 given twice"
    )


@pytest.mark.parametrize("word", ["file1", "file1.h5", "val/file1", "val/file1.h5"])
def test_a_file_is_named_with_or_without_folder_and_ending(tmp_path, word):
    annotations = read_annotations(table(tmp_path / "a.csv", ONE | {"file": word}))
    boxes, _ = place([annotations], shapes("val/file1.h5", "val/file10.h5"))
    assert [box.file for box in boxes] == ["val/file1.h5"]


def test_a_name_that_two_files_have_is_refused_but_its_path_is_not(tmp_path):
    both = shapes("val/file1.h5", "test/file1.h5")
    with pytest.raises(InputError, match=r"'file1' may be val/file1\.h5 or test/file1\.h5; write the path"):
        place([read_annotations(table(tmp_path / "a.csv", ONE))], both)
    boxes, _ = place([read_annotations(table(tmp_path / "b.csv", ONE | {"file": "test/file1"}))], both)
    assert [box.file for box in boxes] == ["test/file1.h5"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ONE | {"x": "left"}, r"a\.csv, line 3: x is 'left', not a whole number"),
        (ONE | {"y": 2.5}, r"line 3: y is '2\.5', not a whole number"),
        (ONE | {"height": "nan"}, "line 3: height is 'nan'"),
        (ONE | {"width": ""}, "line 3: width is '', not a whole number"),
        (ONE | {"width": -4}, "line 3: width is -4; it must be at least 0"),
        (ONE | {"slice": -1}, "line 3: slice is -1; it must be at least 0"),
        (ONE | {"slice": ""}, "line 3: slice is ''"),
        (ONE | {"study_level": "maybe"}, "line 3: study_level is 'maybe', not Yes or No"),
        ({**ONE, "x": "", "y": "", "width": "", "height": ""}, "line 3: x is ''"),  # but of no study
    ],
    ids=str,
)
def test_a_broken_row_is_named_by_its_line(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_annotations(table(tmp_path / "a.csv", ONE, row))


def test_a_broken_table_is_refused(tmp_path):
    columns = [name for name in COLUMNS if name != "width"]
    with pytest.raises(InputError, match=r"no column width; annotations have the columns file,slice,study_level,x,y"):
        read_annotations(table(tmp_path / "a.csv", ONE, columns=columns))
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_annotations(tmp_path / "none.csv")
    (tmp_path / "short.csv").write_text(",".join(COLUMNS) + "\nfile1,1,No,5\n")
    with pytest.raises(InputError, match="line 2 has no y"):
        read_annotations(tmp_path / "short.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="is no CSV table"):
        read_annotations(tmp_path / "image.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is no JSON"),
        (3, "is no JSON"),
        ("[" * 10**5, "is no JSON"),
        ('{"x": 1}', "is no list of objects"),
        ("[1]", "is no list of objects"),
        ('[{"slice": 0, "x": 0, "y": 0, "width": 2, "label": ""}]', "object 1 has no height"),
        ('[{"slice": 0, "x": true, "y": 0, "width": 2, "height": 2, "label": ""}]', "object 1: x is 'True'"),
        ('[{"slice": 0, "x": [1], "y": 0, "width": 2, "height": 2, "label": ""}]', r"object 1: x is '\[1\]'"),
    ],
)
def test_a_broken_attribute_is_named_by_its_file(text, message):
    with pytest.raises(InputError, match=rf"^val/a\.h5: its attribute 'annotations'.*{message}"):
        parse_annotations(text, "val/a.h5")
