"""`mrirecon ablate run`."""

from mrirecon.cli.command import Command
from mrirecon.config.ablate import AblateConfig


def _run(config: AblateConfig, grid: str) -> None:
    from mrirecon.ablation.work.run import run_study

    page = run_study(grid, config)
    if page:
        print(f"report:     {page}")
        print(f"tables:     {page.parent}/results.csv, timing.csv, results.json")


COMMAND = Command(
    name="ablate run",
    summary="Tune every cell of a grid alike, rerun it on paired seeds, say what follows; resumable.",
    config=AblateConfig,
    run=_run,
    positionals=(("GRID", "a YAML file, a shipped name (smoke, mission, optimizer_x_norm, ...), or a study folder"),),
    epilog=(
        "examples:\n"
        "  mrirecon ablate run smoke                     (no data needed, under two minutes)\n"
        "  mrirecon ablate run mission --data DIR --workers 4\n"
        "  mrirecon ablate run optimizer_x_norm --data DIR --dry-run\n"
        "  mrirecon ablate run ablations/mission         (again: only what is missing)\n"
        "  mrirecon ablate run mission --data DIR --executor slurm --slurm.partition gpu --slurm.gpus 1 --workers 16"
    ),
)
