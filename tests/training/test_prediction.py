"""What a network sees, and that its output comes back in the units of the target, for every network and input."""

from dataclasses import replace

import fastmri.models
import numpy as np
import pytest
import torch
from fastmri.data.transforms import normalize_instance
from torch import nn
from torch.utils.data import default_collate

from mrirecon.cli import main
from mrirecon.config import ModelConfig, OptimizerConfig
from mrirecon.data import SliceDataset, to_image
from mrirecon.data.transforms import combined_image, image_statistics, to_complex_image
from mrirecon.errors import InputError
from mrirecon.models import NormUNet, UNet
from mrirecon.physics import combine_coils, expand_coils, fft2c, ifft2c, low_resolution_smaps, rss
from mrirecon.tables.models import MODELS
from mrirecon.training import ReconModule
from mrirecon.training.build import build_model, read_design
from mrirecon.training.prediction import of_complex, of_magnitude, of_raw_complex, of_raw_magnitude
from mrirecon.training.recipe.losses import LOSSES
from mrirecon.workflows.evaluate import evaluate
from mrirecon.workflows.train import train

SMALL = {"channels": 4, "pools": 2}
KINDS = [
    ModelConfig(name, kind, **{key: value for key, value in SMALL.items() if key in entry.keys})
    for name, entry in MODELS.items()
    for kind, seen in entry.inputs.items()
    if {"image", "combined"}.issuperset(seen.needs)
]
IDS = [f"{config.name}-{config.input}" for config in KINDS]


@pytest.fixture(scope="module")
def batch(tmp_path_factory, volume_writer):
    volume_writer(tmp_path_factory.mktemp("v") / "v.h5", n_coils=4, matrix=(40, 36))
    folder = next(tmp_path_factory.getbasetemp().glob("v*/v.h5")).parent
    return default_collate(list(SliceDataset(folder, mask="random", transform=to_complex_image))[:2])


class Identity(nn.Module):
    """Gives back what it is shown, and remembers it."""

    def forward(self, image):
        self.seen = image
        return image


@pytest.mark.parametrize(("real", "both"), [(of_magnitude, of_complex), (of_raw_magnitude, of_raw_complex)])
def test_an_identity_gives_the_zero_filled_image(batch, real, both):
    """Standardising and undoing it loses nothing but what is clamped (nothing here)."""
    magnitude = real(Identity(), batch)
    torch.testing.assert_close(magnitude.image, batch.image, rtol=1e-5, atol=1e-6)
    combined = both(Identity(), batch)
    torch.testing.assert_close(combined.image, batch.combined.abs(), rtol=1e-5, atol=1e-6)
    for prediction in (magnitude, combined):
        mean, std = batch.mean[:, None, None], batch.std[:, None, None]
        torch.testing.assert_close(prediction.normalized, (prediction.image - mean) / std, rtol=1e-4, atol=1e-4)


def test_the_complex_image_reaches_the_network_as_two_channels_with_its_phase(batch):
    network = Identity()
    of_complex(network, batch)
    assert network.seen.shape == (2, 2, 40, 36)
    seen = torch.complex(network.seen[:, 0], network.seen[:, 1])
    torch.testing.assert_close(seen * batch.std[:, None, None], batch.combined, rtol=1e-5, atol=1e-6)
    bright = batch._replace(combined=batch.combined.clone())
    bright.combined[0, 5, 5] *= 1e4
    of_complex(network, bright)
    spot, limit = torch.complex(*network.seen[0, :, 5, 5]), batch.mean[0] / batch.std[0] + 6
    torch.testing.assert_close(spot.abs(), limit)
    torch.testing.assert_close(spot.angle(), batch.combined[0, 5, 5].angle())


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("scale", [2.0**-70, 2.0**40])
def test_any_unit_of_kspace_is_reconstructed_alike(batch, config, scale):
    torch.manual_seed(0)
    model, predict = build_model(config).eval(), read_design(config).predict
    scaled = batch._replace(**{k: getattr(batch, k) * scale for k in ("image", "combined", "mean", "std", "target")})
    with torch.no_grad():
        torch.testing.assert_close(
            predict(model, scaled).image / scale, predict(model, batch).image, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("value", [0.0, 2.0**-17])
def test_a_constant_slice_comes_back_as_it_is_and_leaves_its_neighbour_alone(batch, config, value):
    torch.manual_seed(0)
    model, predict = build_model(config).eval(), read_design(config).predict
    image, combined = batch.image.clone(), batch.combined.clone()
    image[0], combined[0] = value, torch.polar(torch.tensor(value), torch.tensor(0.0))
    mean, std = (torch.stack(values) for values in zip(*map(image_statistics, image), strict=True))
    constant = batch._replace(image=image, combined=combined, mean=mean, std=std)
    with torch.no_grad():
        prediction, usual = predict(model, constant), predict(model, batch)
    assert torch.equal(prediction.image[0], image[0])
    assert torch.equal(prediction.image[1], usual.image[1])
    assert torch.isfinite(prediction.normalized).all()


def test_an_empty_slice_in_the_units_of_fastmri_gives_what_fastmris_chain_gives(batch):
    """`UnetDataTransform` and `UnetModule` by hand, with the same weights, in the unit of a scanner."""
    theirs = fastmri.models.Unet(1, 1, chans=4, num_pool_layers=2).eval()
    model = build_model(ModelConfig(channels=4, pools=2)).eval()
    model.load_state_dict(theirs.state_dict())
    image = batch.image * 1e-5
    image[0] = 0
    mean, std = (torch.stack(values) for values in zip(*map(image_statistics, image), strict=True))
    with torch.no_grad():
        ours = of_magnitude(model, batch._replace(image=image, mean=mean, std=std)).image
        for k in range(2):
            normalised, mean, std = normalize_instance(image[k], eps=1e-11)
            expected = theirs(normalised.clamp(-6, 6)[None, None])[0, 0] * std + mean
            torch.testing.assert_close(ours[k], expected, rtol=1e-4, atol=1e-4 * float(image[1].max()))
            assert k or (not ours[0].any() and not expected.any())


@pytest.mark.parametrize("config", KINDS, ids=IDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_network_has_finite_gradients_for_every_loss(batch, config, loss):
    """Also where the image, and so a complex output's magnitude, is exactly 0."""
    torch.manual_seed(0)
    module = ReconModule(build_model(config), loss=loss)
    empty = batch._replace(image=batch.image.clone(), combined=batch.combined.clone())
    empty.image[0], empty.combined[0] = 0, 0
    empty = empty._replace(
        mean=batch.mean * torch.tensor([0, 1]),
        std=torch.stack([torch.zeros(()), batch.std[1]]),
        data_range=torch.as_tensor(batch.data_range),
    )
    module.sample_loss(empty).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())
    assert any(p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_every_network_trains_evaluates_and_learns(quick_run, config):
    run, losses = quick_run(config)
    assert losses[-1] < 0.9 * losses[0]
    (out,) = evaluate(quick_run.evaluation(run), str(run.path))
    assert (out / "volumes.csv").is_file()


@pytest.fixture
def quick_run(tmp_path, volume_writer):
    """Trains on two volumes for 40 steps."""
    from mrirecon.config import DataConfig, EvaluateConfig, TrainConfig

    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(40, 36))
    data = DataConfig(path=str(tmp_path / "data"), mask="random")

    def make(model):
        config = TrainConfig(
            data=data,
            model=replace(model, channels=8),
            optimizer=OptimizerConfig("adam", 3e-3),
            max_steps=40,
            precision="fp32",
            val_every=40,
            threads=1,
            device="cpu",
            output=str(tmp_path / "run"),
        )
        run = train(config)
        rows = [line.split(",") for line in run.curves.read_text().splitlines()[1:]]
        return run, [float(row[3]) for row in rows if row[3]]

    make.evaluation = lambda run: EvaluateConfig(data=data, device="cpu", output=str(tmp_path / "out"))
    return make


def test_one_normaliser_at_a_time(tmp_path, capsys):
    assert isinstance(build_model(ModelConfig(normalize="sample")), UNet)
    assert isinstance(build_model(ModelConfig("normunet", normalize="network")), NormUNet)
    for name, both in (("normunet", "sample"), ("unet", "network")):
        with pytest.raises(InputError, match=f"model.normalize {both} does not go with model.name {name}"):
            build_model(ModelConfig(name, normalize=both))
    words = ["train", "--data", str(tmp_path), "--model.name", "normunet", "--normalize", "sample"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 2
    assert "standardised once, by the network; leave it at auto" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("unnet"), "unknown model 'unnet'; did you mean 'unet'"),
        (ModelConfig(input="complx"), "unknown model input 'complx'; did you mean 'complex'"),
        (ModelConfig(normalize="no"), "unknown normalize 'no'"),
    ],
)
def test_unknown_networks_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        build_model(config)


def object_and_coils(shape=(64, 60), n_coils=6):
    """A smooth complex object seen by smooth coils whose root sum of squares is 1."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    angles = 2 * np.pi * torch.arange(n_coils) / n_coils
    smaps = torch.stack(
        [torch.exp(-((x - a.cos()) ** 2 + (y - a.sin()) ** 2) / 2 + 1j * (a + 0.5 * x)) for a in angles]
    )
    smaps = smaps / rss(smaps)
    image = torch.exp(-2 * (x**2 + y**2)) * torch.exp(1j * (0.7 * x - 0.4 * y))
    return image, smaps


def test_smaps_from_the_centre_find_the_coils_up_to_one_phase():
    """Relative phases and magnitudes of the coils, which is all that a combination needs."""
    image, smaps = object_and_coils()
    found = low_resolution_smaps(fft2c(expand_coils(image, smaps)), n_center=16)
    torch.testing.assert_close(rss(found), torch.ones(64, 60), rtol=1e-5, atol=1e-5)
    inside = image.abs() > 0.3
    assert (combine_coils(found, smaps).abs()[inside] > 0.999).all()  # 1 for parallel vectors of norm 1


@pytest.mark.parametrize("scale", [1e-24, 1.0, 1e20])
def test_the_combined_image_is_the_object_with_the_rss_as_magnitude(scale):
    image, smaps = object_and_coils()
    kspace = scale * fft2c(expand_coils(image, smaps))
    combined = combined_image(kspace, 60, (64, 60)) / scale
    inside = image.abs() > 0.3
    torch.testing.assert_close(combined.abs()[inside], rss(ifft2c(kspace))[inside] / scale, rtol=2e-3, atol=0)


def test_one_coil_is_its_own_image():
    kspace = torch.randn(1, 32, 30, dtype=torch.complex64)
    combined = combined_image(kspace, 30, (32, 30))
    torch.testing.assert_close(combined, ifft2c(kspace)[0])


def test_nothing_received_gives_zeros():
    assert not combined_image(torch.zeros(3, 16, 16, dtype=torch.complex64), 16, (16, 16)).any()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["brain_gre_3t_16ch", "brain_t1_7ch"])
def test_combined_real_coils_have_nearly_the_rss_magnitude(shared_data, name):
    """Smooth maps from 32 columns explain in-vivo coils where there is signal."""
    sample = next(
        s
        for s in SliceDataset(shared_data / "multicoil", mask="random", transform=to_complex_image)
        if s.volume == f"{name}.h5"
    )
    inside = sample.image > 0.1 * sample.image.amax()
    ratio = sample.combined.abs()[inside] / sample.image[inside]
    assert ratio.max() <= 1.0001  # Cauchy-Schwarz: a combination with maps of norm 1 is never above the RSS
    assert ratio.median() > 0.9
    assert torch.equal(sample.image, to_image_of(shared_data, name).image)


def to_image_of(shared_data, name):
    return next(
        s
        for s in SliceDataset(shared_data / "multicoil", mask="random", transform=to_image)
        if s.volume == f"{name}.h5"
    )
