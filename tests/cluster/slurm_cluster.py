"""The two-node cluster of the `slurm` tests: runs SLURM's programs on it and waits for jobs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from mrirecon.cluster.jobs import find_job

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "local_slurm.sh"
PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch")
MRIRECON = [sys.executable, "-m", "mrirecon"]
SMALL = {
    "model": {"channels": 2, "pools": 1, "norm": "batch"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "batch_size": 2,
    "precision": "fp32",
    "threads": 1,
    "device": "cpu",
}


def why_none():
    """Why there can be no cluster here; empty where there can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"no {', '.join(missing)} here (apt-get install slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "SLURM_CONF": str(self.conf),
        }

    def script(self, action):
        words = ["bash", str(SCRIPT), action, "--dir", str(self.folder)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)

    def run(self, *words, cwd=None, code=0, timeout=180):
        done = subprocess.run(
            [str(word) for word in words],
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *words, cwd=None, log=None):
        with Path(log or os.devnull).open("w") as handle:
            return subprocess.Popen(
                [str(word) for word in words], env=self.env, cwd=cwd, stdout=handle, stderr=subprocess.STDOUT
            )

    def sbatch(self, *words, cwd=None):
        return self.run("sbatch", "--parsable", *words, cwd=cwd).strip()

    def wait_over(self, job, timeout=120):
        wait_for(lambda: find_job(job).is_over, f"job {job} to end", timeout)
        return find_job(job)

    def end_jobs(self):
        for more in (["--signal=KILL", "--state=RUNNING"], []):  # nobody has to save
            subprocess.run(["scancel", "--user=root", *more], env=self.env, check=False, capture_output=True)
        wait_for(lambda: not self.run("squeue", "--noheader"), "jobs to end")

    def ranks_of(self, run):
        """Process ids of a run's ranks, by rank."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = process.joinpath("cmdline").read_bytes().decode().split("\0")
                env = dict(
                    line.partition("=")[::2]
                    for line in process.joinpath("environ").read_bytes().decode(errors="replace").split("\0")
                )
            except OSError:
                continue
            if any(str(run) in word for word in words) and "train" in words and env.get("SLURM_CONF") == str(self.conf):
                found[int(env.get("SLURM_PROCID", -1))] = int(process.name)
        return found


def wait_for(condition, what, timeout=90):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(0.1)


def write_config(path, **changes):
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path
