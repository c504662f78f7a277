"""States of jobs, from what squeue and scontrol of SLURM 22.05 said."""

import pytest
from fake_programs import FakePrograms

from mrirecon.cluster.jobs import Job, batch_job, find_job, job_states, parse_jobs, parse_queue, this_job
from mrirecon.errors import WorkFailedError

QUEUE = "1 CANCELLED\n5_1 PENDING\n5_2 PENDING\n5_0 RUNNING\n"
# a job whose name looks like facts about it; an array's task; one that is cancelled and not yet gone
RUNNING = (
    "JobId=6 ArrayJobId=5 ArrayTaskId=0 ArrayTaskThrottle=1 JobName=a b JobState=FAILED JobId=3 ArrayJobId=4 "
    "ExitCode=9:9 UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901755 Nice=0 Account=(null) "
    "QOS=(null) JobState=RUNNING Reason=None "
    "Dependency=(null) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:02 "
    "TimeLimit=365-00:00:00 TimeMin=N/A SubmitTime=2026-11-24T22:25:31 Partition=main AllocNode:Sid=localhost:19038 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList=n1 BatchHost=n1 NumNodes=1 Command=(null) WorkDir=/tmp/x Power= "
)
CANCELLED = (
    "JobId=1 JobName=j.sh UserId=root(0) GroupId=root(0) JobState=COMPLETING Reason=None Dependency=(null) Requeue=0 "
    "Restarts=1 BatchFlag=1 Reboot=0 ExitCode=0:15 RunTime=00:00:03 NodeList=n[1-2] BatchHost=n1 NumNodes=2 Power= "
)
UNKNOWN = "slurm_load_jobs error: Invalid job id specified\n"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    return FakePrograms(tmp_path, monkeypatch)


def test_the_queue_names_each_task_of_an_array():
    assert parse_queue(QUEUE) == {"1": "CANCELLED", "5_1": "PENDING", "5_2": "PENDING", "5_0": "RUNNING"}


def test_a_job_is_read_whatever_its_name_is():
    running, cancelled = parse_jobs(RUNNING + "\n" + CANCELLED + "\n\n")
    assert (running.id, running.state, running.restarts, running.exit_code) == ("5_0", "RUNNING", 2, 0)
    assert running.is_batch
    assert running.may_requeue
    assert (cancelled.id, cancelled.state, cancelled.restarts, cancelled.exit_code) == ("1", "COMPLETING", 1, 0)
    assert not cancelled.may_requeue


@pytest.mark.parametrize(
    ("state", "over"),
    [
        *((state, False) for state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED")),
        *((state, True) for state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")),
    ],
)
def test_which_states_are_the_end(state, over):
    assert Job("1", state).is_over == over


def test_states_come_from_one_question(programs):
    programs.says("squeue", QUEUE)
    assert job_states(["5_0", "77", "5_1", "1"]) == {"5_0": "RUNNING", "77": "GONE", "5_1": "PENDING", "1": "CANCELLED"}
    assert programs.calls == ["squeue --noheader --array --states=all --format=%i %T --jobs=5,77,1"]


def test_a_job_that_slurm_has_forgotten_is_gone(programs):
    programs.says("squeue", "", 1, UNKNOWN)
    assert job_states(["1"]) == {"1": "GONE"}


def test_nothing_is_asked_about_no_jobs(programs):
    assert job_states([]) == {}
    assert programs.calls == []


def test_a_controller_that_is_away_is_no_job_that_is_gone(programs):
    programs.says("scontrol", "", 1, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(WorkFailedError, match=r"does not answer .*Unable to contact slurm controller"):
        find_job("1")


def test_without_slurm_one_line_says_so(programs):
    with pytest.raises(WorkFailedError, match="no squeue here"):
        job_states(["1"])


def test_a_process_knows_its_job():
    assert this_job({}) == ""
    assert this_job({"SLURM_JOB_ID": "12"}) == "12"
    assert this_job({"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}) == "12_3"


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "12"}, ""),  # salloc
        ({"SLURM_JOB_ID": "12", "ENVIRONMENT": "BATCH"}, "12"),
        ({"SLURM_JOB_ID": "12", "ENVIRONMENT": "BATCH", "SLURM_STEP_ID": "0"}, "12"),
        ({"SLURM_JOB_ID": "12", "ENVIRONMENT": "BATCH", "SLURM_STEP_ID": "2"}, "12.2"),
    ],
)
def test_each_step_of_a_batch_job_has_a_word(env, word):
    assert batch_job(env) == word
