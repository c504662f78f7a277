"""`mrirecon config list` and `config show`."""

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import NoConfig, ShowConfig
from mrirecon.errors import InputError


def _list(_config: NoConfig) -> None:
    shipped = configfile.shipped_configs()
    width = max(map(len, shipped))
    for name, path in shipped.items():
        print(f"{name:<{width}}  {_first_sentence(path.read_text(encoding='utf-8'))}")
    print("\nmrirecon config show NAME prints one; mrirecon train -c NAME uses it.")
    print("mrirecon config show sbatch prints the batch script of a SLURM job.")


def _first_sentence(text: str) -> str:
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return f"{' '.join(comment).split('. ')[0].split(': ')[0].rstrip('.:')}."


LIST = Command(
    name="config list",
    summary="List the shipped configurations.",
    config=NoConfig,
    run=_list,
)


def _show(config: ShowConfig, name: str, command: str = "train") -> None:
    if name == "sbatch":
        from mrirecon.cluster.request import sbatch_script

        print(sbatch_script(command, config.slurm, config.devices), end="")
        return
    if config != ShowConfig() or command != "train":
        raise InputError(f"a batch script takes a command and --slurm.*, {name} does not; leave them out")
    print(configfile.find_config(name).read_text(encoding="utf-8"), end="")


SHOW = Command(
    name="config show",
    summary="Print a shipped configuration, as an overlay for -c or to start one's own; or a batch script for sbatch.",
    config=ShowConfig,
    run=_show,
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
