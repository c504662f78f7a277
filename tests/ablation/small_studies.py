"""Analysed studies of two cells and six seeds."""

from synthetic import OPTIMIZERS, make_study

from mrirecon.ablation.findings.analysis import analyse

SMALL = {"factors": {"optimizer": {"sgd": OPTIMIZERS["sgd"], "adam": OPTIMIZERS["adam"]}}, "seeds": range(6)}
QUIET = {"sd_seed": 1e-6, "sd_volume": 1e-6, "sd_residual": 1e-6}


def analysed(**options):
    grid, results, facts = make_study(**(SMALL | options))
    return analyse(grid, results, facts)


def cell_of(study, name):
    return next(cell for cell in study["cells"] if cell["cell"] == name)
