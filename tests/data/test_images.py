"""References are found, read as stored and refused in one line where they are no references."""

import math

import h5py
import numpy as np
import pytest

from mrirecon.data.images import list_references, open_reconstructions
from mrirecon.errors import InputError


def write(path, attrs=None, **datasets):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in datasets.items():
            file[key] = values
        file.attrs.update(attrs or {})
    return path


def open_reconstruction(path, name):
    (found,) = open_reconstructions([(path, name)])
    return found


def images(seed=0, shape=(2, 9, 8), dtype="f4"):
    return np.random.default_rng(seed).random(shape).astype(dtype)


RSS, ESC = images(1), images(2)
MULTI, SINGLE = np.zeros((2, 3, 9, 8), "c8"), np.zeros((2, 9, 8), "c8")


@pytest.mark.parametrize(
    ("datasets", "expected", "was_chosen"),
    [
        ({"kspace": MULTI, "reconstruction_rss": RSS}, RSS, False),
        ({"kspace": MULTI, "reconstruction_rss": RSS, "reconstruction_esc": ESC}, RSS, False),
        ({"kspace": SINGLE, "reconstruction_rss": RSS, "reconstruction_esc": ESC}, ESC, False),
        ({"kspace": SINGLE, "reconstruction_rss": RSS}, RSS, False),
        ({"reconstruction_rss": RSS}, RSS, False),
        ({"reconstruction_esc": ESC}, ESC, False),
        ({"reconstruction_rss": RSS, "reconstruction_esc": ESC}, RSS, True),
    ],
    ids=["multi", "multi with esc", "single", "single without esc", "rss alone", "esc alone", "both alone"],
)
def test_which_reference(tmp_path, datasets, expected, was_chosen):
    write(tmp_path / "v.h5", **datasets)
    (reference,) = list_references(tmp_path)
    assert reference.shape == (2, 9, 8)
    assert reference.was_chosen is was_chosen
    for i in range(2):
        np.testing.assert_array_equal(reference.image(i), expected[i])


def test_the_reference_is_that_of_the_volume(tmp_path, volume_writer):
    """The same images as the reader of whole volumes gives."""
    from mrirecon.data import Volume

    for n_coils in (1, 3):
        (tmp_path / str(n_coils)).mkdir()
        path = volume_writer(tmp_path / str(n_coils) / "v.h5", n_coils=n_coils, patient_id="p7", acquisition="AXT1")
        (reference,), volume = list_references(path.parent), Volume(path)
        assert reference.key == volume.facts.target_key
        assert (reference.patient, reference.acquisition) == ("p7", "AXT1")
        assert reference.origin == volume.origin == "simulated-from-phantom"
        np.testing.assert_array_equal(reference.image(1), volume.target(1))


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">u2", "i4"])
def test_a_reconstruction_of_any_real_type_is_read_as_stored(tmp_path, dtype):
    values = (images() * 1000).astype(dtype)
    stored = open_reconstruction(write(tmp_path / "v.h5", reconstruction=values), "v.h5")
    assert stored.image(1).dtype == np.float64
    np.testing.assert_array_equal(stored.image(1), values[1].astype(float))


def test_what_attributes_say_and_what_stands_in_for_them(tmp_path):
    about = {"acquisition": "AXT2", "patient_id": "abc", "origin": "simulated-from-phantom", "acceleration": 8}
    write(tmp_path / "a.h5", about, reconstruction_rss=RSS)
    write(tmp_path / "b.h5", reconstruction_rss=RSS)
    write(tmp_path / "c.h5", {"acceleration": "four"}, reconstruction_rss=RSS)
    a, b, c = list_references(tmp_path)
    assert (a.acquisition, a.patient, a.origin, a.acceleration) == ("AXT2", "abc", "simulated-from-phantom", 8)
    assert (b.acquisition, b.patient, b.origin) == ("unknown", "b.h5", "measured")
    assert math.isnan(b.acceleration)
    assert math.isnan(c.acceleration)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["b.h5", "a.h5", ".hidden.h5", "notes.txt", "other/c.h5"], ["a.h5", "b.h5"]),
        (["val/a.h5", "test/a.h5", "other/c.h5"], ["test/a.h5", "val/a.h5"]),
        (["multicoil_val/a.h5", "multicoil_test_v2/b.h5"], ["multicoil_test_v2/b.h5", "multicoil_val/a.h5"]),
    ],
)
def test_where_references_are_looked_for(tmp_path, names, found):
    for name in names:
        write(tmp_path / name, reconstruction_rss=RSS)
    assert sorted(reference.name for reference in list_references(tmp_path)) == found


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        ({"kspace": MULTI}, "has no reconstruction_rss, a reference image (there: kspace)"),
        ({"kspace": MULTI, "reconstruction_esc": ESC}, "has no reconstruction_rss"),
        ({"labels": RSS}, "has no reconstruction_rss or reconstruction_esc"),
        ({"reconstruction_rss": RSS[0]}, "has shape (9, 8)"),
        ({"reconstruction_rss": RSS[:0]}, "has shape (0, 9, 8)"),
        ({"reconstruction_rss": RSS.astype("c8")}, "has dtype complex64"),
        ({"reconstruction_rss/group": RSS}, "is a group"),
    ],
)
def test_files_without_a_sound_reference(tmp_path, datasets, says):
    write(tmp_path / "v.h5", **datasets)
    require_one_line(lambda: list_references(tmp_path), "target v.h5: ", says)


@pytest.mark.parametrize(
    ("datasets", "says"),
    [
        ({"reconstruction_rss": RSS}, "has no reconstruction, "),
        ({"reconstruction": RSS.astype("c8")}, "give the magnitude"),
        ({"reconstruction": RSS > 0.5}, "has dtype bool"),
        ({"reconstruction": RSS[0]}, "has shape (9, 8)"),
        ({"reconstruction": RSS[None]}, "has shape (1, 2, 9, 8)"),
    ],
)
def test_files_without_a_sound_reconstruction(tmp_path, datasets, says):
    path = write(tmp_path / "v.h5", **datasets)
    require_one_line(lambda: open_reconstruction(path, "v.h5"), "prediction v.h5: ", says)


def _cut(path):
    path.write_bytes(path.read_bytes()[:3000])


def _directory(path):
    path.unlink()
    path.mkdir()


def _link(path):
    path.unlink()
    path.symlink_to("nowhere.h5")


DAMAGE = {
    "cut": (_cut, "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("no images"), "is not an HDF5 file"),
    "directory": (_directory, "is a directory"),
    "broken link": (_link, "does not exist"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_get_one_line(tmp_path, damage):
    spoil, says = DAMAGE[damage]
    path = write(tmp_path / "v.h5", reconstruction_rss=images(shape=(2, 40, 40)))
    spoil(path)
    require_one_line(lambda: list_references(tmp_path), "target v.h5: ", says)
    require_one_line(lambda: open_reconstruction(path, "v.h5"), "prediction v.h5: ", says)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_name_file_and_slice(tmp_path, value):
    bad = RSS.copy()
    bad[1, 2, 3] = value
    write(tmp_path / "v.h5", reconstruction_rss=bad)
    (reference,) = list_references(tmp_path)
    np.testing.assert_array_equal(reference.image(0), RSS[0])
    require_one_line(lambda: reference.image(1), "target v.h5: ", "reconstruction_rss holds NaN or infinity in slice 1")


def test_folders_that_hold_no_references(tmp_path):
    require_one_line(lambda: list_references(tmp_path / "no"), "no folder ", "TARGETS")
    require_one_line(lambda: list_references(tmp_path), "no .h5 file in ", "TARGETS")
    write(tmp_path / "a.h5", reconstruction_rss=RSS)
    write(tmp_path / "val" / "b.h5", reconstruction_rss=RSS)
    require_one_line(lambda: list_references(tmp_path), "", "both .h5 files and split folders (val/)")


def test_references_of_two_kinds_are_not_one_table(tmp_path):
    write(tmp_path / "a.h5", reconstruction_rss=RSS)
    write(tmp_path / "b.h5", reconstruction_esc=ESC)
    require_one_line(lambda: list_references(tmp_path), "a.h5 has reconstruction_rss and b.h5 has ", "of one kind")


def require_one_line(call, start, says):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert text.startswith(start)
    assert says in text
    assert "\n" not in text
