"""Keys, YAML files and checked values."""

import dataclasses
import runpy
from pathlib import Path

import pytest
import yaml

from mrirecon import configfile
from mrirecon.cli import COMMANDS, find_command
from mrirecon.config import CompareConfig, DemoConfig, EvaluateConfig, SimulateConfig, TrainConfig
from mrirecon.config.ablate import AblateConfig, StudyConfig, WorkerConfig
from mrirecon.errors import InputError
from mrirecon.tables.optimizers import OPTIMIZERS

CONFIGS = [
    TrainConfig,
    EvaluateConfig,
    SimulateConfig,
    DemoConfig,
    AblateConfig,
    StudyConfig,
    WorkerConfig,
    CompareConfig,
]
SHIPPED = configfile.shipped_configs()


@pytest.mark.parametrize("name", [name for name in SHIPPED if not name.startswith(configfile.GRIDS)])
def test_every_shipped_file_parses_and_is_found_by_name(name):
    config = configfile.load(TrainConfig, name)
    assert isinstance(config, TrainConfig)


def test_a_study_and_an_overlay_may_share_a_name():
    assert configfile.find_config("momentum") == SHIPPED["optimizer/momentum"]
    assert configfile.find_config("momentum", grids=True) == SHIPPED["ablation/momentum"]
    assert configfile.find_config("smoke") == SHIPPED["ablation/smoke"]


def test_base_yaml_is_complete_and_holds_the_defaults():
    assert configfile.read_yaml("base", TrainConfig) == configfile.flatten(TrainConfig())


@pytest.mark.parametrize("name", ["fast", "preset/fast"])
def test_the_preset_that_held_the_defaults_says_that_it_is_gone(name):
    with pytest.raises(InputError, match=f"^the preset '{name}' is gone: it held the defaults; leave it out$"):
        configfile.load(TrainConfig, name)


def test_the_presets_fastmri_and_lecture_differ_in_optimizer_and_norm_only():
    first, second = (configfile.flatten(configfile.load(TrainConfig, name)) for name in ("fastmri", "lecture"))
    differing = {key for key in first if first[key] != second[key]}
    assert {key.split(".")[0] for key in differing} == {"optimizer", "model"}
    assert {key for key in differing if key.startswith("model")} == {"model.norm", "model.channels_per_group"}


def test_what_is_made_from_the_tables_is_as_they_are_now():
    """After a change: python scripts/write_configs.py."""
    made = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "write_configs.py"))["texts"]()
    assert {f"optimizer/{name}.yaml" for name in OPTIMIZERS} < made.keys()
    for path, text in made.items():
        assert (configfile.configs_folder() / path).read_text(encoding="utf-8") == text, path


def test_base_yaml_explains_every_key_with_its_own_help():
    text = configfile.find_config("base").read_text()
    for key in configfile.keys(TrainConfig):
        assert f"# {key.help}" in text, key.name


def test_the_installed_package_ships_every_file_of_the_checkout():
    """The same names from a wheel (files inside the package) and from an editable install (beside it)."""
    folder = Path(__file__).parents[1] / "configs"
    names = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
    assert set(SHIPPED) == names
    for name, path in SHIPPED.items():
        assert path.read_text() == (folder / f"{name}.yaml").read_text()


@pytest.mark.parametrize("cls", CONFIGS)
def test_every_key_has_help(cls):
    assert [key.name for key in configfile.keys(cls) if not key.help] == []


@pytest.mark.parametrize("cls", CONFIGS)
def test_saved_configuration_reads_back(cls, tmp_path):
    configfile.save(cls(), tmp_path / "c.yaml")
    assert configfile.load(cls, tmp_path / "c.yaml") == cls()


def test_overlay_holds_only_what_differs(tmp_path):
    (tmp_path / "o.yaml").write_text("optimizer:\n  name: sgd\n  lr: 1e-1\n")
    config = configfile.load(TrainConfig, tmp_path / "o.yaml")
    expected = dataclasses.replace(
        TrainConfig(), optimizer=dataclasses.replace(TrainConfig().optimizer, name="sgd", lr=0.1)
    )
    assert config == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimzer:\n  lr: 1\n", "unknown key 'optimzer.lr'; did you mean 'optimizer.lr'?"),
        ("norm: group\n", "unknown key 'norm'; did you mean 'model.norm'?"),
        ("norm: {class_path: torch.nn.Identity}\n", "unknown key 'norm.class_path'; did you mean 'model.norm'?"),
        ("optimizer:\n  lr: fast\n", "optimizer.lr: Expected a float or 'auto' or 'find'. Got value: fast"),
        ("data:\n  acceleration: 4\n", "data.acceleration: Expected a list"),
        ("max_steps: 1.5\n", "max_steps: Expected an int. Got value: 1.5"),
        ("optimizer:\n  lr: null\n", "lr is null"),
        ("max_steps:\n", "max_steps is null"),
        ("model: unet\n", "'model' is a group of keys, got 'unet'"),
        ("- a\n- b\n", "holds no keys"),
        ("a: [1\n", "not readable YAML"),
    ],
)
def test_wrong_files_are_refused_in_one_line_that_names_the_file(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="wrong.yaml") as caught:
        configfile.read_yaml(path, TrainConfig)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_file_lists_the_shipped_ones():
    with pytest.raises(InputError, match="did you mean 'optimizer/nesterov'.*optimizer/adam"):
        configfile.find_config("optimizer/nesterof")


def test_a_class_path_in_a_file_imports_nothing(tmp_path):
    (tmp_path / "evil.yaml").write_text("model:\n  norm:\n    class_path: this_module_does_not_exist.Thing\n")
    config = configfile.load(TrainConfig, tmp_path / "evil.yaml")
    assert config.model.norm == {"class_path": "this_module_does_not_exist.Thing"}


def test_dump_is_plain_yaml():
    assert yaml.safe_load(configfile.dump(TrainConfig()))["data"]["acceleration"] == [4]


def test_a_group_without_keys_changes_nothing(tmp_path):
    (tmp_path / "o.yaml").write_text("model:\n  # norm: group\noptimizer:\n  momentum: null\n")
    assert configfile.load(TrainConfig, tmp_path / "o.yaml") == TrainConfig()


def test_a_key_that_is_given_nested_and_dotted(tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text("model:\n  norm: batch\nmodel.norm: group\n")
    with pytest.raises(InputError, match=r"file.yaml: 'model.norm' is given twice"):
        configfile.load(TrainConfig, file)
    file.write_text("model.norm: group\n")
    assert configfile.load(TrainConfig, file).model.norm == "group"


LIMITED = [
    pytest.param(cls, key, id=f"{cls.__name__}-{key.name}")
    for cls in {find_command(name).config for name in COMMANDS}
    for key in configfile.keys(cls)
    if key.range
]


@pytest.mark.parametrize(("cls", "key"), sorted(LIMITED, key=lambda case: case.id))
def test_a_number_below_its_range_is_refused_alike_in_a_file_and_in_python(cls, key):
    lowest = {"PositiveInt": 1, "NonNegativeInt": 0, "NonNegativeFloat": 0.0}[key.range]
    flat = configfile.flatten(cls())
    said = []
    for check in (
        lambda value: configfile.build(cls, {key.name: value}),
        lambda value: configfile.require_ranges(configfile.unflatten(cls, flat | {key.name: value})),
    ):
        check(lowest)
        with pytest.raises(InputError) as error:
            check(lowest - 1)
        said.append(str(error.value).replace("-1.0", "-1"))
    assert said[0] == said[1] == f"{key.name} is {int(lowest - 1)}; it must be at least {int(lowest)} ({key.help})"
    made = configfile.flatten(configfile.build(cls, {key.name: lowest + 2}))[key.name]
    assert (made, type(made)) == (lowest + 2, key.type)  # not the parser's own type: it is saved and hashed


@pytest.mark.parametrize(("value", "got"), [("many", "many"), (1.5, "1.5"), (True, "True"), ([1], "list")])
def test_what_is_no_number_is_refused_as_such(value, got):
    with pytest.raises(InputError, match=f"^threads: Expected an int. Got value: {got} [(]CPU threads"):
        configfile.build(TrainConfig, {"threads": value})
