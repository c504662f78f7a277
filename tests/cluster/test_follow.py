"""A followed job: its log as it grows, through restarts, to its end."""

import os

import pytest

from mrirecon.cluster import jobs as following
from mrirecon.cluster.jobs import Job, cause, follow, last_words
from mrirecon.errors import WorkFailedError


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """SLURM's answers one after the other, each with what the log has gained before it."""
    log = tmp_path / "12_0_log.out"

    def play(*scenes):
        left = list(scenes)

        def find(_job):
            state, text = left.pop(0)
            if text:
                with log.open("a") as handle:
                    handle.write(text)
            if isinstance(state, BaseException):
                raise state
            return Job("12", state) if state else None

        monkeypatch.setattr(following, "find_job", find)
        monkeypatch.setattr(following, "_LOOK_S", 0.0)
        monkeypatch.setattr(following, "_ASK_S", 0.0)
        return log

    return play


def test_a_log_is_copied_once_through_a_restart(scripted, capsys):
    log = scripted(
        ("PENDING", ""),
        ("RUNNING", "one\n"),
        ("RUNNING", ""),
        ("PENDING", "stopped\n"),
        ("RUNNING", "two\n"),
        ("COMPLETED", "three\n"),
    )
    follow("12", log)
    said = capsys.readouterr()
    assert said.out == "one\nstopped\ntwo\nthree\n"
    assert said.err.splitlines() == [f"job 12: {s}" for s in ("PENDING", "RUNNING", "PENDING", "RUNNING", "COMPLETED")]


def test_a_controller_that_is_away_for_a_while_is_waited_for(scripted, capsys):
    follow("12", scripted(("RUNNING", "one\n"), (WorkFailedError("away"), ""), ("COMPLETED", "two\n")))
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", None])
def test_another_end_is_an_error_with_the_last_word(scripted, state):
    log = scripted(("RUNNING", "step 1\n"), (state, "mrirecon: the disk is full\nsrun: error: n1: task 0: Exited\n"))
    with pytest.raises(WorkFailedError, match=rf"job 12 ended as {state or 'GONE'}: the disk is full$"):
        follow("12", log)


def test_an_interrupted_follower_leaves_the_job_alone(scripted, capsys):
    log = scripted(("RUNNING", ""), (KeyboardInterrupt(), ""))
    with pytest.raises(KeyboardInterrupt):
        follow("12", log)
    assert "job 12 goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "it left no log"),
        ("", "its log is empty"),
        ("slurmstepd: error: Exceeded job memory limit\n\n", "slurmstepd: error: Exceeded job memory limit"),
        ("mrirecon: first\nmrirecon: last\nsrun: error\n", "last"),
    ],
)
def test_the_last_words_of_a_log(tmp_path, text, words):
    if text is not None:
        (tmp_path / "log").write_text(text)
    assert last_words(tmp_path / "log").startswith(words)


KILLED = "srun: error: n2: task 1: Killed\n"
ENDING = "srun: launch/slurm: _step_signal: Terminating StepId=1.0\n"
START = "submitit INFO (2026-01-01 00:00:00,000) - Starting with JobEnvironment(job_id=12, hostname=n1)\n"


@pytest.mark.parametrize(
    ("logs", "told"),
    [
        (["mrirecon: closed by peer\nsrun: error: task 1\n", "mrirecon: a.h5 is truncated\n"], "process 1: a.h5"),
        (["mrirecon: a.h5 is truncated\nsrun: error\n", "mrirecon: closed by peer\n"], "a.h5 is truncated"),
        ([f"{KILLED}{ENDING}mrirecon: closed by peer\n", "step 1\n"], "process 1 on n2 was ended from outside: Killed"),
        ([f"step 1\n{ENDING}{KILLED}", "mrirecon: a.h5 is truncated\n"], "process 1: a.h5"),  # killed for its sake
        ([f"{KILLED}{START}mrirecon: late\n", "step 1\n"], "late"),  # killed in an earlier start
        (["mrirecon: late\n", "mrirecon: stopped, saved\nstep 9\n"], "late"),  # which had been started again
    ],
)
def test_the_process_that_ended_first_is_told(tmp_path, logs, told):
    ends = [2, 1] if told.startswith("process 1") else [1, 2]
    for rank, (text, end) in enumerate(zip(logs, ends, strict=True)):
        log = tmp_path / f"12_{rank}_log.out"
        log.write_text(text)
        os.utime(log, (end, end))
    (tmp_path / "13_0_log.out").write_text("mrirecon: of another job\n")
    assert cause(tmp_path / "12_0_log.out").startswith(told)
