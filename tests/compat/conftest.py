"""Copies of what an earlier version left on disk (see README.md), to go on from."""

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def data(tmp_path):
    """The k-space of all of them; copies have other dates, as files of a checkout do."""
    return Path(shutil.copytree(HERE / "data", tmp_path / "data", copy_function=shutil.copyfile))


@pytest.fixture
def study(tmp_path):
    """Makes a copy of a study, with the data that were simulated in it."""

    def copy(name):
        folder = shutil.copytree(HERE / name, tmp_path / name)
        shutil.copytree(HERE / "data", folder / "data", copy_function=shutil.copyfile)
        return Path(folder)

    return copy


@pytest.fixture
def stopped(tmp_path):
    """The run that was stopped by SIGTERM."""
    return Path(shutil.copytree(HERE / "stopped", tmp_path / "stopped"))
