"""scripts/local_slurm.sh brings a cluster up and ends what it started, and nothing else."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import SCRIPT, Cluster


@pytest.mark.slurm
def test_a_cluster_comes_and_goes_beside_another(cluster):
    folder = Path(tempfile.mkdtemp(prefix="mrirecon-slurm-test-"))
    other = Cluster(folder)
    assert other.script("up").returncode == 0
    again = other.script("up")
    assert again.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
    assert "runs already" in again.stderr
    pids = [int(path.read_text()) for path in (folder / "run").glob("*.pid")]
    assert len(pids) == 4
    assert sorted(other.run("srun", "--nodes=2", "printenv", "SLURMD_NODENAME").split()) == ["n1", "n2"]
    waiting = other.sbatch("--wrap", "sleep 100", "--output=/dev/null")
    assert f"\n{waiting:>18} " in "\n" + other.script("status").stdout
    assert other.script("down").returncode == 0
    assert not folder.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _is_alive(pid)] == []
    assert sorted(cluster.run("srun", "--nodes=2", "printenv", "SLURMD_NODENAME").split()) == ["n1", "n2"]


@pytest.mark.slurm
def test_a_pid_that_belongs_to_another_program_now_is_left_alone(cluster):
    folder = Path(tempfile.mkdtemp(prefix="mrirecon-slurm-test-"))
    other = Cluster(folder)
    assert other.script("up").returncode == 0
    noted = folder / "run" / "slurmd-n1.pid"
    slurmd = int(noted.read_text())
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        noted.write_text(f"{stranger.pid}\n")
        assert "slurmd-n1: ended" in other.script("status").stdout
        other.script("down")
        assert stranger.poll() is None
        assert _is_alive(slurmd)
    finally:
        stranger.kill()
        stranger.wait()
        os.kill(slurmd, 9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sideways"], "usage:"),
        ([], "usage:"),
        (["up", "--dir"], "usage:"),
        (["down", "--dir", "/nowhere/at/all"], "no cluster in /nowhere/at/all"),
        (["status", "--dir", "/nowhere/at/all"], "start one: scripts/local_slurm.sh up"),
    ],
)
def test_a_wrong_call_is_one_line(words, said):
    done = subprocess.run(["bash", str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_down_removes_only_what_it_made(tmp_path):
    (tmp_path / "slurm.conf").write_text("ClusterName=real\n")
    (tmp_path / "log").mkdir()
    done = subprocess.run(["bash", str(SCRIPT), "down", "--dir", str(tmp_path)], capture_output=True, check=False)
    assert (done.returncode, b"there is no cluster in" in done.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "slurm.conf"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
@pytest.mark.parametrize("how", ["owned", "open", "link"])
def test_a_folder_of_somebody_else_is_not_used(tmp_path, how):
    """Its owner could put a configuration there that slurmd runs as root."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    if how == "owned":
        os.chown(folder, 65534, 65534)
    elif how == "open":
        folder.chmod(0o777)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to("elsewhere")
    done = subprocess.run(
        ["bash", str(SCRIPT), "up", "--dir", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert ("is a link" if how == "link" else "choose another --dir") in done.stderr
    assert list(folder.iterdir()) == []


def test_a_missing_package_is_named(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("id", "realpath", "getconf"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/bash", str(SCRIPT), "up", "--dir", str(tmp_path / "cluster")],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "apt-get install slurmctld slurmd slurm-client munge" in done.stderr


def _is_alive(pid):
    """Neither gone nor waiting for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
