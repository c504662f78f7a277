"""The module and the data module work with anybody's `Trainer(devices=2, strategy="ddp")`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import plain_ddp
import pytest
import torch


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and logging
@pytest.mark.parametrize("n_val_slices", [1, pytest.param(3, marks=pytest.mark.slow)])  # one unit for two, or two
def test_two_processes_of_a_plain_trainer_equal_one(tmp_path, volume_writer, n_val_slices):
    """With an uneven number of slices, and one that is left over for the first process."""
    for split, n_slices in (("train", 13), ("val", n_val_slices)):
        (tmp_path / split).mkdir()
        volume_writer(tmp_path / split / f"{split}.h5", n_slices=n_slices, n_coils=2, matrix=(32, 32), seed=n_slices)
    script, answer = Path(plain_ddp.__file__), tmp_path / "answer.json"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(script), str(tmp_path), str(answer)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    scores, weights, n_steps = json.loads(answer.read_text())
    expected, alone, trainer = plain_ddp.fit(tmp_path, 1)
    assert n_steps == trainer.global_step == 8
    assert scores == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(torch.tensor(weights), alone, rtol=0, atol=1e-5)
