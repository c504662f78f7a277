"""TensorBoard's event files, read back by TensorBoard: they equal curves.csv, after a crash and a resume too."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.runs import open_run
from mrirecon.training.module import ReconModule
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train

PATIENT = "Zaphod-Beeblebrox-1942"


@pytest.fixture(scope="module")
def make_config(tmp_path_factory, volume_writer):
    root = tmp_path_factory.mktemp("tensorboard")
    for split in ("train", "val"):
        (root / "data" / split).mkdir(parents=True)
        volume_writer(root / "data" / split / f"{split}.h5", matrix=(32, 32), patient_id=PATIENT)

    def make(name, logger="tensorboard"):
        return TrainConfig(
            data=DataConfig(path=str(root / "data")),
            model=ModelConfig(channels=4, pools=2),
            optimizer=OptimizerConfig(lr=3e-3),
            max_steps=20,
            val_every=4,
            precision="fp32",
            device="cpu",
            threads=1,
            logger=logger,
            output=str(root / name),
        )

    return make


@pytest.fixture(scope="module")
def whole(make_config):
    return train(make_config("whole"))


@pytest.fixture(scope="module")
def crashed(make_config):
    """A run that fails after its checkpoint at step 8 and its curve row at step 10, and then goes on from step 8."""
    config = make_config("crashed")
    original = ReconModule.on_train_batch_start

    def failing(self, batch, batch_idx):
        if batch_idx == 11:
            raise RuntimeError("no power")
        original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReconModule, "on_train_batch_start", failing)
        with pytest.raises(RuntimeError, match="no power"):
            train(config)
    assert "10" in [row["step"] for row in rows(open_run(config.output))]
    return resume_training(config.output, config)


def rows(run):
    with run.curves.open() as handle:
        return list(csv.DictReader(handle))


def events(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize("which", ["whole", "crashed"])
@pytest.mark.parametrize("name", ["train_loss", "lr", "val_loss", "val_ssim", "val_psnr", "val_nmse"])
def test_curves_equal_the_csv_file(request, which, name):
    run = request.getfixturevalue(which)
    shown = events(run).Scalars(name)
    stored = [(int(row["step"]), float(row[name])) for row in rows(run) if row[name]]
    assert [event.step for event in shown] == [step for step, _ in stored]
    assert [event.value for event in shown] == pytest.approx([value for _, value in stored], rel=1e-6)  # single


@pytest.mark.parametrize("which", ["whole", "crashed"])
def test_each_validation_shows_target_zero_filled_and_reconstruction(request, which):
    panels = events(request.getfixturevalue(which)).Images("panel")
    assert [panel.step for panel in panels] == [4, 8, 12, 16, 20]
    pictures = [np.asarray(Image.open(io.BytesIO(panel.encoded_image_string)), float) for panel in panels]
    assert {picture.shape[:2] for picture in pictures} == {(32, 96)}
    target, zero_filled, reconstruction = np.split(pictures[-1], 3, axis=1)
    assert target.max() == 255
    assert not np.array_equal(zero_filled, reconstruction)
    assert np.array_equal(target, pictures[0][:, :32])  # fixed slice, fixed mask


def test_the_configuration_is_shown_as_hyperparameters(crashed):
    from tensorboard.plugins.hparams.metadata import (
        EXPERIMENT_TAG,
        SESSION_START_INFO_TAG,
        parse_session_start_info_plugin_data,
    )

    summaries = events(crashed).summary_metadata
    start = parse_session_start_info_plugin_data(summaries[SESSION_START_INFO_TAG].plugin_data.content)
    assert start.hparams["optimizer.lr"].number_value == 3e-3
    assert start.hparams["model.channels"].number_value == 4
    assert start.hparams["data.acceleration"].string_value == "[4]"
    assert EXPERIMENT_TAG in summaries


def test_event_files_lie_in_the_folder_itself(whole):
    assert list((whole.path / "tensorboard").glob("events.out.tfevents.*"))
    assert not [path for path in (whole.path / "tensorboard").iterdir() if path.is_dir()]


def test_no_patient_is_named(whole, crashed):
    for run in (whole, crashed):
        files = [path for path in (run.path / "tensorboard").rglob("*") if path.is_file()]
        contents = b"".join(path.read_bytes() for path in files)
        assert b"val_ssim" in contents
        assert PATIENT.encode() not in contents


@pytest.mark.parametrize("name", ["csv", "none"])
def test_nothing_is_written_beside_the_csv_file(make_config, name):
    run = train(make_config(name, logger=name))
    assert rows(run)
    assert not (run.path / "tensorboard").exists()
    assert not (run.path / "wandb").exists()
