"""`mrirecon config list`."""

from mrirecon import configfile
from mrirecon.cli.command import Command
from mrirecon.config import NoConfig


def _run(_config: NoConfig) -> None:
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


COMMAND = Command(
    name="config list",
    summary="List the shipped configurations.",
    config=NoConfig,
    run=_run,
)
