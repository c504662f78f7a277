"""A training as a SLURM job of its own. No torch here."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from mrirecon import configfile
from mrirecon.cluster.executor import job_options, program, submit
from mrirecon.config import TrainConfig
from mrirecon.config.naming import run_name
from mrirecon.config.slurm import JobConfig
from mrirecon.errors import InputError
from mrirecon.runs import RunFolder, default_path, require_replaceable


def submit_training(config: TrainConfig) -> tuple[str, RunFolder]:
    """Submit a training to SLURM, on `slurm.nodes` nodes with `devices` processes each.

    The job has the configuration as it is now, in its run folder, which it finds again whenever SLURM requeues it.

    Returns:
        The job's id and its run folder, which holds nothing yet but the job's own files.

    Raises:
        InputError: The call cannot become a job, or SLURM refuses it.
    """
    check_job(config)
    path = Path(config.output) if config.output else default_path(run_name(config))
    require_replaceable(path, config.overwrite)
    run = RunFolder(path.resolve())
    is_new = not run.path.exists()
    try:
        run.slurm.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to the run folder {path}: {error.strerror}; choose another --output") from None
    try:
        command = training_command(config, run)
        advice = "mend --slurm.*, or train here"
        return submit([command], run.slurm, config.slurm, _parameters(config), advice)[0], run
    except InputError:
        if is_new:
            shutil.rmtree(run.path)
        raise


def log_of(job: str, run: RunFolder) -> Path:
    """What the first process of a submitted training and the job's script say."""
    return run.slurm / f"{job}_0_log.out"


def check_job(config: TrainConfig) -> None:
    """Raise an InputError where a call cannot become a job; all that can be known without torch and a GPU."""
    from mrirecon.data.files import SIMULATE, require_folder

    slurm = config.slurm
    if shutil.which("sbatch") is None:
        raise InputError(f"--slurm.nodes {slurm.nodes}, but there is no sbatch here; use a login node, or train here")
    for name, value in (("slurm.nodes", slurm.nodes), ("devices", config.devices), ("slurm.grace", slurm.grace)):
        if value < 1:
            raise InputError(f"--{name} {value}; at least 1 is needed")
    if config.num_nodes not in (1, slurm.nodes):
        raise InputError(f"--num-nodes {config.num_nodes} and --slurm.nodes {slurm.nodes} contradict; give the latter")
    if slurm.grace >= 60 * slurm.time:
        raise InputError(
            f"--slurm.grace {slurm.grace} s leaves nothing of --slurm.time {slurm.time} min; it must be shorter"
        )
    if not config.data.path:
        raise InputError(f"no data folder given; name one of fastMRI .h5 files (--data DIR), {SIMULATE}")
    require_folder(Path(config.data.path))


def training_command(config: TrainConfig, run: RunFolder) -> list[str]:
    """What each process of the job is; writes the configuration that it names."""
    stored = run.slurm / "train.yaml"
    data = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    weights = config.weights and str(Path(config.weights).absolute())
    nodes = config.slurm.nodes
    wanted = dataclasses.replace(config, data=data, weights=weights, num_nodes=nodes, output=str(run.path))
    configfile.save(dataclasses.replace(wanted, slurm=JobConfig()), stored)
    return program("train", "-c", str(stored))


def _parameters(config: TrainConfig) -> dict[str, Any]:
    slurm = config.slurm
    return {
        "job_name": "mrirecon-train",
        "nodes": slurm.nodes,
        "ntasks_per_node": config.devices,
        "gpus_per_node": slurm.gpus or (config.devices if config.device == "cuda" else 0),
        # one failed process ends the job; srun takes over neither the log's mode nor the cores
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append", f"--cpus-per-task={slurm.cpus}"],
        **job_options(slurm.grace),
    }
