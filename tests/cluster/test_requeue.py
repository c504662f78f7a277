"""A stopped run asks SLURM to start its job again, when and only when that is right."""

import json
import signal

import pytest
from fake_programs import FakePrograms

from mrirecon.cluster.requeue import requeue, restarts, slurm_facts, was_begun_here

FACTS = "JobId=7 JobName=x UserId=root(0) JobState={state} Reason={why} Requeue={may} Restarts=0 BatchFlag={batch}\n"
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_RESTART_COUNT": "1"}


def facts(state, why="None", may=1, batch=1):
    return FACTS.format(state=state, why=why, may=may, batch=batch)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    old = signal.getsignal(signal.SIGTERM)
    yield FakePrograms(tmp_path, monkeypatch)
    signal.signal(signal.SIGTERM, old)


@pytest.mark.parametrize(
    ("state", "may", "batch", "asked"),
    [
        ("RUNNING", 1, 1, True),
        ("COMPLETING TimeLimit", 1, 1, True),
        ("COMPLETING", 1, 1, False),  # cancelled, preempted, or requeued by an administrator
        ("PENDING", 1, 1, False),  # an administrator was quicker
        ("CANCELLED", 1, 1, False),
        ("TIMEOUT TimeLimit", 1, 1, False),
        ("RUNNING", 0, 1, False),  # sbatch --no-requeue
        ("RUNNING", 1, 0, False),  # salloc
    ],
)
def test_only_a_running_batch_job_is_requeued(programs, state, may, batch, asked):
    programs.says("scontrol", facts(*state.split(), may=may, batch=batch))
    assert requeue(programs.folder / "slurm", True) == asked
    assert ("scontrol requeue 7" in programs.calls) == asked


def test_an_array_task_is_requeued_alone(programs, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    programs.says("scontrol", facts("RUNNING"))
    assert requeue(programs.folder / "slurm", True)
    assert programs.calls[-1] == "scontrol requeue 5_2"


@pytest.mark.parametrize(("said", "borne"), [("0", 0), ("1", 1), (None, 2), ("many", 2)])
def test_starts_that_lead_no_further_are_borne_so_often_and_no_more(programs, monkeypatch, capsys, said, borne):
    """In a row: progress in between begins the count anew; every start is a process of its own."""
    monkeypatch.setenv("MRIRECON_REQUEUES", said) if said else monkeypatch.delenv("MRIRECON_REQUEUES", raising=False)
    programs.says("scontrol", facts("RUNNING"))
    folder = programs.folder / "slurm"
    assert requeue(folder, True)
    for _ in range(2):
        assert [requeue(folder, False) for _ in range(borne)] == [True] * borne
        assert capsys.readouterr().err == ""
        asked = len(programs.calls)
        assert not requeue(folder, False)
        assert f"{borne + 1} starts in a row led no further (at most {borne} may)" in capsys.readouterr().err
        assert not [call for call in programs.calls[asked:] if "requeue" in call]
        assert requeue(folder, True)
        assert list(folder.iterdir() if folder.exists() else []) == []


def test_starts_of_another_job_do_not_count(programs, monkeypatch):
    programs.says("scontrol", facts("RUNNING"))
    monkeypatch.setenv("MRIRECON_REQUEUES", "1")
    folder = programs.folder / "slurm"
    assert requeue(folder, False)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert requeue(folder, False)
    assert not requeue(folder, False)


def test_outside_of_a_job_nothing_is_asked(programs, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID")
    programs.says("scontrol", facts("RUNNING"))
    assert not requeue(programs.folder / "slurm", True)
    assert programs.calls == []


@pytest.mark.parametrize("error", ["Unable to contact slurm controller", "Access/permission denied"])
def test_a_refusal_is_said_and_is_no_error(programs, capsys, error):
    programs.says("scontrol", "", 1, error)
    assert not requeue(programs.folder / "slurm", True)
    assert error in capsys.readouterr().err


def test_a_job_knows_the_run_it_began(tmp_path):
    stored = tmp_path / "provenance.json"
    assert not was_begun_here(stored, JOB)
    stored.write_text(json.dumps(slurm_facts(JOB)))
    assert json.loads(stored.read_text()) == {"slurm": {"job": "7", "nodes": "n[1-2]", "restarts": 1}}
    assert was_begun_here(stored, JOB)
    assert not was_begun_here(stored, JOB | {"SLURM_JOB_ID": "8"})
    assert not was_begun_here(stored, {name: JOB[name] for name in JOB if name != "SLURM_RESTART_COUNT"})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"slurm": 1}', '{"slurm": {"job": null}}'])
def test_a_damaged_note_names_no_job(tmp_path, content):
    stored = tmp_path / "provenance.json"
    stored.write_text(content)
    assert not was_begun_here(stored, JOB)


def test_outside_of_a_job_there_are_no_facts():
    assert slurm_facts({}) == {}
    assert restarts({"SLURM_RESTART_COUNT": "3"}) == 0
