"""A real SLURM of two nodes for the tests marked `slurm`."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import Cluster, why_none


@pytest.fixture(scope="session")
def whole_cluster():
    """Started by scripts/local_slurm.sh; this process asks it for the states of jobs, too."""
    if reason := why_none():
        pytest.skip(reason)
    # not a pytest folder: munged, which runs as a user of its own, could not enter it
    folder = Path(tempfile.mkdtemp(prefix="mrirecon-slurm-test-"))
    made = Cluster(folder)
    done = made.script("up")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
    old = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(made.conf)
    yield made
    if old is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = old
    ended = made.script("down")
    shutil.rmtree(folder, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def cluster(whole_cluster):
    """That cluster, whose jobs end with the test."""
    yield whole_cluster
    whole_cluster.end_jobs()


@pytest.fixture(scope="session")
def job_data(tmp_path_factory, volume_writer):
    """Train, val and test folders of small volumes with unequal numbers of slices."""
    root = tmp_path_factory.mktemp("job") / "data"
    for split, slices in (("train", (3, 2, 4)), ("val", (2, 3)), ("test", (2, 4, 3))):
        (root / split).mkdir(parents=True)
        for i, n_slices in enumerate(slices):
            volume_writer(
                root / split / f"{split}{i}.h5", n_slices=n_slices, n_coils=2, matrix=(32, 32), seed=len(split) + 10 * i
            )
    return root
