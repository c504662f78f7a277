"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real k-space in the fastMRI layout; tests that use it are marked `realdata`."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real k-space at {SHARED_DATA}")
    return SHARED_DATA
