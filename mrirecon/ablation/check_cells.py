"""Can every cell be made? Names, numbers and device, without data: seconds before anything is written."""

from mrirecon.ablation.execute import Setting, training_config
from mrirecon.ablation.grid import Grid
from mrirecon.ablation.plan import Common, Plan
from mrirecon.config import TrainConfig
from mrirecon.errors import unknown_name
from mrirecon.evaluation import find_protocol
from mrirecon.physics import MASKS
from mrirecon.training.build import build_model
from mrirecon.training.losses import make_loss
from mrirecon.training.module import ReconModule
from mrirecon.training.plan import check_numbers
from mrirecon.workflows.device import PRECISIONS, choose_device


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
            _check(training_config(spec, setting), grid.cell(spec.cell.name).settings["precision"])
        except Exception as error:  # a class of somebody else may raise anything
            errors[spec.cell.name] = (" ".join(str(error).split()) or type(error).__name__)[:300]
    return errors


def _check(config: TrainConfig, precision: str) -> None:
    check_numbers(config)
    find_protocol(config.protocol)
    for kind, name, known in (
        ("precision", precision, ("auto", *PRECISIONS)),
        ("mask", config.data.mask, ("auto", *MASKS)),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    make_loss(config.loss, config.l1_weight)
    module = ReconModule(build_model(config.model), config.optimizer, config.schedule, 10, config.loss)
    module.configure_optimizers()
