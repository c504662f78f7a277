"""Settings that no machine could hold are refused by name before anything is made of them."""

from dataclasses import replace

import fastmri.models
import pytest
import torch

from mrirecon import classpaths
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.models import NORMS
from mrirecon.models.groups import level_widths
from mrirecon.tables.models import MODELS
from mrirecon.training import build, footprint
from mrirecon.training.build import build_model, read_design
from mrirecon.workflows.setup.training_work import check_numbers


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": OptimizerConfig(lr=1e300)}, "optimizer.lr is 1e[+]300"),
        ({"optimizer": OptimizerConfig(betas=[0.9, float("nan")])}, "optimizer.betas is nan"),
        ({"schedule": ScheduleConfig(warmup=float("inf"))}, "schedule.warmup is inf"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"max_steps": -(2**60)}, "max_steps is -1152921504606846976"),
        ({"threads": 5000}, "threads is 5000; at most 4096"),
        ({"data": DataConfig(workers=10**6)}, "data.workers is 1000000; at most 4096"),
    ],
)
def test_a_number_that_cannot_be_meant(changes, says):
    with pytest.raises(InputError, match=says):
        check_numbers(replace(TrainConfig(), **changes))


def test_usual_numbers():
    check_numbers(replace(TrainConfig(), seed=2**53, data=DataConfig(acceleration=[4, 8], workers=64)))


@pytest.mark.parametrize(
    ("channels", "pools"), [(10**9, 1), (4, 2**31), (4, 2**63), (2**14, 1), (1, 15), (10**300, 2), (0, 1), (4, -1)]
)
def test_a_network_that_nothing_could_hold(channels, pools):
    with pytest.raises(InputError, match="channels is"):
        level_widths(channels, pools)
    with pytest.raises(InputError, match="channels is|pools is"):
        build_model(ModelConfig(channels=channels, pools=pools))


def test_widths():
    assert level_widths(32, 4) == [32, 64, 128, 256, 512]
    assert level_widths(2**13, 1) == [2**13, 2**14]


@pytest.mark.parametrize(("channels", "pools"), [(32, 4), (16, 5), (64, 2)])
def test_an_outline_has_the_parameters_of_fastmris_network_and_takes_no_memory(channels, pools):
    theirs = sum(p.numel() for p in fastmri.models.Unet(1, 1, chans=channels, num_pool_layers=pools).parameters())
    state = torch.get_rng_state()
    network = read_design(ModelConfig(channels=channels, pools=pools)).outline()
    assert sum(p.numel() for p in network.parameters()) == theirs
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", NORMS)
def test_an_outline_is_as_large_as_its_network(name, norm):
    config = ModelConfig(name, channels=8, pools=2, norm=norm)
    sizes = [
        [p.shape for p in network.parameters()] for network in (read_design(config).outline(), build_model(config))
    ]
    assert sizes[0] == sizes[1]
    for network in (read_design(config).outline(), build_model(config)):
        network.check_image_size((8, 8))
    for network in (read_design(replace(config, pools=5)).outline(), build_model(replace(config, pools=5))):
        with pytest.raises(InputError, match="images of 20 x 20 pixels are too small: 5 pools need 64 x 64"):
            network.check_image_size((20, 20))


class Computing(torch.nn.GroupNorm):
    """A norm that looks at a value while it is made, which an outline does not have."""

    def __init__(self, n_channels):
        super().__init__(1, n_channels)
        assert self.weight.detach().sum().item() == n_channels


def test_a_norm_that_computes_while_it_is_made_is_left_out_of_the_outline(monkeypatch):
    monkeypatch.setattr(classpaths, "_allowed_here", [__name__])
    config = ModelConfig(channels=4, pools=1, norm=f"{__name__}.Computing")
    plain = sum(p.numel() for p in read_design(replace(config, norm="none")).outline().parameters())
    assert sum(p.numel() for p in read_design(config).outline().parameters()) == plain
    assert any(isinstance(layer, Computing) for layer in build_model(config).modules())


@pytest.mark.parametrize(("gib", "copies", "refused"), [(20, 1, True), (40, 1, False), (40, 2, True), (70, 2, False)])
def test_weights_that_do_not_fit_are_refused_before_they_are_made(monkeypatch, gib, copies, refused):
    """32 channels and 9 pools: 7,963,564,353 parameters, 29.7 GiB."""
    config = ModelConfig(channels=32, pools=9)
    monkeypatch.setattr(footprint, "machine_memory", lambda device="cpu": gib * 2**30)
    monkeypatch.setattr(build, "machine_memory", lambda device="cpu": gib * 2**30)
    says = rf"7,963,564,353 parameters \(model.channels 32, pools 9\): .* has {gib}.0 GiB; use fewer channels or pools"
    if not refused:
        read_design(config).require_memory(copies)
        return
    with pytest.raises(InputError, match=says):
        read_design(config).require_memory(copies)
    if copies == 1:
        with pytest.raises(InputError, match=says):
            build_model(config)
