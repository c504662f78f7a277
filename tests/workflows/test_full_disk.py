"""A disk without room: the old checkpoint is kept, nothing half-written is left, one line says what to do."""

import errno
import os
import subprocess
from dataclasses import replace

import pytest
from test_resume import assert_same_run, checkpoint

from mrirecon import configfile
from mrirecon.cli import main
from mrirecon.errors import WorkFailedError
from mrirecon.files import is_disk_full
from mrirecon.runs import open_run
from mrirecon.training.checkpoints import write as checkpoint_files
from mrirecon.training.checkpoints.read import sound_digest
from mrirecon.workflows.resume import resume_training
from mrirecon.workflows.train import train


def filling(monkeypatch, after, number=errno.ENOSPC):
    """Half of a checkpoint fits after `after` whole ones."""
    original, written = checkpoint_files._Hashing.write, []

    def write(self, data):
        if self.handle not in written:
            written.append(self.handle)
        if len(written) > after and self.handle.tell() > 10_000:
            raise OSError(number, os.strerror(number))
        return original(self, data)

    monkeypatch.setattr(checkpoint_files._Hashing, "write", write)


def assert_tidy(run, *names):
    files = {f"{name}.ckpt{end}" for name in names for end in ("", ".sha256")}
    assert {path.name for path in run.checkpoints.iterdir()} == files
    assert all(sound_digest(run.checkpoint(name)) for name in names)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_old_checkpoint_is_kept_and_the_run_goes_on(quick, monkeypatch, number):
    whole = train(quick("whole", checkpoint_every=3))
    config = quick("full", checkpoint_every=3)
    with monkeypatch.context() as patch:
        filling(patch, 3, number)  # step 3; step 4, which is best and last
        with pytest.raises(WorkFailedError) as caught:
            train(config)
    run = open_run(config.output)
    assert str(caught.value) == (
        f"no room in {run.path} at step 6; the checkpoint of step 4 is kept; make room and go on with: "
        f"mrirecon train --resume {run.path}"
    )
    assert is_disk_full(caught.value)  # an ablation stops its study for it, whatever the words
    assert_tidy(run, "last", "previous", "best")
    assert_same_run(whole, resume_training(config.output, config))


def test_without_a_checkpoint_the_run_starts_again(quick, monkeypatch):
    filling(monkeypatch, 0)
    with pytest.raises(WorkFailedError, match=r"at step 4; there is no checkpoint yet; .* mrirecon train -c .*run/con"):
        train(quick())
    assert not list(open_run(quick().output).checkpoints.iterdir())


def no_room(*_arguments, **_words):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["mrirecon.training.loop.curves.Curves._write_training", "safetensors.torch.save"])
def test_other_files_of_the_run_find_no_room(quick, monkeypatch, place):
    """Curves while it trains, the weights at its end."""
    whole = train(quick("whole"))
    config = quick("full")
    with monkeypatch.context() as patch:
        patch.setattr(place, no_room)
        with pytest.raises(WorkFailedError, match=r"no room .* is kept; make room and go on with: mrirecon train --re"):
            train(config)
    assert_same_run(whole, resume_training(config.output, config))


def test_another_error_is_not_taken_for_a_full_disk(quick, monkeypatch):
    filling(monkeypatch, 0, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        train(quick())


def test_a_real_small_disk(quick, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    config = quick(checkpoint_every=1, max_steps=30, val_every=30)
    size = len_of_checkpoint(config, tmp_path)
    room = 2 * size + size // 2 + 60_000  # two whole ones and a half, and the small files
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        configfile.save(replace(config, output=str(disk / "run")), tmp_path / "c.yaml")
        capsys.readouterr()
        assert main(["train", "-c", str(tmp_path / "c.yaml"), "--quiet"]) == 1
        said = capsys.readouterr().err
        run = open_run(disk / "run")
        step = checkpoint(run)["global_step"]
        assert said.count("\n") == 1
        assert f"the checkpoint of step {step} is kept; make room and go on with: mrirecon train --resume" in said
        assert_tidy(run, "last", *(["previous"] if step > 1 else []))
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
        whole = train(replace(config, output=str(tmp_path / "whole")))
        assert_same_run(whole, run)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def len_of_checkpoint(config, tmp_path):
    run = train(replace(config, output=str(tmp_path / "one"), max_steps=1))
    return run.checkpoint("last").stat().st_size
