"""Checkpoints that are no checkpoints of a training are told before anything is done with them."""

import io
import struct
import zipfile

import pytest
import torch

from mrirecon.training.checkpoints.read import require_archive, require_sound

SOUND = {"state_dict": {"a": torch.ones(3), "n": torch.tensor(3)}, "loops": [{"b": (1, torch.zeros(2))}]}


def test_a_sound_one():
    require_sound(SOUND)
    require_sound({"state_dict": {"a": torch.ones(4)[::2]}})


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"state_dict": {"a": torch.tensor([1.0, float("nan")])}}, "state_dict has NaN or infinity"),
        ({"training_weights": {"a": torch.tensor(float("inf"))}}, "training_weights has NaN or infinity"),
        ({"state_dict": {"a": torch.ones(3, dtype=torch.complex64)}}, "complex numbers"),
        ({"state_dict": {"a": torch.zeros(1).expand(2**40)}}, "claims more than it holds"),
        ({"optimizer_states": [{"state": {0: torch.zeros(1).expand(2**40)}}]}, "claims more than it holds"),
        ({"state_dict": {"a": torch.eye(3).to_sparse()}}, "a tensor of another kind"),
    ],
)
def test_unsound_tensors(state, says):
    with pytest.raises(ValueError, match=says):
        require_sound(state)


@pytest.mark.parametrize("state", [None, [], torch.ones(3), "text"])
def test_no_dictionary(state):
    with pytest.raises(TypeError, match=f"it holds a {type(state).__name__}"):
        require_sound(state)


def saved(state=SOUND):
    stream = io.BytesIO()
    torch.save(state, stream)
    return bytearray(stream.getvalue())


def test_a_changed_byte_that_torch_does_not_see():
    data = saved()
    require_archive(io.BytesIO(data), has_hash=False)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
    position = data.find(torch.ones(3).numpy().tobytes())
    data[position] ^= 1
    assert not torch.equal(torch.load(io.BytesIO(data), weights_only=True)["state_dict"]["a"], torch.ones(3))
    with pytest.raises(ValueError, match=f"{name} in it was changed"):
        require_archive(io.BytesIO(data), has_hash=False)
    require_archive(io.BytesIO(data), has_hash=True)  # which has told already


def compressed():
    """A bomb: torch inflates what a stranger compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert torch.load(io.BytesIO(stream.getvalue()), weights_only=True).keys() == SOUND.keys()
    return stream.getvalue()


def overlapping():
    """Many members that are the same bytes."""
    data = saved({"state_dict": {"a": torch.ones(10_000)}})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.start_dir
    directory = bytes(data[start : data.rindex(b"PK\x05\x06" if b"PK\x06\x06" not in data else b"PK\x06\x06")])
    stream = io.BytesIO()
    stream.write(data[:start] + 99 * directory)
    size, n = 99 * len(directory), 99 * len(zipfile.ZipFile(io.BytesIO(data)).infolist())
    stream.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, size, start, 0))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "says"), [(compressed(), "it is compressed"), (overlapping(), "claim more than the file holds")]
)
@pytest.mark.parametrize("has_hash", [False, True])
def test_an_archive_is_not_larger_than_its_file(data, says, has_hash):
    with pytest.raises(ValueError, match=says):
        require_archive(io.BytesIO(data), has_hash)


def test_the_stream_is_at_its_begin_again():
    handle = io.BytesIO(saved())
    require_archive(handle, has_hash=False)
    assert handle.tell() == 0
    with pytest.raises(zipfile.BadZipFile, match="not a zip file"):
        require_archive(io.BytesIO(b"no archive"), has_hash=True)
