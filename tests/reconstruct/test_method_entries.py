"""Every entry of METHODS and MODELS names what there is, and can be made with its defaults."""

from dataclasses import fields

import pytest

from mrirecon.config import ModelConfig
from mrirecon.data.samples import check_needs
from mrirecon.reconstruct.options import method_options, option_keys
from mrirecon.tables.entry import builder
from mrirecon.tables.methods import METHODS
from mrirecon.tables.models import MODELS
from mrirecon.training.build import build_model, read_design
from mrirecon.training.deployable import deployable


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_made_with_its_defaults(name):
    entry, keys = METHODS[name], option_keys(METHODS[name])
    given = {option: values[0] for option, values in entry.chosen.items()}
    options = {keys[option].name: value for option, value in method_options(name, given).items()}
    assert callable(builder(entry.build)(**options))
    assert check_needs(entry.needs)
    assert all(key.help for key in keys.values())
    assert "\n" not in entry.help


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, entry in MODELS.items() for kind in entry.inputs])
def test_a_network_is_made_for_each_of_its_inputs(name, kind):
    config, entry = (
        ModelConfig(name, kind, **({"channels": 4} if "channels" in MODELS[name].keys else {})),
        MODELS[name],
    )
    network = build_model(config)
    assert set(entry.keys) < {key.name for key in fields(ModelConfig)}
    assert check_needs(entry.inputs[kind].needs)
    assert callable(read_design(config).predict)
    if entry.inputs[kind].deployable:
        assert deployable(network, config).smallest_size == read_design(config).smallest()
    read_design(config).check_image_size((read_design(config).smallest(),) * 2)
