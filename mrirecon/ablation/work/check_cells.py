"""Can every cell be made? Names, numbers and device, without data: seconds before anything is written."""

from dataclasses import replace

from mrirecon.ablation.study.grid import Grid
from mrirecon.ablation.study.plan import Common, Plan
from mrirecon.ablation.work.execute import Setting, training_config
from mrirecon.models.device import choose_device
from mrirecon.workflows.setup.training_work import check_setting


def check_cells(grid: Grid, device: str) -> dict[str, str]:
    """The first line of the error of each cell that cannot be made.

    Raises:
        InputError: No such device here.
    """
    choose_device(device)
    errors, seen = {}, set()
    setting = Setting("", device)
    for spec in Plan(grid, Common("")).runs({}):
        if spec.cell.name in seen:
            continue
        seen.add(spec.cell.name)
        try:
            precision = grid.cell(spec.cell.name).settings["precision"]
            check_setting(replace(training_config(spec, setting), precision=precision))
        except Exception as error:  # a class of somebody else may raise anything
            errors[spec.cell.name] = (" ".join(str(error).split()) or type(error).__name__)[:300]
    return errors
