"""Names in attributes never become places, and files of odd names are worked with or refused in one line."""

import csv
import json
import os

import h5py
import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.data.hdf5.description import plain_value, read_attributes
from mrirecon.data.hdf5.opening import readable
from mrirecon.data.mask_choice import MaskSpec, evaluation_mask
from mrirecon.data.volume import Volume

SMALL = {"n_slices": 2, "n_coils": 2, "matrix": (24, 20)}
CLIMBING = "../../../climbed"
KEYS = ("mask_seed_name", "patient_id", "acquisition", "origin", "name", "volume", "filename", "source")


def everything(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.fixture
def deep(tmp_path):
    """A folder with room above it, so that what climbs out of it is seen."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    return folder


def commands(data, out, file):
    return {
        "evaluate": ["evaluate", "zero-filled", "--data", data, "--split", "all", "--save", "true", "-o", out],
        "reconstruct": ["reconstruct", "zero-filled", file, "-o", out, "--format", "h5", "png"],
        "score": ["score", data, data, "-o", out, "--overwrite"],
    }


@pytest.mark.parametrize("command", ["evaluate", "reconstruct"])
@pytest.mark.parametrize("name", [CLIMBING, "/climbed", "..", "", "a\0b"])
def test_attributes_are_no_places(deep, volume_writer, command, name):
    data, out = deep / "data", deep / "out"
    data.mkdir()
    file = volume_writer(data / "v.h5", **SMALL)
    with h5py.File(file, "r+") as content:
        for key in KEYS:
            content.attrs[key] = np.bytes_(name) if "\0" in name else name
    root = deep.parents[2]
    before = everything(root)
    words = commands(str(data), str(out), str(file))[command]
    assert main([*words, "--quiet"]) == 0
    new = {path for path in everything(root) - before if not path.startswith("a/b/c/out")}
    assert not new
    assert not os.path.lexists("/climbed")
    names = {path.name for path in out.rglob("*.h5")} | {path.name for path in out.rglob("*.png")}
    assert names
    assert not [name for name in names if "climbed" in name]


NAMES = {
    "space": "a b.h5",
    "quotes": 'it\'s "so".h5',
    "script": "<script>alert(1)<script>.h5",
    "dash": "-rf.h5",
    "dashes": "--overwrite.h5",
    "dollar": "$\\frac$_{x}.h5",
    "percent": "%s%n{}{0}.h5",
    "glob": "[a]*?.h5",
    "hash": "a#b;c&d|e.h5",
    "equals": "=1+1.h5",
    "tilde": "~.h5",
    "dots": "a..h5.h5",
    "script of others": "最急降下法.h5",
    "long": "x" * 240 + ".h5",
}
REFUSED = {
    "newline": "a\nb.h5",
    "escape": "a\x1b[2Jb.h5",
    "bell": "\a.h5",
    "return": "a\rb.h5",
    "line separator": "a\u2028b.h5",
    "no text": b"a\xff\xfe.h5",
}


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory, volume_writer):
    """A folder with a file of each name, which are references and predictions at once."""
    data = tmp_path_factory.mktemp("odd") / "data"
    data.mkdir()
    for i, name in enumerate(NAMES.values()):
        path = volume_writer(data / "plain", seed=i, **SMALL).rename(data / name)
        with h5py.File(path, "r+") as file:
            file["reconstruction"] = file["reconstruction_rss"][...] * 1.1
    return data


@pytest.mark.parametrize("command", ["evaluate", "reconstruct", "score"])
def test_files_of_odd_names_work(tmp_path, oddly_named, command):
    out = tmp_path / "out"
    assert main([*commands(str(oddly_named), str(out), str(oddly_named))[command], "--quiet"]) == 0
    expected = sorted(NAMES.values())
    if command != "score":
        assert sorted(found.name for found in out.rglob("*.h5")) == expected
    if command == "reconstruct":
        assert len(list(out.glob("*.png"))) == len(expected)
        return
    with (out / "volumes.csv").open(newline="") as file:
        assert sorted(row["volume"] for row in csv.DictReader(file)) == expected


@pytest.mark.parametrize("name", ["dash", "dollar", "script of others", "long"])
def test_a_figure_of_a_file_of_an_odd_name(tmp_path, oddly_named, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAMES[name]).symlink_to(oddly_named / NAMES[name])
    out = tmp_path / "out"
    assert main([*commands(str(tmp_path / "data"), str(out), "")["evaluate"], "--quiet"]) == 0
    assert len(list(out.glob("figures/*.png"))) == 1


@pytest.mark.parametrize("command", ["evaluate", "reconstruct", "score"])
@pytest.mark.parametrize("name", REFUSED)
def test_files_whose_names_cannot_be_printed_are_refused(tmp_path, volume_writer, name, command, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    path = volume_writer(tmp_path / "plain.h5", **SMALL).rename(data / os.fsdecode(REFUSED[name]))
    file = str(data) if command == "reconstruct" else str(path)
    assert main([*commands(str(data), str(out), file)[command], "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "the file's name holds a character that cannot be printed; rename it" in line
    assert not out.exists()


@pytest.mark.parametrize("text", [b"a\x1b[2Jb\nc", b"caf\xe9", b"", b"x" * 5000], ids=lambda text: ascii(text[:9]))
def test_texts_that_could_rewrite_a_terminal_or_break_a_file(tmp_path, volume_writer, text, capsys):
    (tmp_path / "data").mkdir()
    path = volume_writer(tmp_path / "data" / "v.h5", **SMALL)
    with h5py.File(path, "r+") as file:
        for key in KEYS:
            file.attrs.create(key, text, dtype=h5py.string_dtype())
    words = ["evaluate", "zero-filled", "--data", str(path.parent), "--split", "all", "-o", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in (printed.out + printed.err).splitlines())
    with (tmp_path / "out" / "volumes.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 1
    json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))


KINDS = {
    "complex": 1 + 2j,
    "empty": h5py.Empty("f4"),
    "compound": np.zeros(2, [("a", "i4"), ("b", "f4")]),
    "long double": np.longdouble(1.5),
    "numbers": np.arange(4).reshape(2, 2),
    "bytes": np.array([b"a\x07", b"b"]),
    "truth": np.True_,
    "nan": np.nan,
    "large": np.uint64(2**63),
    "text": np.array(["a", "b"], h5py.string_dtype()),
    "void": np.void(b"\x00\x01"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_of_every_kind_are_plain(tmp_path, volume_writer, kind):
    path = volume_writer(tmp_path / "v.h5", **SMALL)
    with h5py.File(path, "r+") as file:
        file.attrs["x"] = KINDS[kind]
        found = read_attributes(file)["x"]
    again = json.loads(json.dumps(found))
    assert again == found or found != found  # NaN
    assert repr(plain_value(found)) == repr(found)
    expected = {"truth": True, "large": 2**63, "numbers": [[0, 1], [2, 3]], "long double": 1.5, "text": ["a", "b"]}
    if kind in expected:
        assert found == expected[kind]
        assert type(found) is type(expected[kind])


@pytest.mark.parametrize("kind", [*KINDS, "negative", "infinite", "zero"])
def test_a_stated_acceleration_that_is_none_is_left_out(tmp_path, volume_writer, kind):
    """The file's own mask shows it anyway."""
    mask = np.arange(20) % 4 == 0
    path = volume_writer(tmp_path / "v.h5", mask=mask, **SMALL)
    value = {**KINDS, "negative": -4.0, "infinite": np.inf, "zero": 0}[kind]
    with h5py.File(path, "r+") as file:
        file.attrs["acceleration"] = value
    found = evaluation_mask(Volume(path), MaskSpec.of("random", 4, None, own="used"))
    stated = {"long double": 1.5, "large": 2.0**63}.get(kind)
    assert found.acceleration == (found.acceleration_true if stated is None else stated)


@pytest.mark.parametrize("text", ["plain", "ä ö", "tab\t", "\x9b31m", "\ud800", "a\u2028b", "\u00a0"])
def test_readable_text_is_one_line_that_can_be_written(text):
    clean = readable(text)
    assert clean.encode("utf-8")
    assert len(clean.splitlines()) <= 1
    assert len(clean) == len(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in clean)
    assert readable(clean) == clean
