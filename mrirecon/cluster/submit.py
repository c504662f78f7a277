"""Submit commands to SLURM with submitit: train, evaluate and reconstruct as a job each, workers as an array."""

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from mrirecon import configfile
from mrirecon.classpaths import allowed_here
from mrirecon.cluster.join import Processes, processes_to_start
from mrirecon.cluster.request import DEAF, Request, read_request
from mrirecon.config import EvaluateConfig, ReconstructConfig, TrainConfig
from mrirecon.config.slurm import JobConfig, OneJobConfig, RequeueConfig
from mrirecon.config.train import run_name
from mrirecon.data.hdf5.limits import limit_words
from mrirecon.errors import InputError, unknown_name
from mrirecon.files import write_text
from mrirecon.runs import RunFolder, default_path, require_replaceable, run_of

_ADVICE = "mend --slurm.*, or do the work here"
_SUBMITITS = ("time", "job-name", "cpus-per-task", "gpus-per-node")  # options that submitit has words for


class JobKeys(Processes, Protocol):
    """The keys of a configuration that say what its job is; `num_nodes` counts where it is not asked for here."""

    @property
    def slurm(self) -> OneJobConfig:
        """The request to SLURM."""


def submit_training(config: TrainConfig) -> tuple[str, RunFolder]:
    """Submit a training to SLURM, on `slurm.nodes` nodes with `devices` processes each.

    The job has the configuration as it is now, in its run folder, which it finds again whenever SLURM requeues it.

    Returns:
        The job's id and its run folder, which holds nothing yet but the job's own files.

    Raises:
        InputError: The call cannot become a job, or SLURM refuses it.
    """
    request = check_job(config)
    require_data(config.data.path)
    path = Path(config.output) if config.output else default_path(run_name(config))
    require_replaceable(path, config.overwrite)
    run = RunFolder(path.resolve())
    return _submit(lambda: training_command(config, run), config, request, run.slurm, run.name), run


def submit_resumed(run: RunFolder, config: TrainConfig, changes: Mapping[str, Any]) -> str:
    """Submit the rest of a run, with as many processes as it had; returns the job's id.

    Args:
        run: The run.
        config: Its configuration as it is to go on; `devices` is the number on each node.
        changes: What differs from the stored one, by key.

    Raises:
        InputError: The call cannot become a job, or SLURM refuses it.
    """
    request = check_job(config)
    require_data(config.data.path)
    path = run.path.resolve()
    values = {**changes, "devices": config.devices, "num_nodes": config.slurm.nodes}
    if "data.path" in values:
        values["data.path"] = str(Path(values["data.path"]).resolve())
    flags = [f"--{key}={value}" for key, value in values.items()]
    return _submit(lambda: program("train", "--resume", str(path), *flags), config, request, path / "slurm", path.name)


def submit_use(
    command: str, words: Sequence[str], config: EvaluateConfig | ReconstructConfig, folder: Path, name: str
) -> str:
    """Submit `mrirecon evaluate` or `reconstruct`; returns the job's id.

    Args:
        command: Its name.
        words: Its words before the options: a method, a run or a file, then files; paths are made absolute.
        config: Its configuration.
        folder: Gets the files of the job.
        name: Of the job, where `slurm` has none.

    Raises:
        InputError: The call cannot become a job, or SLURM refuses it.
    """
    request = check_job(config)
    folder = folder.resolve()
    places = [str(Path(word).resolve()) if Path(word).exists() else word for word in words]
    output = config.output and str(Path(config.output).resolve())
    changes: dict[str, Any] = {"output": output, "num_nodes": config.slurm.nodes, "slurm": type(config.slurm)()}
    if isinstance(config, EvaluateConfig):
        changes["data"] = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    wanted = dataclasses.replace(config, **changes)

    def stored() -> list[str]:
        text = configfile.dump(wanted)
        path = folder / f"{command}-{sha256(text.encode()).hexdigest()[:8]}.yaml"
        write_text(path, text)
        return program(command, *places, "-c", str(path))

    return _submit(stored, config, request, folder, name)


def log_of(job: str, folder: Path) -> Path:
    """Return the path of the log of a submitted command's first process and of the job's script.

    Its name is submitit's (https://github.com/facebookincubator/submitit).
    """
    return folder / f"{job}_0_log.out"


def check_job(config: JobKeys) -> Request:
    """Read what a job is asked for with, and whatever can be known of it without torch, data and a GPU.

    Raises:
        InputError: The call cannot become a job.
    """
    slurm = config.slurm
    if shutil.which("sbatch") is None:
        raise InputError(f"--slurm.nodes {slurm.nodes}, but there is no sbatch here; use a login node, or work here")
    for name, value in (("slurm.nodes", slurm.nodes), ("devices", config.devices)):
        if value < 1:
            raise InputError(f"--{name} {value}; at least 1 is needed")
    if config.num_nodes not in (1, slurm.nodes):
        raise InputError(f"--num-nodes {config.num_nodes} and --slurm.nodes {slurm.nodes} contradict; give the latter")
    return read_request(slurm)


def require_data(path: str) -> None:
    """Raise an InputError where no data folder is given, or it is not there."""
    from mrirecon.data.folders.volume_files import SIMULATE, require_folder

    if not path:
        raise InputError(f"no data folder given; name one of fastMRI .h5 files (--data DIR), {SIMULATE}")
    require_folder(Path(path))


def training_command(config: TrainConfig, run: RunFolder) -> list[str]:
    """Return the command of each process of the job; writes the configuration that it names."""
    stored = run.slurm / "train.yaml"
    data = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    weights = config.weights and str(Path(config.weights).absolute())
    nodes = config.slurm.nodes
    wanted = dataclasses.replace(config, data=data, weights=weights, num_nodes=nodes, output=str(run.path))
    configfile.save(dataclasses.replace(wanted, slurm=JobConfig()), stored)
    return program("train", "-c", str(stored))


def _submit(command: Callable[[], list[str]], config: JobKeys, request: Request, folder: Path, name: str) -> str:
    slurm = config.slurm
    parameters: dict[str, Any] = {
        "nodes": slurm.nodes,
        "ntasks_per_node": config.devices,
        # one failed process ends the job; srun takes over neither the log's mode nor the cores
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append", f"--cpus-per-task={slurm.cpus}"],
    }
    if config.device == "cuda" and not request.n_gpus:
        parameters["gpus_per_node"] = config.devices
    with job_folder(folder):
        return submit([command()], folder, request, name, _ADVICE, parameters)[0]


def worker_command(study: Path) -> list[str]:
    """Return the command of a study's worker, here and on a cluster: a job is this list of strings, nothing else."""
    return program("ablate", "worker", str(study.resolve()))


def require_slurm(slurm: RequeueConfig) -> None:
    """Raise an InputError where no job can be submitted, or not one like this."""
    if shutil.which("sbatch") is None:
        raise InputError("--executor slurm, but there is no sbatch here; use --executor local, or a login node")
    read_request(slurm)


def submit_workers(study: Path, logs: Path, n_workers: int, slurm: RequeueConfig) -> list[str]:
    """Submit a SLURM job array (https://slurm.schedmd.com/job_array.html) of workers, which has the study's name.

    Args:
        study: The study folder, on a file system that the nodes share.
        logs: Gets the logs and submitit's job files.
        n_workers: Jobs of the array.
        slurm: What is asked for.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    advice = "use --executor local, or mend --slurm.*"
    commands = [worker_command(study)] * n_workers
    with job_folder(logs):
        return submit(
            commands, logs, read_request(slurm), study.resolve().name, advice, {"array_parallelism": n_workers}
        )


def submit(
    commands: Sequence[list[str]],
    folder: Path,
    request: Request,
    name: str,
    advice: str,
    parameters: Mapping[str, Any] | None = None,
) -> list[str]:
    """Submit a job, or a job array where there are several commands; SLURM may start each again.

    It is submitted by submitit (https://github.com/facebookincubator/submitit).

    Args:
        commands: A job is such a list of strings and nothing else; the first is Python, which a request may replace.
        folder: Gets the logs and submitit's job files (`job_folder`).
        request: What is asked for.
        name: Of the job, where the request has none.
        advice: What to do where SLURM takes no jobs.
        parameters: Further ones, in submitit's words.

    Returns:
        The job ids.

    Raises:
        InputError: There is no SLURM here, or it refuses the job.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    options, python = request.named(name), request.python[-1]
    given = {option.replace("-", "_"): options.pop(option) for option in _SUBMITITS if option in options}
    options = {"signal": "CONT@1", **options}  # in place of submitit's own, which would end the command
    given |= {"additional_parameters": options, "stderr_to_stdout": True, "wckey": None, **(parameters or {})}
    given["setup"] = list(request.setup)
    try:
        start = shlex.join(["bash", "-c", DEAF, *request.python])
        executor = submitit.SlurmExecutor(folder=folder, python=start)  # named, never detected
        executor.update_parameters(**given)
        with redirect_stderr(StringIO()), executor.batch():  # what sbatch says stands in its error too
            # the command takes the place of submitit's process: SLURM sees its exit code, and it alone gets signals
            jobs = [executor.submit(os.execvp, python, [python, *command[1:]]) for command in commands]
    except (RuntimeError, OSError, FailedJobError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"SLURM does not take the job ({reason}); {advice}") from None
    return [str(job.job_id) for job in jobs]


def program(*words: str) -> list[str]:
    """This program as the command of a job, with the permissions and limits that it has here."""
    allowed = [f"--allow-import={prefix}" for prefix in allowed_here()[-1:]]  # the command takes one
    return [sys.executable, "-m", "mrirecon", *words, *allowed, *limit_words()]


@contextmanager
def job_folder(folder: Path) -> Iterator[None]:
    """Around the submission of a job: the folder of its files, which is made with its parents.

    Logs may be read by others as the umask says; submitit's files, which are pickles that will be run, are for the
    owner alone, and nobody else can put any there. After an error nothing is left of the job.

    Raises:
        InputError: The folder cannot be made or written.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    before = set(folder.iterdir()) if folder.is_dir() else set()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"cannot write the files of a job to {folder}: {error.strerror}; choose another --output"
        ) from None
    try:
        yield
        for path in set(folder.iterdir()) - before:
            if path.suffix in (".pkl", ".sh"):
                path.chmod(0o600)
    except BaseException:
        for path in set(folder.iterdir()) - before:
            if path.suffix not in (".out", ".err", ".log"):  # another job's, which begins just now
                path.unlink()
        with suppress(OSError):  # such a log is in it
            for path in made:
                path.rmdir()
        raise
    finally:
        if folder.is_dir():
            folder.chmod(0o755 & ~umask)


# ---- what `train`, `evaluate` and `reconstruct` share when they are submitted as a SLURM job


def is_job(slurm: OneJobConfig) -> bool:
    """Say whether the work is to be submitted, not to be done here.

    Raises:
        InputError: It is said how a job is asked for, but not for how many nodes.
    """
    if not slurm.nodes and slurm != type(slurm)():
        raise InputError("--slurm.* says how a job is asked for, but not for how many nodes; add --slurm.nodes N")
    return slurm.nodes != 0


def processes(config: JobKeys, _extra: dict[str, str]) -> int:
    """Processes to start here: none for a job, whose own SLURM starts."""
    return 0 if config.slurm.nodes else processes_to_start(config)


def place_of(reconstructor: str) -> RunFolder:
    """Return the folder for evaluations of a run or of a method; a file of weights has the place of its name.

    Raises:
        InputError: It is none of these.
    """
    from mrirecon.tables.methods import METHODS

    if run := run_of(reconstructor):
        return RunFolder(run.path.resolve())
    if reconstructor not in METHODS and not Path(reconstructor).is_file():
        hint = f"Or give a run folder or a file of weights; there is none at {reconstructor}."
        raise unknown_name("method", reconstructor, METHODS, hint)
    return RunFolder(Path("runs") / Path(reconstructor).stem)


def watch(job: str, log: Path, slurm: OneJobConfig, result: str, following: str = "") -> None:
    """Say where a submitted job, its log and its results are; with `slurm.follow` until it ends."""
    from mrirecon.cluster.jobs import follow

    print(f"job:        {job}")
    print(result)
    if slurm.follow:
        follow(job, log)
        return
    print(f"watch:      squeue --job {job}; tail -F {shlex.quote(str(log))}")
    if following:
        print("when done, run the line below")
        print(f"next:       {following}")
