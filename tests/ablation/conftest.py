"""A study small enough to be done again and again."""

import copy
from types import SimpleNamespace

import pytest
import yaml
from tiny_study import GRID

from mrirecon import progress
from mrirecon.ablation.study.folder import StudyFolder
from mrirecon.ablation.work.run import run_study
from mrirecon.config import SimulateConfig
from mrirecon.config.ablate import AblateConfig


@pytest.fixture(scope="session")
def study_data(tmp_path_factory):
    """Simulated k-space: 3 volumes to train on, 2 to validate, 5 to test."""
    from mrirecon.workflows.simulate import simulate_dataset

    folder = tmp_path_factory.mktemp("study") / "data"
    config = SimulateConfig(output=str(folder), train=3, val=2, test=5, slices=2, matrix=[32, 32], coils=2)
    progress.quiet = True
    return simulate_dataset(config)


@pytest.fixture(scope="session")
def study_files(tmp_path_factory):
    """Writes a grid file: `GRID` with changes."""

    def write(**changes):
        path = tmp_path_factory.mktemp("grid") / "tiny.yaml"
        path.write_text(yaml.safe_dump(copy.deepcopy(GRID) | changes))
        return path

    return write


@pytest.fixture(scope="session")
def run_tiny(study_data, study_files):
    """Runs the study in a folder; more keys are those of the grid."""

    def run(folder, workers=2, config=None, **changes):
        options = {"data": str(study_data), "output": str(folder), "workers": workers} | (config or {})
        progress.quiet = True
        return run_study(str(study_files(**changes)), AblateConfig(**options))

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, run_tiny):
    """The study done without a disturbance by one worker: its folder and its table of results."""
    folder = tmp_path_factory.mktemp("undisturbed") / "study"
    page = run_tiny(folder, workers=1)
    return SimpleNamespace(folder=StudyFolder(folder), page=page, results=(page.parent / "results.csv").read_bytes())
