"""What a training of several processes says, stores and refuses before it begins."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from mrirecon import ranks
from mrirecon.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.config.slurm import JobConfig
from mrirecon.errors import InputError
from mrirecon.runs import RunFolder
from mrirecon.termination import STOP_SIGNALS, StopRequest
from mrirecon.training.loop.validate_and_keep import read_settings
from mrirecon.workflows.setup import training_work
from mrirecon.workflows.setup.training_work import MAY_CHANGE, TrainingWork, _use_threads
from mrirecon.workflows.train import announce


@pytest.fixture
def config(tmp_path, volume_writer):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        volume_writer(tmp_path / split / f"{split}.h5", n_slices=3, n_coils=2, matrix=(32, 32))
    model = ModelConfig(channels=4, pools=2, norm="batch")
    return TrainConfig(
        data=DataConfig(path=str(tmp_path)),
        model=model,
        batch_size=2,
        precision="fp32",
        threads=1,
        device="cpu",
        max_steps=4,
    )


@pytest.fixture
def processes(monkeypatch):
    """Pretends that so many processes run together."""
    return lambda n: monkeypatch.setattr(ranks, "world_size", lambda: n)


def test_the_effective_batch_is_printed_and_stored(config, processes, capsys, tmp_path):
    processes(6)
    work = TrainingWork(replace(config, devices=3, num_nodes=2, accumulate=5))
    announce(work, RunFolder(tmp_path / "run"))
    said = capsys.readouterr().err
    assert "4 steps x 60 slices (batches of 2 x 6 processes x 5 accumulated batches)" in said
    assert "BatchNorm normalises with the 2 slices of each process" in said
    assert work.provenance()["batch"] == {"size": 2, "processes": 6, "accumulate": 5, "slices_per_step": 60}


@pytest.mark.parametrize(
    ("n", "norm", "synchronised", "note"),
    [
        (1, "batch", True, "--sync-batchnorm has no effect, one process has the whole batch"),
        (2, "group", True, "--sync-batchnorm has no effect, the network has no BatchNorm"),
        (2, "batch", True, None),
        (1, "batch", False, None),
        (2, "group", False, None),
    ],
)
def test_notes_say_what_batch_norm_does(config, processes, capsys, tmp_path, n, norm, synchronised, note):
    processes(n)
    work = TrainingWork(replace(config, devices=n, sync_batchnorm=synchronised, model=replace(config.model, norm=norm)))
    announce(work, RunFolder(tmp_path / "run"))
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note") and "atch" in line]
    assert len(notes) == (note is not None)
    assert not notes or note in notes[0]


def test_other_processes_than_asked_for_are_refused(config, processes):
    with pytest.raises(InputError, match="devices 2 x num_nodes 1 is 2, but 1 processes run"):
        TrainingWork(replace(config, devices=2))
    processes(4)
    with pytest.raises(InputError, match="devices 1 x num_nodes 2 is 2, but 4 processes run"):
        TrainingWork(replace(config, num_nodes=2))


def test_a_range_test_is_for_one_process(config, processes):
    processes(4)
    with pytest.raises(InputError, match=r"--devices 1 --num-nodes 1 --batch-size 8 "):
        TrainingWork(replace(config, devices=4, optimizer=OptimizerConfig(lr="find")))


def test_a_resumed_run_needs_as_many_processes_wherever_they_are(config, processes, tmp_path):
    run = RunFolder(tmp_path / "run")
    processes(4)
    stored = TrainingWork(replace(config, devices=2, num_nodes=2)).settings
    here = TrainingWork(replace(config, devices=4, slurm=JobConfig(nodes=1, time=5)))
    here.require_settings(stored, run)
    with pytest.raises(InputError, match="was trained with 1 process, not 4"):
        here.require_settings({key: value for key, value in stored.items() if key != "processes"}, run)
    assert not {key for key in stored if key.startswith("slurm.") or key in ("devices", "num_nodes")}
    assert {"devices", "num_nodes"} <= set(MAY_CHANGE)
    processes(2)
    with pytest.raises(InputError, match="was trained with 4 processes, not 2"):
        TrainingWork(replace(config, devices=2)).require_settings(stored, run)


@pytest.mark.parametrize(("n_cores", "n", "threads"), [(8, 2, 4), (8, 3, 2), (2, 4, 1)])
def test_processes_share_the_cores(config, processes, monkeypatch, n_cores, n, threads):
    chosen = []
    monkeypatch.setattr(training_work.os, "sched_getaffinity", lambda _pid: set(range(n_cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_cores)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    processes(n)
    TrainingWork(replace(config, devices=n, threads=0))
    TrainingWork(replace(config, devices=n, threads=5))
    assert chosen == [threads, 5]


def test_a_stop_is_agreed_only_when_all_are_asked(monkeypatch):
    """The sums over processes decide, not what came to this one meanwhile."""
    stop = StopRequest()
    monkeypatch.setattr(ranks, "sum_of", lambda values: [2.0 * (number is signal.SIGUSR1) for number in STOP_SIGNALS])
    assert stop.agreed is None
    assert stop.agree()
    assert stop.agreed.name == "SIGUSR1"
    assert not stop  # nothing came here: a first Ctrl-C is not yet a second one


def test_a_signal_that_comes_before_the_training_listens_is_not_lost():
    stop = StopRequest()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert not stop
        stop.listen()
        assert stop.signal is signal.SIGUSR1
    finally:
        stop.restore()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@pytest.mark.parametrize(
    ("env", "n", "bound", "expected"),
    [
        ({}, 2, 8, 4),  # two processes share the cores
        ({}, 1, 8, 8),
        ({"SLURM_CPUS_PER_TASK": "3"}, 2, 8, 3),
        ({"SLURM_CPUS_PER_TASK": "3"}, 1, 8, 3),
        ({"SLURM_CPUS_PER_TASK": "8", "RANK": "1"}, 2, 8, 4),  # our launcher or torchrun in one task
        ({"SLURM_CPUS_PER_TASK": "4", "RANK": "1"}, 2, 8, 2),  # which may use more than it asked for
        ({"SLURM_CPUS_PER_TASK": "4"}, 2, 2, 2),  # no more than this process may use
    ],
)
def test_processes_share_the_cores_unless_srun_has_divided_them(config, monkeypatch, env, n, bound, expected):
    for name in ("SLURM_CPUS_PER_TASK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(bound)))
    chosen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    _use_threads(replace(config, devices=n, threads=0), "cpu")
    assert chosen == [expected]


@pytest.mark.parametrize("value", [torch.ones(2), {1, 2}, b"x"])
def test_settings_of_a_stranger_s_checkpoint_are_plain_values(tmp_path, value):
    torch.save({"callbacks": {"Keeper": {"settings": {"seed": value}}}}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="damaged or no checkpoint of a training"):
        read_settings(tmp_path / "last.ckpt")
