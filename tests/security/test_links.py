"""What a file points to is never opened: the other end is a pipe without a writer, so whoever opens it hangs."""

import faulthandler
import os

import h5py
import numpy as np
import pytest
from strangers import ELSEWHERE, LINKS, STORAGE, WAYS, rebuilt, user_block

from mrirecon.cli import main
from mrirecon.data.folders.check import check_layout, check_volumes
from mrirecon.data.hdf5.opening import close
from mrirecon.data.images import list_references, open_reconstructions
from mrirecon.data.volume import Volume
from mrirecon.errors import DataChangedError, InputError


@pytest.fixture(autouse=True)
def _no_waiting():
    """A pipe that is opened after all ends the tests: HDF5 lets no signal handler of Python in."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def path(volume_writer, tmp_path):
    (tmp_path / "data").mkdir()
    return volume_writer(tmp_path / "data" / "v.h5", n_slices=2, n_coils=2, matrix=(24, 20), mask=np.ones(20, bool))


def refused(call, says, start="v.h5: "):
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert text.startswith(start)
    assert says in text
    assert "; " in text
    assert "\n" not in text


@pytest.mark.parametrize("key", ["kspace", "reconstruction_rss", "mask"])
@pytest.mark.parametrize("way", WAYS)
def test_samples_elsewhere_are_refused_here_and_in_quarantine(path, key, way):
    put, says = WAYS[way]
    rebuilt(path, key, put)
    refused(lambda: Volume(path).facts, f"'{key}' {says}")
    refused(lambda: check_layout([Volume(path)]), f"'{key}' {says}")


@pytest.mark.parametrize("way", LINKS)
def test_a_header_elsewhere_is_refused(path, way):
    put, says = LINKS[way]
    rebuilt(path, "ismrmrd_header", put)
    refused(lambda: Volume(path).facts, f"'ismrmrd_header' {says}")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_scored_may_not_be_elsewhere(path, way):
    put, says = WAYS[way]
    rebuilt(path, "reconstruction_rss", put)
    refused(lambda: list_references(path.parent), says, "target v.h5: ")
    prediction = path.with_name("p.h5")
    with h5py.File(prediction, "w") as file:
        file["reconstruction"] = np.ones((2, 24, 20), "f4")
    rebuilt(prediction, "reconstruction", put)
    refused(lambda: open_reconstructions([(prediction, "v.h5")]), says, "prediction v.h5: ")


@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_reads_may_point_anywhere(path, way):
    put, _ = WAYS[way]
    with h5py.File(path, "r+") as file:
        file["unused"] = np.ones((2, 3), "f4")
    rebuilt(path, "unused", put)
    check_volumes([Volume(path)])


def test_a_link_that_comes_while_the_file_is_in_use(path):
    volume = Volume(path)
    check_volumes([volume])
    close(path)
    rebuilt(path, "kspace", LINKS["external link"][0])
    with pytest.raises(DataChangedError, match="changed after it was checked") as caught:
        volume.kspace(0)
    assert "is a link to another file" in str(caught.value.__context__)  # and was not followed


def test_an_inner_hard_link_and_references_are_harmless(path):
    with h5py.File(path, "r+") as file:
        file["again"] = file["kspace"]
        file["kind"] = file["kspace"].dtype  # a committed type
        file.attrs["object"] = file["kspace"].ref
        file.attrs["region"] = file["kspace"].regionref[0]
    volume = Volume(path)
    check_volumes([volume])
    assert np.isfinite(volume.kspace(0)).all()
    assert isinstance(volume.attrs["object"], str)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\necho hello\n", b"<script>alert(1)</script>"])
def test_a_user_block_is_refused(path, content):
    user_block(path, content)
    with h5py.File(path) as file:
        assert file.userblock_size == 512
    refused(lambda: Volume(path).facts, "user block")
    refused(lambda: list_references(path.parent), "user block", "target v.h5: ")


def test_a_pipe_in_the_data_folder_is_refused(path):
    os.mkfifo(path.with_name("w.h5"))
    refused(lambda: check_layout([Volume(path.with_name("w.h5"))]), "is a pipe or a device", "w.h5: ")


@pytest.mark.parametrize("way", [*LINKS, *STORAGE])
def test_the_commands_refuse_it_in_one_line(path, way, capsys):
    rebuilt(path, "kspace", WAYS[way][0])
    for words in (
        ["reconstruct", "zero-filled", str(path), "-o", str(path.parent / "out")],
        ["evaluate", "zero-filled", "--data", str(path.parent), "--split", "all", "-o", str(path.parent / "out")],
    ):
        assert main([*words, "--quiet"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"'kspace' {WAYS[way][1]}" in line
    assert not (path.parent / "out").exists()


def test_output_that_is_there_is_looked_at_without_following_links(path, capsys):
    """A stranger's file where a reconstruction shall go: its k-space is noticed, but not opened."""
    out = path.parent.parent / "out"
    out.mkdir()
    with h5py.File(out / "v.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink(str(path.parent / ELSEWHERE), "kspace")
    os.mkfifo(path.parent / ELSEWHERE)
    assert main(["reconstruct", "zero-filled", str(path), "-o", str(out), "--overwrite", "--quiet"]) == 2
    assert "holds k-space, which is never replaced" in capsys.readouterr().err
