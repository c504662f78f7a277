"""The keys that say what is asked of SLURM."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SlurmConfig:
    """How jobs are asked for under SLURM; what is empty is left to the cluster."""

    partition: str = ""
    """Partition."""
    account: str = ""
    """Account."""
    time: int = 60
    """Minutes a job may take."""
    mem: str = ""
    """Memory on each node, such as 8G."""
    cpus: int = 1
    """CPU cores of each process."""
    gpus: int = 0
    """GPUs on each node."""


@dataclass(frozen=True)
class JobConfig(SlurmConfig):
    """A training as a job of its own."""

    nodes: int = 0
    """Submit the training as a SLURM job on so many nodes, with `devices` processes each; 0: train here."""
    grace: int = 120
    """Seconds before the time limit at which SLURM asks the run to save and requeue itself."""
    follow: bool = False
    """Stream the job's log and wait for its end."""
