"""The real wandb client, offline: its own file holds the curves and the image panels."""

import json
import struct

import pytest

from mrirecon.config import DataConfig, ModelConfig, TrainConfig
from mrirecon.workflows.train import train


@pytest.fixture
def history(tmp_path, volume_writer, monkeypatch):
    """Records of a short run, read back from its own file."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        volume_writer(tmp_path / "data" / split / f"{split}.h5", matrix=(32, 32))
    run = train(
        TrainConfig(
            data=DataConfig(path=str(tmp_path / "data")),
            model=ModelConfig(channels=4, pools=2),
            max_steps=20,
            val_every=10,
            precision="fp32",
            device="cpu",
            threads=1,
            logger="wandb",
            output=str(tmp_path / "run"),
        )
    )
    return run, list(records(next(run.path.rglob("*.wandb"))))


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


@pytest.mark.filterwarnings("ignore")  # the client warns about its own future
def test_offline_history_holds_curves_panels_and_configuration(history):
    run, found = history
    rows = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    by_step = {}
    for row in rows:
        by_step.setdefault(row.get("trainer/global_step"), {}).update(row)
    assert {10, 20} <= set(by_step)
    assert {"train_loss", "lr", "val_ssim", "val_psnr", "val_nmse"} <= set(by_step[20])
    panels = [json.loads(json.dumps(v)) for row in rows for k, v in row.items() if k.startswith("panel")]
    assert panels
    assert list(run.path.rglob("media/images/*.png"))
    assert run.curves.is_file()
    configs = [record for record in found if record.WhichOneof("record_type") in ("config", "run")]
    text = " ".join(str(record) for record in configs)
    assert "onecycle" in text
    assert "patient" not in text
