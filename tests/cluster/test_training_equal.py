"""Training on several processes equals training on one with the whole batch: gradients, weights, scores."""

import csv
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from ranks_of_a_test import run_ranks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import CASES, SIZES, config, load, run_cases

from mrirecon.config import DataConfig, TrainConfig
from mrirecon.configfile import load as load_config
from mrirecon.data import ReconDataModule
from mrirecon.evaluation import VolumeMetrics, mean_score
from mrirecon.runs import RunFolder
from mrirecon.training.build import build_model, load_reconstructor

STEPS = [name for name in CASES if not name.startswith("run-")]
RUNS = [name for name in CASES if name.startswith("run-")]
SAME_AS_ONE = [name for name in RUNS if name != "run-local-batch"]
ON_THREE = ["run-batch", "run-one-validation-slice"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, volume_writer):
    """Folders whose training volumes have so many slices of one shape; `mixed` has two shapes and an uneven number."""
    root = tmp_path_factory.mktemp("data")
    for n in SIZES:
        write(volume_writer, root / f"slices{n}", [(n, (32, 32))], [(1, (32, 32))])
    write(volume_writer, root / "mixed", [(3, (32, 32)), (2, (32, 32)), (3, (40, 36))], [(3, (32, 32)), (2, (40, 36))])
    write(volume_writer, root / "lonely", [(4, (32, 32))], [(1, (32, 32))])
    write(volume_writer, root / "pictures", [(4, (32, 32))], [(5, (32, 32))])  # the middle slice is the second one's
    return root


def write(volume_writer, folder, train, val):
    for split, volumes in (("train", train), ("val", val)):
        (folder / split).mkdir(parents=True)
        for i, (n_slices, matrix) in enumerate(volumes):
            path = folder / split / f"{split}{i}.h5"
            volume_writer(path, n_slices=n_slices, n_coils=2, matrix=matrix, seed=10 * i + (split == "val"))


@pytest.fixture(scope="module")
def one(data, tmp_path_factory):
    """The folder of the runs of one process, and what it had at the end of each."""
    output = tmp_path_factory.mktemp("one")
    return output, run_cases(list(CASES), str(data), str(output))


@pytest.fixture(scope="module")
def two(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("two")
    return output, run_ranks(2, "training_cases:run_cases", list(CASES), str(data), str(output), timeout=400)


@pytest.fixture(scope="module")
def three(data, tmp_path_factory):
    """One process with batches of 6, and three with batches of 2."""
    alone, shared = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("three")
    run_cases(ON_THREE, str(data), str(alone), 6)
    return alone, shared, run_ranks(3, "training_cases:run_cases", ON_THREE, str(data), str(shared), 6, timeout=400)


def initial_state(name, data):
    torch.manual_seed(0)
    return build_model(config(name, data, "", 1).model).state_dict()


@pytest.mark.parametrize("name", STEPS)
def test_the_gradient_is_that_of_one_process_with_the_whole_batch(name, data, one, two):
    """One step of plain gradient descent with rate 1 shows it."""
    before = initial_state(name, data)
    after = [load(output, name)["state_dict"] for output in (one[0], two[0])]
    gradients = [{key: state[f"model.{key}"] - value for key, value in before.items()} for state in after]
    assert max(g.abs().max() for g in gradients[0].values()) > 0.01
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SAME_AS_ONE)
def test_short_trainings_end_with_the_same_weights(name, one, two):
    first, second = (load(output, name) for output in (one[0], two[0]))
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=1e-7, atol=1e-8)
    assert first["global_step"] == second["global_step"]


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("name", ON_THREE)
def test_three_processes_agree_with_one_too(name, three):
    alone, shared, of_rank = three
    first, second = (load(output, name) for output in (alone, shared))
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=1e-7, atol=1e-8)
    assert of_rank[0][name] == of_rank[1][name] == of_rank[2][name]


@pytest.mark.parametrize("name", list(CASES))
def test_processes_agree_on_weights_best_checkpoint_early_stop_and_rate(name, two):
    first, second = (of_rank[name] for of_rank in two[1])
    assert first == second


def test_cases_do_what_they_are_for(one, two):
    assert one[1]["run-early-stop"]["best"][3] < 10
    assert two[1][0]["run-early-stop"]["best"][1:] == one[1]["run-early-stop"]["best"][1:]
    assert one[1]["run-plateau"]["lr"] < 0.1
    assert two[1][0]["run-plateau"]["lr"] == one[1]["run-plateau"]["lr"]


@pytest.mark.parametrize("name", SAME_AS_ONE)
def test_curves_are_those_of_all_processes_together(name, one, two):
    first, second = (rows(output, name) for output in (one[0], two[0]))
    assert [row.keys() for row in first] == [row.keys() for row in second]
    for a, b in zip(first, second, strict=True):
        assert {key: float(value) for key, value in b.items()} == pytest.approx(
            {key: float(value) for key, value in a.items()}, rel=1e-6
        )


def rows(output, name):
    with RunFolder(output / name).curves.open() as handle:
        found = list(csv.DictReader(handle))
    assert found
    return [{k: v for k, v in row.items() if v and k not in ("seconds", "slices_per_s")} for row in found]


def test_slices_per_second_count_all_processes(two):
    """10 steps of 4 slices, two of them of 1 or 3, in the seconds that the column itself says."""
    with RunFolder(two[0] / "run-group").curves.open() as handle:
        (row,) = (row for row in csv.DictReader(handle) if row["slices_per_s"])
    n_slices = sum(slices_of_steps())
    assert float(row["slices_per_s"]) > n_slices / float(row["seconds"])  # which validations are a part of


def test_the_first_process_shows_a_slice_that_another_one_scored(one, two):
    first, second = (pictures(output / "run-pictures" / "tensorboard") for output in (one[0], two[0]))
    assert [step for step, _ in first] == [step for step, _ in second] == [5, 10]
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a.shape == b.shape == (32, 96)
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
        assert a[:, :32].std() > 10


def pictures(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    shown = events.Images("panel")
    return [
        (event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("L"))) for event in shown
    ]


def slices_of_steps():
    """8 slices: shapes of 5 and 3, in groups of 4, 1 and 3; ten groups are three epochs and one group."""
    return [4, 1, 3] * 3 + [1]


def test_a_checkpoint_loads_into_a_plain_network(two):
    """Of synchronised BatchNorm too: nothing in the file knows of processes."""
    run = RunFolder(two[0] / "run-batch")
    assert load_config(TrainConfig, run.config).sync_batchnorm
    layers = {type(layer) for layer in load_reconstructor(run).model.modules()}
    assert torch.nn.BatchNorm2d in layers
    assert not any(issubclass(layer, torch.nn.SyncBatchNorm) for layer in layers)


def test_without_synchronisation_the_running_statistics_are_those_of_the_first_process(one, two):
    alone, local = (load(output, "run-local-batch")["state_dict"] for output in (one[0], two[0]))
    mean = next(key for key in alone if key.endswith("running_mean"))
    assert not torch.allclose(alone[mean], local[mean], rtol=1e-3)
    assert all(math.isfinite(value.sum()) for value in local.values())


def test_validation_scores_the_network_of_the_checkpoint(data, two):
    """Also where each process has running statistics of its own."""
    network = load_reconstructor(RunFolder(two[0] / "run-local-batch"), "last")
    loader = ReconDataModule(DataConfig(path=str(data / "pictures")), batch_size=2).val_dataloader()[0]
    metrics = VolumeMetrics([volume.name for volume in loader.dataset.volumes])
    with torch.no_grad():
        for batch in loader:
            metrics.update(batch.target, network(batch), batch.data_range, batch.volume, batch.slice_idx)
    last = [row for row in rows(two[0], "run-local-batch") if "val_ssim" in row][-1]
    mean = mean_score(metrics.compute().values())
    assert (float(last["val_ssim"]), float(last["val_nmse"])) == pytest.approx((mean.ssim, mean.nmse), rel=1e-4)
