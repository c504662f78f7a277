"""Networks that see k-space: the units of the target, fastMRI's weights, and what they are refused for."""

from dataclasses import replace

import fastmri.models
import pytest
import torch
from safetensors.torch import save_file

from mrirecon.config import ModelConfig
from mrirecon.data import SliceDataset
from mrirecon.data.samples import collate
from mrirecon.errors import InputError
from mrirecon.models import VarNet
from mrirecon.physics import center_fit
from mrirecon.tables.models import MODELS
from mrirecon.training import ReconModule
from mrirecon.training.build import build_model, read_design
from mrirecon.training.checkpoints.weights_files import put_weights, read_weights
from mrirecon.training.prediction import predict_by_class
from mrirecon.training.recipe.losses import LOSSES

SMALL = {"channels": 4, "pools": 2, "cascades": 2, "sens_channels": 3, "sens_pools": 1}
KINDS = [
    ModelConfig(name, **{key: value for key, value in SMALL.items() if key in entry.keys})
    for name, entry in MODELS.items()
    if "kspace" in entry.inputs
]
IDS = [config.name for config in KINDS]


@pytest.fixture(scope="module")
def batch_of(tmp_path_factory, volume_writer):
    """Makes a batch of two slices with oversampled, padded k-space; `scale` is that of everything."""

    def make(needs, scale=1.0, n_coils=4):
        folder = tmp_path_factory.mktemp("v")
        volume_writer(folder / "v.h5", n_coils=n_coils, matrix=(40, 36), padding=(3, 2), scale=scale)
        return collate(list(SliceDataset(folder, mask="random", acceleration=3, needs=needs))[:2])

    return make


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("scale", [1e-6, 1e6, 2.0**60])
def test_any_unit_of_kspace_is_reconstructed_alike(batch_of, config, scale):
    """Measured k-space times a number gives the image times that number, whatever the network."""
    batch = batch_of(read_design(config).needs)
    fields = ("image", "mean", "std", "target", "masked_kspace")
    scaled = batch._replace(**{name: getattr(batch, name) * scale for name in fields})
    torch.manual_seed(0)
    model, predict = build_model(config).eval(), read_design(config).predict
    with torch.no_grad():
        got, want = predict(model, scaled), predict(model, batch)
    torch.testing.assert_close(got.image / scale, want.image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.normalized, want.normalized, rtol=1e-3, atol=1e-4)
    assert got.image.shape == batch.target.shape == (2, 40, 36)
    mean, std = batch.mean[:, None, None], batch.std[:, None, None]
    torch.testing.assert_close(want.normalized, (want.image - mean) / std, rtol=1e-4, atol=1e-4)


def test_the_image_is_fastmris_cut_to_the_target(batch_of):
    """With the low frequencies that the sample counts."""
    batch = batch_of(read_design(ModelConfig("varnet")).needs, scale=1e-5)
    theirs = fastmri.models.VarNet(2, 3, 1, 4, 2).eval()
    config = ModelConfig("varnet", **SMALL)
    model = build_model(config).eval()
    model.load_state_dict(theirs.state_dict())
    assert len(set(batch.n_center.tolist())) == 1
    mask = batch.mask.clone()
    mask[:, :3] = mask[:, 34:] = False  # as fastMRI's apply_mask does with its padding
    assert not torch.equal(mask, batch.mask)
    with torch.no_grad():
        image = theirs(torch.view_as_real(batch.masked_kspace), mask[:, None, None, :, None], int(batch.n_center[0]))
        want = center_fit(image, (40, 36))
        got = read_design(config).predict(model, batch).image
    assert (got - want).norm() < 1e-5 * want.norm()
    assert image.shape == (2, 80, 36)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_network_has_finite_gradients_for_every_loss(batch_of, config, loss):
    """Also where a slice is empty."""
    batch = batch_of(read_design(config).needs)
    nothing = torch.tensor([0.0, 1.0])
    empty = {name: getattr(batch, name) * nothing for name in ("mean", "std")}
    for name in ("image", "masked_kspace", "smaps"):
        value = getattr(batch, name)
        empty[name] = value * nothing.view(2, *[1] * (value.ndim - 1)) if value.numel() else value
    torch.manual_seed(0)
    module = ReconModule(build_model(config), loss=loss, predict=read_design(config).predict)
    data_range = torch.as_tensor(batch.data_range)
    module.sample_loss(batch._replace(**empty, data_range=data_range)).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())
    assert any(p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_a_single_coil_is_reconstructed(batch_of, config):
    batch = batch_of(read_design(config).needs, n_coils=1)
    with torch.no_grad():
        image = read_design(config).predict(build_model(config).eval(), batch).image
    assert image.shape == (2, 40, 36)
    assert torch.isfinite(image).all()
    assert predict_by_class(build_model(config)) is read_design(config).predict


def test_kspace_undersampled_in_rows_too_is_not_pulled_to_zero_there(batch_of):
    """A consistency that took unmeasured rows for measured zeros would give the zero-filled image of a perfect one."""
    batch = batch_of(read_design(ModelConfig("unet_dc")).needs)
    kept = torch.arange(80) % 2 == 0
    batch = batch._replace(masked_kspace=torch.where(kept[:, None], batch.masked_kspace, 0))
    batch.masked_kspace[:, :, 39, 18] = 1.0  # a row with one sample: no whole rows are missing
    batch.masked_kspace[:, :, 1::2, 18] = 1.0
    seen = []

    def network(_kspace, mask, _smaps):
        seen.append(mask)
        return torch.zeros(2, 80, 36)

    read_design(ModelConfig("unet_dc")).predict(network, batch)
    assert torch.equal(seen[0], (batch.masked_kspace != 0).any(1))


def test_training_data_of_which_it_cannot_learn_are_refused():
    read_design(ModelConfig("varnet")).check_coils({1, 4})
    read_design(ModelConfig("varnet", sens_channels=0)).check_coils({1})
    read_design(ModelConfig("unet_dc")).check_coils({1})
    with pytest.raises(InputError, match=r"a single coil, .* learns nothing; leave it out \(--sens-channels 0\)"):
        read_design(ModelConfig("varnet")).check_coils({1})
    with pytest.raises(InputError, match="without sensitivity network .* these data have 2, 4"):
        read_design(ModelConfig("varnet", sens_channels=0)).check_coils({1, 4, 2})


def test_sizes_are_those_of_the_deeper_network():
    config = ModelConfig("varnet", channels=4, pools=2, sens_pools=4)
    assert read_design(config).smallest() == read_design(replace(config, pools=4, sens_pools=0)).smallest() == 17
    with pytest.raises(InputError, match="8 x 40 pixels are too small: 4 pools need 17 x 17; use 3 pools"):
        read_design(config).check_image_size((8, 40))
    assert read_design(replace(config, sens_channels=0)).smallest() == 2


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(3)
    return fastmri.models.VarNet(2, 3, 1, 4, 2).eval()


FORMS = {
    "plain.pt": torch.save,
    "lightning.ckpt": lambda state, path: torch.save(
        {
            "state_dict": {f"varnet.{name}": t for name, t in state.items()} | {"loss.w": torch.ones(1, 1, 7, 7)},
            "pytorch-lightning_version": "1.4.2",
        },
        path,
    ),
    "plain.safetensors": save_file,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_fastmris_weights_is_read(theirs, tmp_path, form):
    FORMS[form](dict(theirs.state_dict()), tmp_path / form)
    config = ModelConfig("varnet", **SMALL)
    network = build_model(config)
    match = put_weights(network, config, read_weights(str(tmp_path / form)))
    assert match.prefix == ("varnet." if form == "lightning.ckpt" else "")
    assert match.n == len(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cascades": 3},
            "it lacks 15 of 54 .* It has channels 4, .*cascades 2, sens_channels 3, .*; add --cascades 2$",
        ),
        ({"cascades": 1}, r"has no cascades.1.dc_weight .*add --cascades 2$"),
        ({"channels": 5, "sens_channels": 2}, "add --channels 4 --sens-channels 3$"),
        ({"sens_pools": 0}, "add --sens-pools 1$"),
        ({"norm": "batch"}, "it is no network with BatchNorm: add --norm instance"),
    ],
)
def test_another_varnet_is_refused_with_the_flags_that_fit(theirs, tmp_path, changes, message):
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    config = ModelConfig("varnet", **{**SMALL, **changes})
    with pytest.raises(InputError, match=message) as caught:
        put_weights(build_model(config), config, read_weights(str(tmp_path / "w.pt")))
    assert "\n" not in str(caught.value)


def test_of_one_coil_it_takes_the_cascades_of_several_and_not_the_reverse(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "several.pt")
    one = ModelConfig("varnet", **{**SMALL, "sens_channels": 0})
    network = build_model(one)
    match = put_weights(network, one, read_weights(str(tmp_path / "several.pt")))
    assert match.n_others == len(theirs.sens_net.state_dict())
    torch.save(network.state_dict(), tmp_path / "one.pt")
    several = ModelConfig("varnet", **SMALL)
    with pytest.raises(InputError, match="it lacks 9 of 39 .*, such as sens_net.* add --sens-channels 0"):
        put_weights(build_model(several), several, read_weights(str(tmp_path / "one.pt")))


def test_the_weights_of_a_unet_are_none_of_a_varnet(tmp_path):
    torch.save(fastmri.models.Unet(2, 2, chans=4, num_pool_layers=2).state_dict(), tmp_path / "unet.pt")
    config = ModelConfig("varnet", **SMALL)
    with pytest.raises(InputError, match="unet.pt holds no varnet: "):
        put_weights(build_model(config), config, read_weights(str(tmp_path / "unet.pt")))


def test_the_defaults_of_the_class_are_those_of_the_configuration_where_fastmri_has_none_of_them():
    config = ModelConfig("varnet", channels=18)
    shapes = [{name: t.shape for name, t in net.state_dict().items()} for net in (build_model(config), VarNet())]
    assert shapes[0] == shapes[1]
    assert len(VarNet().cascades) == 8
