import copy

import pytest

from mrirecon.ablation.study.grid import groups_per_level
from mrirecon.ablation.study.grid_file import make_grid, read_grid_file
from mrirecon.errors import InputError
from mrirecon.tables.metrics import default_metrics

GRID = {
    "name": "tiny",
    "factors": {"optimizer": ["momentum", "adam"], "norm": ["batch", "group"]},
    "base": {"model": {"channels": 8, "pools": 2, "channels_per_group": 4}, "batch_size": 2, "max_steps": 4},
    "seeds": 6,
    "reference": {"optimizer": "adam", "norm": "group"},
    "tuning": {"trials": 4, "sweep": 3},
}


def changed(**changes):
    grid = copy.deepcopy(GRID)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = grid
        for parent in parents:
            place = place[parent]
        place[last] = value
    return grid


def test_cells_are_all_combinations():
    grid = make_grid(GRID)
    assert [cell.name for cell in grid.cells] == ["momentum/batch", "momentum/group", "adam/batch", "adam/group"]
    assert {cell.settings["model.channels"] for cell in grid.cells} == {8}
    assert grid.cell("adam/group").settings["optimizer.name"] == "adam"
    assert grid.reference == "adam/group"
    assert grid.seeds == tuple(range(6))


def test_group_sizes_of_the_base_are_for_groups_only():
    grid = make_grid(GRID)
    sizes = {cell.levels["norm"]: cell.settings["model.channels_per_group"] for cell in grid.cells}
    assert sizes == {"batch": 0, "group": 4}
    assert groups_per_level(grid.cell("adam/group").settings) == [2, 4, 8]
    assert any("2/4/8 groups in levels of 8/16/32 channels" in note for note in grid.notes)


def test_a_level_may_set_several_keys():
    levels = {"m9": {"optimizer": {"name": "momentum"}}, "m99": {"optimizer": {"name": "momentum", "momentum": 0.99}}}
    grid = make_grid(changed(factors={"beta": levels}, reference={"beta": "m9"}))
    assert [cell.settings["optimizer.momentum"] for cell in grid.cells] == [None, 0.99]


def test_any_configuration_key_can_be_a_factor():
    grid = make_grid(changed(factors={"schedule.name": ["constant", "cosine"]}, reference={"schedule.name": "cosine"}))
    assert [cell.settings["schedule.name"] for cell in grid.cells] == ["constant", "cosine"]


def test_batch_norm_at_batch_1_is_warned_about_and_allowed():
    grid = make_grid(changed(base__batch_size=1))
    assert any(note.startswith("momentum/batch: BatchNorm at batch 1") for note in grid.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factors": {}}, "empty"),
        ({"factors__optimizer": []}, "'optimizer' has no levels"),
        ({"factors__optimiser": ["adam"]}, "unknown factor 'optimiser'; did you mean 'optimizer'"),
        ({"factors__optimizer": ["adam", "adam"]}, "a level twice"),
        ({"factors__model.norm": ["batch", "none"]}, "both set model.norm"),
        ({"factors__norm": ["batch", 3]}, "level 3 of norm"),
        ({"factors__optimizer": ["adam", "warp"]}, "unknown optimizer 'warp'"),
        ({"factors__seed": [1, 2]}, "seed"),
        ({"base__max_epochs": 2}, "max_steps and max_epochs"),
        ({"base__seed": 3}, "which the study decides itself"),
        ({"base__batchsize": 3}, "unknown key 'batchsize' in base; did you mean 'batch_size'"),
        ({"base__batch_size": "many"}, "batch_size"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds": [1, 1000]}, "seed 1000 is of the tuning and of the reruns"),
        ({"tuning__trials": 6}, "power of two"),
        ({"tuning__trials": 0}, "tuning.trials"),
        ({"tuning__dimensions": ["lr", "warmup"]}, "unknown tuning dimension 'warmup'"),
        ({"tuning__dimensions": ["weight_decay"]}, "must hold lr"),
        ({"tuning__objectives": "best"}, "unknown objective 'best'"),
        ({"tuning__spaces": {"adam": {"lr": [1, 0.1]}}}, "adam/batch: the range of lr"),
        ({"tuning__budget": 3}, "unknown key 'budget' in tuning"),
        ({"reference": None}, "name a level of each factor"),
        ({"reference": {"optimizer": "sgd", "norm": "group"}}, "names no level of factor 'optimizer'"),
        ({"margin": 2}, "margin"),
        ({"targets": [0.9, "high"]}, "targets"),
        ({"name": "../x"}, "names a folder"),
        ({"factors__data.acceleration": [[4], [8]]}, "different images"),
        ({"factors__data.volumes": [1, 2]}, "different images"),
        ({"factors__devices": [1, 2]}, "level 1 of devices cannot be one: devices"),
        ({"factors__num_nodes": [1, 2]}, "level 1 of num_nodes cannot be one: num_nodes"),
        ({"factors__slurm.nodes": [1, 2]}, "level 1 of slurm.nodes cannot be one: slurm.nodes"),
        ({"base__slurm": {"time": 9}}, "base sets slurm.time, which the study decides itself"),
        ({"factors__optimizer.lr": [0.1, 0.2]}, "are the same once lr is tuned"),
        ({"base__optimizer": {"lr": 0.1}}, "base sets optimizer.lr, which is tuned"),
        ({"tuning__spaces": {"adamm": {"lr": [0.1, 1]}}}, "unknown key 'adamm' in tuning.spaces; did you mean 'adam'"),
        ({"tuning__spaces": {"adam": [0.1, 1]}}, "tuning.spaces.adam is [0.1, 1]"),
        ({"tuning__dimensions": 5}, "tuning.dimensions is 5"),
        ({"tuning": [1]}, "tuning is [1]"),
        ({"simulate": [1]}, "simulate is [1]"),
        ({"targets": 0.9}, "targets is 0.9"),
        ({"margin": True}, "margin True"),
        ({"simulate": {"volumes": 3}}, "volumes"),
        ({"levels": 3}, "unknown key 'levels' in the grid"),
        ({"base__model__channels_per_group": 3}, "does not divide"),
    ],
)
def test_a_wrong_grid_is_refused_by_name(changes, words):
    with pytest.raises(InputError) as error:
        make_grid(changed(**changes))
    assert words in str(error.value)


def test_levels_that_are_one_network_are_refused():
    same = changed(factors__norm=["layer", "group"], reference={"optimizer": "adam", "norm": "group"})
    same["base"]["model"]["channels_per_group"] = 32
    with pytest.raises(InputError, match="norm layer and group give the same network in 3 of 3 levels"):
        make_grid(same)
    same["base"]["model"]["channels_per_group"] = 8  # one group in the first level only
    assert len(make_grid(same).cells) == 4


def test_switches_and_lists_can_be_levels():
    grid = make_grid(changed(factors={"affine": [True, False]}, reference={"affine": True}))
    assert [cell.settings["model.affine"] for cell in grid.cells] == [True, False]
    betas = make_grid(
        changed(
            factors={"optimizer.betas": [[0.9, 0.99], [0.9, 0.999]]},
            base__optimizer={"name": "adam"},
            reference={"optimizer.betas": [0.9, 0.99]},
        )
    )
    assert betas.reference == "0.9-0.99"


def test_no_grid_file(tmp_path):
    with pytest.raises(InputError, match="no file or shipped configuration"):
        read_grid_file(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("optimizer: {lr: 1}")
    with pytest.raises(InputError, match="is not a grid"):
        read_grid_file(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("factors: [")
    with pytest.raises(InputError, match="not readable YAML"):
        read_grid_file(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("name", "objectives"),
    [("final", ("final",)), ("loss", ("final",)), ("area", ("area",)), ("both", ("final", "area"))]
    + [(metric, (metric,)) for metric in default_metrics()],
)
def test_tuning_is_for_the_loss_or_any_metric(name, objectives):
    assert make_grid(changed(tuning__objectives=name)).tuning.objectives == objectives


@pytest.mark.parametrize(
    ("factor", "levels", "key"),
    [
        ("optimizer", ["sgd", "adam"], "optimizer.name"),
        ("pools", [2, 3], "model.pools"),
        ("loss", ["l1", "mse"], "loss"),
    ],
)
def test_a_factor_goes_by_the_short_name_of_the_command_line_the_last_part_of_a_key_or_the_key(factor, levels, key):
    content = {"name": "x", "factors": {factor: levels}, "reference": {factor: levels[0]}}
    assert [cell.settings[key] for cell in make_grid(content).cells] == levels


def test_a_last_part_of_two_keys_is_no_factor():
    with pytest.raises(InputError, match="unknown factor 'decay'(?!; did you mean 'decay')"):
        make_grid({"name": "x", "factors": {"decay": [0.1, 0.2]}})


def test_a_margin_is_a_share_of_the_gap_or_a_difference_in_ssim_and_none_is_the_default():
    default, share, absolute = (
        make_grid(changed(**changes)) for changes in ({}, {"margin": 0.02}, {"margin": {"ssim": 0.0005}})
    )
    assert (default.margin, default.margin_ssim, default.has_margin) == (0.01, 0, False)
    assert (share.margin, share.margin_ssim, share.has_margin) == (0.02, 0, True)
    assert (absolute.margin_ssim, absolute.has_margin) == (0.0005, True)


def test_looks_share_alpha_equally_or_as_stated():
    assert make_grid(GRID).looks == {}
    assert make_grid(changed(looks=[6, 12, 20])).looks == dict.fromkeys((6, 12, 20), 1 / 3)
    assert make_grid(changed(looks={6: 0.1, 20: 0.9})).looks == {6: 0.1, 20: 0.9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"looks": [4, 10]}, "give numbers of seeds that rise, from 5 on"),
        ({"looks": [8, 6, 10]}, "that rise, from 5 on"),
        ({"looks": 6}, "looks is 6"),
        ({"looks": {6: 0.5, 10: 0.6}}, "add up to 1.1"),
        ({"margin": {"psnr": 1}}, "unknown key 'psnr' in margin. Known: ssim"),
        ({"margin": {"ssim": 0}}, "margin.ssim 0; it must be a number above 0 and at most 1"),
        ({"diverged": "ignore"}, "diverged is 'ignore'; give zero-filled"),
        ({"all_pairs": "yes"}, "all_pairs is 'yes'"),
    ],
)
def test_wrong_statistics_of_a_grid_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make_grid(changed(**changes))
