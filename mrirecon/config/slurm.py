"""The keys that say what is asked of SLURM."""

from dataclasses import dataclass, field

from mrirecon.config.numbers import NonNegativeInt, PositiveInt


@dataclass(frozen=True)
class SlurmConfig:
    """Settings by which jobs are asked for under SLURM; what is empty is left to the cluster."""

    name: str = ""
    """Name of the job; empty: that of the run or the study."""
    partition: str = ""
    """Partition."""
    account: str = ""
    """Account."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features that the nodes must have, such as 'a100&ib'."""
    exclude: str = ""
    """Nodes that are not to be used, such as n3,n[7-9]."""
    reservation: str = ""
    """Reservation."""
    time: PositiveInt = 60
    """Minutes a job may take."""
    mem: str = ""
    """Memory on each node, such as 8G."""
    cpus: PositiveInt = 1
    """CPU cores of each process."""
    gpus: int | str = 0
    """GPUs on each node: a number, or a type and a number (a100:4)."""
    setup: list[str] = field(default_factory=list)
    """Shell lines that a job begins with, each in quotes ('module load cuda' '. env.sh'); one that fails ends it."""
    python: str = ""
    """Python of the job, with what starts it in a container ('apptainer exec --nv lab.sif python'); empty: this one."""
    sbatch: list[str] = field(default_factory=list)
    """Further options of sbatch, without their dashes (exclusive nice=100 mail-type=END,FAIL)."""


@dataclass(frozen=True)
class RequeueConfig(SlurmConfig):
    """Jobs that save before their time is over, and come back."""

    grace: PositiveInt = 120
    """Seconds before the time limit at which SLURM asks the job to save and requeue itself."""
    requeues: NonNegativeInt = 2
    """Starts in a row that may end without progress (one step at most, no volume); after more the job stays ended."""


@dataclass(frozen=True)
class OneJobConfig(SlurmConfig):
    """A command as a job of its own."""

    nodes: NonNegativeInt = 0
    """Submit the work as a SLURM job on so many nodes, with `devices` processes each; 0: do it here."""
    follow: bool = False
    """Stream the job's log and wait for its end."""


@dataclass(frozen=True)
class JobConfig(OneJobConfig, RequeueConfig):
    """A command as a job of its own that comes back."""
