"""Checkpoints that are no checkpoints of a training are told before anything is done with them."""

import io
import zipfile

import pytest
import torch

from mrirecon.training.checkpoint_content import require_archive, require_sound

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


def saved():
    stream = io.BytesIO()
    torch.save(SOUND, stream)
    return bytearray(stream.getvalue())


def test_a_changed_byte_that_torch_does_not_see():
    data = saved()
    require_archive(io.BytesIO(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
    position = data.find(torch.ones(3).numpy().tobytes())
    data[position] ^= 1
    assert not torch.equal(torch.load(io.BytesIO(data), weights_only=True)["state_dict"]["a"], torch.ones(3))
    with pytest.raises(ValueError, match=f"{name} in it was changed"):
        require_archive(io.BytesIO(data))


def test_the_stream_is_at_its_begin_again():
    handle = io.BytesIO(saved())
    require_archive(handle)
    assert handle.tell() == 0
    handle = io.BytesIO(b"no archive")
    require_archive(handle)
    assert handle.tell() == 0
