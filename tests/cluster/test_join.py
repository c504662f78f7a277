"""Which process this is, from what torchrun, srun and our own launcher leave in the environment."""

import stat
from types import SimpleNamespace

import pytest

from mrirecon.cluster.join import MEETING, Place, find_place, processes_to_start, started_rank
from mrirecon.errors import InputError

SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "MASTER_ADDR": "10.0.0.1",
}
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}


def test_srun():
    place = find_place(2, 2, SRUN)
    assert (place.rank, place.local_rank, place.world_size, place.starter) == (3, 1, 4, "srun")
    assert place.meeting.startswith("tcp://10.0.0.1:")
    assert place.meeting == find_place(2, 2, SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).meeting
    assert place.meeting != find_place(2, 2, SRUN | {"SLURM_STEP_ID": "1"}).meeting
    port = int(place.meeting.rsplit(":")[-1])
    assert 12000 <= port < 32000


def test_torchrun_and_ours():
    assert find_place(2, 1, TORCHRUN) == Place(1, 1, 2, "torchrun", "env://")
    assert find_place(2, 1, TORCHRUN | {MEETING: "/x/meeting"}) == Place(1, 1, 2, "mrirecon", "file:///x/meeting")
    assert find_place(2, 1, SRUN | TORCHRUN).starter == "torchrun"
    without_local = {"RANK": "3", "WORLD_SIZE": "4"}
    assert find_place(2, 2, without_local).local_rank == 1


def test_alone():
    assert find_place(1, 1, {}) is None
    assert find_place(1, 1, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    in_sbatch_script = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert find_place(1, 1, in_sbatch_script) is None


@pytest.mark.parametrize(
    ("devices", "num_nodes", "env", "words"),
    [
        (1, 1, SRUN, "srun started 4 processes, but --devices 1 --num-nodes 1 is 1: each would do all the work"),
        (1, 1, TORCHRUN, "torchrun started 2 processes"),
        (2, 1, SRUN, "srun started 4 processes, but --devices 2 --num-nodes 1 is 2"),
        (4, 1, TORCHRUN, "torchrun started 2 processes, but --devices 4"),
        (1, 4, SRUN, "srun put more than --devices 1 processes on one node"),
        (2, 1, {}, "devices 2, but this is one process"),
        (1, 2, {}, "srun --nodes=2 --ntasks-per-node=1 --kill-on-bad-exit=1 mrirecon"),
        (0, 1, {}, "--devices 0; at least 1"),
        (1, -1, {}, "--num-nodes -1; at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(devices, num_nodes, env, words):
    with pytest.raises(InputError, match=words):
        find_place(devices, num_nodes, env)


def test_what_the_command_line_starts():
    def start(env, **keys):
        return processes_to_start(SimpleNamespace(**keys), env)

    assert start({}, devices=1, num_nodes=1) == 0
    assert start({}, devices=3, num_nodes=1) == 3
    assert start(TORCHRUN, devices=2, num_nodes=1) == 0
    assert start(SRUN, devices=2, num_nodes=2) == 0
    assert start({}) == 0  # a command without processes
    with pytest.raises(InputError, match="start one for each device"):
        start({}, devices=2, num_nodes=2)


def test_the_rank_that_was_given():
    assert started_rank({}) == 0
    assert started_rank(TORCHRUN) == 1
    assert started_rank(SRUN) == 3
    assert started_rank({"SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}) == 0
    assert started_rank({"RANK": "1"}) == 0  # of another program; nobody started several


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_what_should_be_a_number_and_is_none(name):
    with pytest.raises(InputError, match=f"the environment has {name}='x', which is no number; unset it"):
        find_place(2, 1, TORCHRUN | {name: "x"})


def test_a_node_whose_name_does_not_resolve_is_asked_of_slurm(tmp_path, monkeypatch):
    script = tmp_path / "scontrol"
    script.write_text(
        '#!/bin/sh\ncase "$2" in\nhostnames) printf "node-of-nowhere1\\nnode-of-nowhere2\\n";;\n'
        'node) echo "NodeName=$3 Arch=x86_64 NodeAddr=127.0.0.7 NodeHostName=there";;\nesac\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    env = {key: value for key, value in SRUN.items() if key != "MASTER_ADDR"}
    assert find_place(2, 2, env).meeting.startswith("tcp://127.0.0.7:")
