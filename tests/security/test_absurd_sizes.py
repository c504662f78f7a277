"""What a file claims is checked before memory is taken for it; all of these files are tiny."""

import resource

import h5py
import nibabel
import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.cluster.submit import training_command, worker_command
from mrirecon.config import TrainConfig
from mrirecon.data.folders.check import check_layout, check_volumes
from mrirecon.data.hdf5 import limits
from mrirecon.data.images import list_references, open_reconstructions
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.runs import RunFolder
from mrirecon.simulate.head.nifti import load_magnitude

SMALL = {"n_slices": 2, "n_coils": 2, "matrix": (24, 20)}


@pytest.fixture(autouse=True)
def _default_limit():
    yield
    limits.limit_slices(limits.DEFAULT_SLICE_GIB)


@pytest.fixture
def path(volume_writer, tmp_path):
    return volume_writer(tmp_path / "v.h5", **SMALL)


def bomb(path, key, shape, dtype="c8", chunk=None, stored=0):
    """A data set that claims `shape` in chunks of zeros, and holds `stored` bytes that do not compress."""
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
        chunk = chunk or tuple(min(n, 64) for n in shape)
        made = file.create_dataset(key, shape, dtype, chunks=chunk, compression="gzip")
        whole = np.random.default_rng(0).standard_normal(chunk).astype(dtype)
        for i in range(-(-stored // whole.nbytes)):
            made[(slice(i * chunk[0], (i + 1) * chunk[0]), *map(slice, chunk[1:]))] = whole


def refused(call, says):
    """One line, and no memory: the peak of this process does not move by more than 64 MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        call()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


CLAIMS = {
    "wide": ((2, 2, 2**16, 2**16), "more than the limit of 8"),
    "coils": ((1, 2**11, 64, 64), "claims 2048 coils, at most 1024"),
    "slices": ((2**21, 1, 1, 1), "claims 2097152 slices, at most 1048576"),
    "overflow of 64 bits": ((2**31, 2**31, 2**31, 2**31), "bytes that the file does not hold"),
    "overflow to nothing": ((2**32, 1, 2**32, 1), "bytes that the file does not hold"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_kspace_of_an_absurd_shape(path, claim, monkeypatch):
    shape, says = CLAIMS[claim]
    bomb(path, "kspace", shape)
    if "does not hold" not in says:  # the limits must hold where a file is large enough for its claim
        monkeypatch.setattr("mrirecon.data.hdf5.soundness._LARGEST_COMPRESSION", 2**62)
    refused(lambda: Volume(path).facts, says)
    refused(lambda: check_layout([Volume(path)]), says)


def test_a_chunk_is_decompressed_whole_so_it_counts(path, monkeypatch):
    monkeypatch.setattr("mrirecon.data.hdf5.soundness._LARGEST_COMPRESSION", 2**62)
    limits.limit_slices(2**-14)  # 64 KiB; a slice has 15 KiB
    Volume(path).describe()
    bomb(path, "kspace", (32, 2, 48, 20), chunk=(32, 2, 48, 20))
    refused(Volume(path).describe, "one chunk of kspace takes")


def test_a_bomb_within_the_compression_limit_is_refused_by_the_limit(path):
    """A megabyte of it is real, so a claim of half a gigabyte passes for strong compression."""
    with h5py.File(path, "r+") as file:
        del file["ismrmrd_header"]  # it says another width
    bomb(path, "kspace", (2, 1, 2**12, 2**13), chunk=(1, 1, 256, 256), stored=2**20)
    assert path.stat().st_size < 2**21
    Volume(path).describe()
    limits.limit_slices(0.1)
    refused(Volume(path).describe, "one slice of kspace takes 0.25 GiB in memory, more than the limit of 0.1")
    refused(lambda: check_volumes([Volume(path)]), "raise --max-slice-gib")


@pytest.mark.parametrize("shape", [(2, 48, 2**31), (2, 2**40, 2**24)])
def test_references_and_predictions_of_an_absurd_shape(path, shape, monkeypatch):
    monkeypatch.setattr("mrirecon.data.hdf5.soundness._LARGEST_COMPRESSION", 2**90)
    bomb(path, "reconstruction_rss", shape, "f4")
    refused(Volume(path).describe, "more than the limit of 8" if shape[1] == 48 else "only 48")
    refused(lambda: list_references(path.parent), "one slice of reconstruction_rss takes")
    bomb(path, "reconstruction", shape, "u1")
    refused(lambda: open_reconstructions([(path, "v.h5")]), "one slice of reconstruction takes")


def test_a_mask_of_an_absurd_size(path):
    bomb(path, "mask", (2**31,), "f8")
    refused(Volume(path).describe, "'mask' claims")


def test_too_many_and_too_large_attributes(path):
    with h5py.File(path, "r+", track_order=True) as file:
        file.attrs["text"] = "x" * (limits.ATTRIBUTE_BYTES + 1)
    refused(Volume(path).describe, "attribute 'text' holds 65537 bytes, at most 65536")
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(limits.ATTRIBUTES + 1):
            file.attrs[str(i)] = i
        file["reconstruction_rss"] = np.ones((2, 24, 20), "f4")
    refused(lambda: list_references(path.parent), "has 1025 attributes, at most 1024")


def test_a_large_array_as_attribute_is_not_read(path):
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["numbers"] = np.zeros(2**20)
        file["reconstruction_rss"] = np.ones((2, 24, 20), "f4")
    refused(lambda: list_references(path.parent), "attribute 'numbers' holds 8388608 bytes")


@pytest.mark.parametrize("dtype", ["fixed", "variable"])
def test_a_long_header_is_not_parsed(path, dtype, monkeypatch):
    text = b"<ismrmrdHeader>" + b" " * limits.HEADER_BYTES
    with h5py.File(path, "r+") as file:
        del file["ismrmrd_header"]
        file.create_dataset("ismrmrd_header", data=np.bytes_(text) if dtype == "fixed" else text)
    monkeypatch.setattr("mrirecon.data.header.fromstring", None)
    refused(Volume(path).describe, "ismrmrd_header has")


def test_nifti_of_an_absurd_shape(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767, 32767, 32767))
    content = bytearray(header.binaryblock.ljust(4096, b"\0"))
    content[344:348] = b"n+1\0"
    content[108:112] = np.float32(352).tobytes()
    (tmp_path / "v.nii").write_bytes(content)
    refused(lambda: load_magnitude(str(tmp_path / "v.nii")), "GiB in memory, more than the limit of 8")


@pytest.mark.parametrize(
    "words",
    [
        ["reconstruct", "zero-filled", "{}", "-o", "{}/out"],
        ["evaluate", "zero-filled", "--data", "{}", "--split", "all", "-o", "{}/out"],
        ["score", "{}", "{}", "-o", "{}/out"],
        ["train", "--data", "{}", "-o", "{}/out"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_takes_the_limit(path, words, capsys):
    words = [word.format(path.parent) for word in words]
    assert main([*words, "--max-slice-gib", "0.000001", "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "more than the limit of 1e-06; raise --max-slice-gib" in line
    assert not (path.parent / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
def test_a_limit_that_is_none(value, capsys):
    assert main(["train", "--max-slice-gib", value, "--print-config"]) == 2
    assert f"--max-slice-gib {value}; give a number above 0" in capsys.readouterr().err


def test_what_is_started_for_this_process_gets_the_limit(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.slurm.mkdir(parents=True)
    commands = [lambda: worker_command(tmp_path), lambda: training_command(TrainConfig(), run)]
    for command in commands:
        assert not [word for word in command() if "max-slice" in word]
    limits.limit_slices("12.5")
    assert [command()[-1] for command in commands] == ["--max-slice-gib=12.5"] * 2
