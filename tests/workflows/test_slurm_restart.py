"""A SLURM job that is started again goes on with the run that it began, and with no other."""

import json
from dataclasses import replace

import pytest

from mrirecon.errors import InputError
from mrirecon.training.loop.curves import Journal
from mrirecon.workflows.train import train


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Sets what SLURM tells a batch job; restarts None is outside of one."""
    monkeypatch.chdir(tmp_path)

    def start(restarts, number="7"):
        env = {"SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "n[1-2]", "ENVIRONMENT": "BATCH"}
        for name in (*env, "SLURM_RESTART_COUNT", "SLURM_STEP_ID", "SLURM_ARRAY_JOB_ID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items() if restarts is not None else ():
            monkeypatch.setenv(name, value)
        if restarts:
            monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))

    return start


def test_a_job_goes_on_in_its_own_folder(quick, job, tmp_path):
    config = quick(output="", max_steps=4, val_every=2)
    job(0)
    run = train(config)
    assert run.path.resolve() == tmp_path / "runs" / "batch-adam-7"
    assert json.loads(run.provenance.read_text())["slurm"] == {"job": "7", "nodes": "n[1-2]", "restarts": 0}
    rows, weights = len(Journal(run.curves).rows()), run.weights.read_bytes()
    job(2)
    assert train(config).path == run.path
    assert json.loads(run.provenance.read_text())["slurm"]["restarts"] == 2
    assert (len(Journal(run.curves).rows()), run.weights.read_bytes()) == (rows, weights)


def test_a_job_without_a_checkpoint_begins_again(quick, job):
    config = quick(max_steps=4, val_every=2)
    job(0)
    run = train(config)
    for path in run.checkpoints.iterdir():
        path.unlink()
    weights = run.weights.read_bytes()
    run.weights.unlink()
    job(1)
    train(config)
    assert run.weights.read_bytes() == weights
    assert run.checkpoint("last").is_file()


@pytest.mark.parametrize(
    ("restarts", "number", "changes"),
    [(1, "8", {}), (0, "7", {}), (None, "7", {}), (1, "7", {"seed": 5}), (1, "7", {"max_steps": 6})],
)
def test_what_another_job_or_another_training_began_is_left_alone(quick, job, restarts, number, changes):
    config = quick(max_steps=4, val_every=2)
    job(0)
    run = train(config)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    job(restarts, number)
    with pytest.raises(InputError, match="not empty"):
        train(replace(config, **changes))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_one_job_may_train_several_networks(quick, job, tmp_path):
    configs = [quick(output="", max_steps=2, val_every=2, seed=seed) for seed in (1, 2)]
    job(0)
    runs = [train(config) for config in configs]
    assert [run.name for run in runs] == ["batch-adam-7", "batch-adam-7-2"]
    weights = [run.weights.read_bytes() for run in runs]
    job(1)
    again = [train(config) for config in reversed(configs)]
    assert [run.path for run in reversed(again)] == [run.path for run in runs]
    assert [run.weights.read_bytes() for run in runs] == weights
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_outside_of_a_job_a_run_is_named_by_the_time(quick, job):
    job(None)
    run = train(quick(output="", max_steps=2, val_every=2))
    assert run.name.startswith("batch-adam-2")
    assert "slurm" not in json.loads(run.provenance.read_text())
