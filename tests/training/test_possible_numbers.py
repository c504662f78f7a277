"""Settings that no machine could hold are refused by name before anything is made of them."""

from dataclasses import replace

import pytest

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from mrirecon.errors import InputError
from mrirecon.models.groups import level_widths
from mrirecon.training.build import build_model
from mrirecon.training.plan import check_numbers


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
