"""Weights of other people's files: fastMRI's in every form, what is refused, and that nothing in them runs."""

import argparse
import hashlib
import os
from collections import OrderedDict

import pytest
import torch
from fastmri.models import Unet, VarNet
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file

from mrirecon.config import ModelConfig
from mrirecon.errors import InputError
from mrirecon.training.build import build_model
from mrirecon.training.checkpoints.weights_files import put_weights, read_weights, save_portable
from mrirecon.training.module import ReconModule

SMALL = ModelConfig(channels=8, pools=2)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def theirs():
    """fastMRI's network, as their published one but smaller."""
    torch.manual_seed(3)
    return Unet(1, 1, chans=8, num_pool_layers=2)


def lightning(state, **more):
    """What fastMRI's UnetModule leaves: the network below `unet.`, and buffers of a loss."""
    prefixed = OrderedDict((f"unet.{name}", value) for name, value in state.items())
    return {"state_dict": prefixed | {"loss.w": torch.ones(1, 1, 7, 7)}, "pytorch-lightning_version": "1.4.2", **more}


FORMS = {
    "plain.pt": torch.save,
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "half.pt": lambda state, path: torch.save({name: value.half() for name, value in state.items()}, path),
    "lightning.ckpt": lambda state, path: torch.save(lightning(state, hyper_parameters={"chans": 8}), path),
    # Lightning before 1.5 has the classes of its callbacks as keys
    "old.ckpt": lambda state, path: torch.save(lightning(state, callbacks={ModelCheckpoint: {"best": 1.0}}), path),
    "parallel.pt": lambda state, path: torch.save({"model": {f"module.{n}": t for n, t in state.items()}}, path),
    "plain.safetensors": save_file,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_fastmris_weights_gives_fastmris_images(theirs, tmp_path, form):
    path = tmp_path / form
    FORMS[form](dict(theirs.state_dict()), path)
    network = build_model(SMALL)
    match = put_weights(network, SMALL, read_weights(str(path)))
    image = torch.randn(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(image), theirs(image), rtol=0, atol=5e-3 if "half" in form else 1e-5)
    assert match.n == len(theirs.state_dict())
    assert match.prefix == {"lightning.ckpt": "unet.", "old.ckpt": "unet.", "parallel.pt": "module."}.get(form, "")
    assert match.n_others == ("ckpt" in form)
    assert match.facts()["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "14 entries" in str(match)


def test_our_own_checkpoints_and_exports_say_which_network_they_are(tmp_path):
    config = ModelConfig(channels=4, pools=2, norm="group", residual=True)
    network = build_model(config)
    torch.save({"state_dict": ReconModule(network).state_dict()}, tmp_path / "ours.ckpt")
    save_portable(network, config, tmp_path / "ours.safetensors")
    other = build_model(config)
    assert put_weights(other, config, read_weights(str(tmp_path / "ours.ckpt"))).prefix == "model."
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    given = read_weights(str(tmp_path / "ours.safetensors"))
    assert given.model == config
    # the entries of an instance norm are the same, the images are not
    plain = ModelConfig(channels=4, pools=2)
    with pytest.raises(InputError, match="norm group \\(not instance\\).*add --norm group --residual true"):
        put_weights(build_model(plain), plain, given)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (
            ModelConfig(channels=8, pools=2),
            ModelConfig(),
            r"is \(8, 1, 3, 3\), that of this network \(32, 1, 3, 3\). It has channels 8, pools 2, .* "
            "add --channels 8 --pools 2$",
        ),
        (ModelConfig(channels=8, pools=3), ModelConfig(channels=8, pools=2), "add --pools 3$"),
        (ModelConfig(channels=8, pools=2), ModelConfig(channels=8, pools=3), "add --pools 2$"),
        (ModelConfig(channels=8, pools=2, input="complex"), SMALL, "add --input complex$"),
        (ModelConfig(channels=8, pools=2, norm="batch"), SMALL, "no .*running_mean .*add --norm batch$"),
        (ModelConfig(channels=8, pools=2, norm="batch", affine=True), SMALL, "add --norm batch --affine true$"),
        (ModelConfig(channels=8, pools=2, affine=True), SMALL, "add --affine true$"),
        (SMALL, ModelConfig(channels=8, pools=2, affine=True), "it lacks 24 of 38 entries, .* add --affine false$"),
        (SMALL, ModelConfig(channels=8, pools=2, norm="batch"), "it is no network with BatchNorm: add --norm instance"),
    ],
)
def test_another_network_is_refused_with_the_flags_that_fit(tmp_path, theirs, ours, message):
    path = tmp_path / "w.pt"
    torch.save(build_model(theirs).state_dict(), path)
    network = build_model(ours)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=message) as caught:
        put_weights(network, ours, read_weights(str(path)))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_of_several_is_not_guessed(tmp_path, theirs):
    torch.save(VarNet(2, 2, 2, 4, 2).state_dict(), tmp_path / "varnet.pt")
    config = ModelConfig("normunet", "complex", channels=4, pools=2)
    with pytest.raises(InputError, match=r"holds 3 networks .* under 'cascades.0.model.', 'cascades.1.model.'"):
        put_weights(build_model(config), config, read_weights(str(tmp_path / "varnet.pt")))
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other.pt holds no U-Net: it lacks 14 of 14 .* its entries are fc.weight"):
        put_weights(build_model(SMALL), SMALL, read_weights(str(tmp_path / "other.pt")))


PLANTED = {
    "plain.pt": lambda state, payload, path: torch.save(state | {"x": payload}, path),
    "legacy.pt": lambda state, payload, path: torch.save(
        state | {"x": payload}, path, _use_new_zipfile_serialization=False
    ),
    "lightning.ckpt": lambda state, payload, path: torch.save(lightning(state, x=payload), path),
    "old.ckpt": lambda state, payload, path: torch.save(lightning(state, callbacks={ModelCheckpoint: payload}), path),
}


@pytest.mark.parametrize("form", PLANTED)
def test_a_planted_payload_is_refused_and_does_not_run(theirs, tmp_path, form):
    PLANTED[form](dict(theirs.state_dict()), Payload(tmp_path / "ran"), tmp_path / form)
    with pytest.raises(InputError, match=r"holds \w+\.mkdir, .* it may run code and was not loaded; save its weights"):
        read_weights(str(tmp_path / form))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / form, weights_only=False)  # it would have run
    assert (tmp_path / "ran").exists()


def test_the_class_of_a_callback_is_a_name_and_makes_nothing(theirs, tmp_path):
    class Made:
        def __reduce__(self):
            return ModelCheckpoint, ()

    torch.save(lightning(dict(theirs.state_dict()), callbacks={"a": Made()}), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="a.ckpt is damaged or no file of weights"):
        read_weights(str(tmp_path / "a.ckpt"))


def bad(tmp_path, state, name):
    path = tmp_path / name
    torch.save(state, tmp_path / "whole.pt")
    save_file(state, tmp_path / "whole.safetensors")
    content = {
        "empty.pt": b"",
        "text.pt": b"hello",
        "cut.pt": (tmp_path / "whole.pt").read_bytes()[:4000],
        "cut.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:4000],
    }
    if name in content:
        path.write_bytes(content[name])
    first = next(iter(state))
    saved = {
        "list.pt": [1, 2],
        "numbers.pt": {"a": 1},
        "nan.pt": state | {first: state[first] * float("nan")},
        "complex.pt": state | {first: state[first] + 0j},
        "namespace.ckpt": lightning(state, hyper_parameters=argparse.Namespace(chans=8)),
        "network.pt": Unet(1, 1, chans=8, num_pool_layers=2),
    }
    if name in saved:
        torch.save(saved[name], path)
    if name == "nan.safetensors":
        save_file(state | {first: state[first] * float("nan")}, path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.pt", r"is empty \(0 bytes\); copy it again"),
        ("text.pt", "is damaged or no file of weights"),
        ("cut.pt", "is damaged or no file of weights"),
        ("cut.safetensors", "is damaged or no file of weights"),
        ("list.pt", "it holds a list"),
        ("numbers.pt", "no tensors by name"),
        ("nan.pt", "NaN or infinity"),
        ("nan.safetensors", "NaN or infinity"),
        ("complex.pt", "complex numbers"),
        ("namespace.ckpt", r"holds argparse.Namespace, .* torch.save\(model.state_dict\(\), FILE\)"),
        ("network.pt", r"holds fastmri.models.unet.Unet, .* torch.save\(model.state_dict\(\), FILE\)"),
        ("absent.pt", "no weights at .*absent.pt; give a run folder or a file"),
    ],
)
def test_what_holds_no_weights_is_refused_in_one_line(theirs, tmp_path, name, message):
    with pytest.raises(InputError, match=message) as caught:
        read_weights(str(bad(tmp_path, dict(theirs.state_dict()), name)))
    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    assert "weights_only" not in said
