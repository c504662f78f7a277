"""`mrirecon config show`."""

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import ShowConfig
from mrirecon.errors import InputError


def _run(config: ShowConfig, name: str, command: str = "train") -> None:
    if name == "sbatch":
        from mrirecon.cluster.script import sbatch_script

        print(sbatch_script(command, config.slurm, config.devices), end="")
        return
    if config != ShowConfig() or command != "train":
        raise InputError(f"a batch script takes a command and --slurm.*, {name} does not; leave them out")
    print(configfile.find_config(name).read_text(encoding="utf-8"), end="")


COMMAND = Command(
    name="config show",
    summary="Print a shipped configuration, as an overlay for -c or to start one's own; or a batch script for sbatch.",
    config=ShowConfig,
    run=_run,
    positionals=(
        ("NAME", "a name of `mrirecon config list`, a file, or sbatch: the script of a SLURM job"),
        ("[COMMAND]", "whose script: train (where it is left out), evaluate or reconstruct"),
    ),
    processes=lambda _config, _extra: 0,
    epilog=(
        "examples:\n"
        "  mrirecon config show fastmri\n"
        "  mrirecon config show sbatch --slurm.partition gpu --slurm.gpus a100:1 > train.sbatch\n"
        "  mrirecon config show sbatch evaluate --slurm.setup 'module load cuda' > evaluate.sbatch"
    ),
)
