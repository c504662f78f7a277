"""The real wandb client, offline: its own files hold the curves, panels, tables and configuration of a run."""

import csv
import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter

import pytest

from mrirecon.config import DataConfig, ModelConfig, TrainConfig
from mrirecon.errors import Stopped
from mrirecon.runs import open_run
from mrirecon.training.module import ReconModule
from mrirecon.workflows.train import train

PATIENT = "Zaphod-Beeblebrox-1942"
RESUME = "import sys; from mrirecon.cli import main; sys.exit(main())"

pytestmark = pytest.mark.filterwarnings("ignore")  # the client warns about its own future


@pytest.fixture(scope="module")
def run(tmp_path_factory, volume_writer):
    """A run of 20 steps that was stopped after step 12 and went on in another process."""
    root = tmp_path_factory.mktemp("wandb")
    for split in ("train", "val"):
        (root / "data" / split).mkdir(parents=True)
        for i in range(2):
            volume_writer(root / "data" / split / f"{split}{i}.h5", matrix=(32, 32), patient_id=PATIENT, seed=i)
    config = TrainConfig(
        data=DataConfig(path=str(root / "data"), acceleration=[4, 8]),
        model=ModelConfig(channels=4, pools=2),
        max_steps=20,
        val_every=10,
        precision="fp32",
        device="cpu",
        threads=1,
        logger="wandb",
        output=str(root / "run"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        (root / "home").touch()
        patch.setenv("HOME", str(root / "home"))  # where nobody can write: wandb's staging files go to the run
        patch.setenv("WANDB_SILENT", "true")
        stop_at_batch(patch, 11)
        with pytest.raises(Stopped):
            train(config)
        assert not {"WANDB_MODE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"} & set(os.environ)
        first = json.loads(open_run(config.output).provenance.read_text())["wandb"]
        command = [sys.executable, "-c", RESUME, "train", "--resume", config.output, "--quiet"]
        done = subprocess.run(command, capture_output=True, check=False, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert first["id"]
    return open_run(config.output), first


def stop_at_batch(patch, number):
    original = ReconModule.on_train_batch_start

    def arriving(self, batch, batch_idx):
        if batch_idx == number:
            signal.raise_signal(signal.SIGTERM)
        original(self, batch, batch_idx)

    patch.setattr(ReconModule, "on_train_batch_start", arriving)


def records(path):
    """wandb writes a LevelDB log: after a 7-byte head, blocks of 32 KiB of (crc 4, length 2, type 1, data)."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # the rest of a block is padding
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def all_records(run, kind):
    """Records of one kind, of both processes, in order."""
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    return [getattr(r, kind) for file in files for r in records(file) if r.WhichOneof("record_type") == kind]


def history(run):
    for record in all_records(run, "history"):
        yield {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.item}


def rows(run):
    with run.curves.open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("name", ["train_loss", "lr", "val_loss", "val_ssim", "val_psnr", "val_nmse"])
def test_curves_equal_the_csv_file(run, name):
    logged = [(row["trainer/global_step"], row[name]) for row in history(run[0]) if name in row]
    stored = [(int(row["step"]), float(row[name])) for row in rows(run[0]) if row[name]]
    assert [step for step, _ in logged] == [step for step, _ in stored] == [10, 20]
    assert [value for _, value in logged] == pytest.approx([value for _, value in stored], rel=1e-8)


def test_each_validation_shows_a_panel(run):
    shown = [row for row in history(run[0]) if any(key.startswith("panel") for key in row)]
    assert [row["trainer/global_step"] for row in shown] == [10, 20]
    assert len(list(run[0].path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 2


def test_each_validation_has_a_table_of_volumes(run):
    tables = {}
    for file in run[0].path.glob("wandb/offline-run-*/files/media/table/val_volumes*.json"):
        table = json.loads(file.read_text())
        assert table["columns"] == ["step", "volume", "acceleration", "n_slices", "ssim", "psnr", "nmse", "ssim_object"]
        tables[table["data"][0][0]] = table["data"]
    assert sorted(tables) == [10, 20]
    scores = {int(row["step"]): row for row in rows(run[0]) if row["val_ssim"]}
    for step, data in tables.items():
        assert {(row[0], row[1], row[2]) for row in data} == {
            (step, f"val/val{i}.h5", acceleration) for i in range(2) for acceleration in (4, 8)
        }
        assert {row[3] for row in data} == {3}
        for column, name in enumerate(("val_ssim", "val_psnr", "val_nmse", "val_ssim_object"), start=4):
            mean = sum(row[column] for row in data) / len(data)
            assert mean == pytest.approx(float(scores[step][name]), rel=1e-8)


def test_the_configuration_is_there(run):
    first, second = all_records(run[0], "run")
    for record in (first, second):
        config = {item.key: json.loads(item.value_json) for item in record.config.update}
        assert config["max_steps"] == 20
        assert config["model"]["channels"] == 4
        assert config["data"]["acceleration"] == [4, 8]


def test_a_resumed_run_is_the_same_wandb_run_and_provenance_names_it(run):
    run, first = run
    now = json.loads(run.provenance.read_text())["wandb"]
    assert {record.run_id for record in all_records(run, "run")} == {first["id"]}
    folders = first.pop("offline_folder"), now.pop("offline_folder")
    assert now == first == {"id": first["id"], "project": "mrirecon", "name": "run", "url": None}
    assert len(set(folders)) == 2
    for folder in folders:
        assert list((run.path / folder).glob(f"*{first['id']}.wandb"))


def test_no_patient_is_named_anywhere(run):
    run, _ = run
    files = [path for path in (run.path / "wandb").rglob("*") if path.is_file()]
    assert len(files) > 10
    contents = [path.read_bytes() for path in files]
    for log in run.path.rglob("*.wandb"):  # the log is cut into blocks, so look into whole records too
        contents += [record.SerializeToString() for record in records(log)]
    found = Counter(word for word in (b"val0.h5", PATIENT.encode()) for content in contents if word in content)
    assert found[b"val0.h5"]
    assert not found[PATIENT.encode()]
