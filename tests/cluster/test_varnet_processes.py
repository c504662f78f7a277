"""A varnet on two processes: the unused sensitivity network of a single coil keeps nobody waiting."""

import pytest
import torch
from ranks_of_a_test import run_ranks
from varnet_ranks import run

from mrirecon.runs import RunFolder


@pytest.mark.slow  # three programs of torch
def test_two_processes_train_what_one_does_on_one_and_several_coils(tmp_path, volume_writer):
    for split, coils in (("train", (1, 2)), ("val", (2,))):
        (tmp_path / "data" / split).mkdir(parents=True)
        for n in coils:
            volume_writer(tmp_path / "data" / split / f"{split}{n}.h5", n_slices=4, n_coils=n, matrix=(32, 32), seed=n)
    data, one, two = (str(tmp_path / name) for name in ("data", "one", "two"))
    run(data, one)
    run_ranks(2, "varnet_ranks:run", data, two, timeout=300)
    states = [
        torch.load(RunFolder(tmp_path / name).checkpoint("last"), weights_only=True)["state_dict"]
        for name in ("one", "two")
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert (states[1][name] - value).norm() <= 1e-4 * value.norm(), name
