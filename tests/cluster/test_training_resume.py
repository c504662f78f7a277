"""A training that was stopped or killed and went on equals the uninterrupted one, whoever got the signal and when.

`pytest -m "slow or not slow" -v tests/cluster/test_training_resume.py` prints the whole matrix.
"""

import signal
from itertools import product

import pytest
from interrupted_ranks import Forking, assert_same_run

from mrirecon import configfile
from mrirecon.config import AverageConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from mrirecon.runs import open_run

# name -> point and its number; an epoch has 5 batches, step 4 is validated, every second step is saved
POINTS = {"mid-epoch": ("batch", 2), "validation": ("validation", 4), "second-epoch": ("batch", 7)}
HARDEST = [  # signal, workers, processes, point, who gets the signal
    ("SIGTERM", 2, 2, "mid-epoch", (1,)),
    ("SIGUSR1", 0, 2, "second-epoch", (0,)),
    ("SIGINT", 0, 2, "validation", (0, 1)),
    ("SIGKILL", 2, 2, "validation", (0, 1)),
]
MATRIX = [  # with the cells above: two signals, workers, processes and all points
    cell
    for number, workers, n, point in product(("SIGTERM", "SIGKILL"), (0, 2), (1, 2), POINTS)
    if (cell := (number, workers, n, point, tuple(range(n)))) not in HARDEST
]


@pytest.fixture(scope="module")
def root(tmp_path_factory, volume_writer):
    folder = tmp_path_factory.mktemp("resume")
    for split, n in (("train", 3), ("val", 2)):
        (folder / "data" / split).mkdir(parents=True)
        for i in range(n):
            matrix = (40, 36) if i == 1 else (32, 32)
            path = folder / "data" / split / f"{split}{i}.h5"
            volume_writer(path, n_slices=3, n_coils=2, matrix=matrix, seed=10 * i + n)
    return folder


@pytest.fixture(scope="module")
def forking():
    process = Forking()
    yield process
    process.close()


@pytest.fixture(scope="module")
def uninterrupted(root, forking):
    """Makes the run of so many processes, once."""
    made = {}

    def run(n):
        if n not in made:
            codes, said = forking.run(n, words(root, f"whole{n}", n, 0))
            assert codes == [0] * n, said
            made[n] = open_run(root / f"whole{n}")
        return made[n]

    return run


def words(root, name, n, workers):
    """The command of a run whose local BatchNorm, dropout, uneven batches, Adam and averages all have to go on."""
    config = TrainConfig(
        data=DataConfig(path=str(root / "data"), workers=workers),
        model=ModelConfig(channels=4, pools=2, norm="batch", dropout=0.2),
        optimizer=OptimizerConfig("adam", 1e-2),
        average=AverageConfig("ema", decay=0.5, bn_batches=2),
        batch_size=2 // n,
        max_steps=11,
        val_every=4,
        checkpoint_every=2,
        precision="fp32",
        threads=1,
        device="cpu",
        devices=n,
    )
    path = root / f"{name}.yaml"
    configfile.save(config, path)
    return ["train", "-c", str(path), "--output", str(root / name), "--quiet"]


def stop_and_go_on(root, forking, number, workers, n, point, who):
    name = "-".join([number, str(workers), str(n), point, *map(str, who)])
    codes, said = forking.run(n, words(root, name, n, workers), number, *POINTS[point], who)
    run = root / name
    if number == "SIGKILL":
        assert -signal.SIGKILL in codes
    else:
        assert codes == [75] * n, said
        assert all(f"stopped by {number}" in text and f"--resume {run}" in text for text in said)
    codes, said = forking.run(n, ["train", "--resume", str(run), "--quiet"])
    assert codes == [0] * n, said
    return open_run(run)


@pytest.mark.parametrize(("number", "workers", "n", "point", "who"), HARDEST)
def test_all_processes_stop_together_and_go_on_exactly(root, forking, uninterrupted, number, workers, n, point, who):
    assert_same_run(uninterrupted(n), stop_and_go_on(root, forking, number, workers, n, point, who))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers", "n", "point", "who"), MATRIX)
def test_every_cell_of_the_matrix(root, forking, uninterrupted, number, workers, n, point, who):
    assert_same_run(uninterrupted(n), stop_and_go_on(root, forking, number, workers, n, point, who))
