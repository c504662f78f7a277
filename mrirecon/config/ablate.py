"""The keys of `mrirecon ablate run`; the grid itself is a YAML file."""

from dataclasses import dataclass, field

from mrirecon.config.numbers import NonNegativeInt
from mrirecon.config.slurm import RequeueConfig


@dataclass(frozen=True)
class AblateConfig:
    """Everything `mrirecon ablate run` reads besides the grid."""

    data: str = ""
    """Folder of fastMRI .h5 files or of split folders; empty: what the grid simulates."""
    output: str = ""
    """Study folder; empty: ablations/<name of the grid>."""
    executor: str = "local"
    """local (processes of this machine) or slurm (a job array)."""
    workers: NonNegativeInt = 0
    """Workers at once; 0: one per CPU core / thread, or one per GPU."""
    threads: NonNegativeInt = 0
    """CPU threads of each run, part of what decides the numbers; 0: those of the study so far, 1 in a new one."""
    device: str = ""
    """auto, cpu or cuda; empty, as for the options below: that of the study so far, auto in a new one."""
    seeds: NonNegativeInt = 0
    """Number of paired seeds, in place of the grid's; 0: the grid's."""
    objectives: str = ""
    """What the tuning is for: final (or loss: validation loss at the end), area (under its curve), both (the area as
    a second table), or a metric that validations score (ssim, ...) at the end; empty: the grid's."""
    tuning_repeats: NonNegativeInt = 0
    """Independent tuning draws, in place of the grid's; 0: the grid's."""
    dry_run: bool = False
    """Show cells, runs, hours (from a timed probe of each cost) and disk; train nothing."""
    smoke: bool = False
    """Try two steps and one validation batch of every cell; train nothing else."""
    accept_code_change: bool = False
    """Do the missing runs although the package changed since the others were done; the report names both."""
    logger: str = ""
    """none (in a new study), or wandb, csv or tensorboard for each run; wandb also gets the tables of the report."""
    keep: str = ""
    """weights (of the reruns; in a new study), or nothing: what stays of a finished run besides its tables."""
    lease: NonNegativeInt = 0
    """Seconds without a sign of life after which a run is taken over; 0: 120 in a new study."""
    slurm: RequeueConfig = field(default_factory=RequeueConfig)


@dataclass(frozen=True)
class StudyConfig:
    """Keys of the commands that look at a study."""

    watch: bool = False
    """Show the table anew every few seconds until everything is done."""


@dataclass(frozen=True)
class WorkerConfig:
    """Keys of one worker."""

    cores: list[int] = field(default_factory=list)
    """CPU cores it stays on; empty: any."""
