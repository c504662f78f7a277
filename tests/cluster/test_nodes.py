"""Processes on nodes that see different data end together, in one line that names a file, and write nothing."""

import shutil

import h5py
import pytest
from ranks_of_a_test import run_ranks


@pytest.fixture(scope="module")
def make_nodes(tmp_path_factory, volume_writer):
    """Makes two nodes with copies of one data set, of which the second is then spoiled."""
    original = tmp_path_factory.mktemp("original")
    for split in ("train", "val"):
        for i in range(2):
            path = original / "data" / split / f"{split}{i}.h5"
            volume_writer(path, n_slices=2, n_coils=2, matrix=(32, 32), seed=i)

    def make(spoil=None):
        root = tmp_path_factory.mktemp("nodes")
        (root / "out").mkdir()
        for node in ("0", "1"):
            shutil.copytree(original, root / node)
        if spoil:
            spoil(root / "1")
        return root

    return make


def nodes_of(root):
    return [str(root / "0"), str(root / "1")]


def change(path, **values):
    """Change attributes, or the first value of a data set's first slice, in place; the file keeps its size."""
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        for key, value in values.items():
            if key in file:
                file[key][(0,) * file[key].ndim] = value
            else:
                file.attrs.modify(key, value)
    assert path.stat().st_size == size


def _more(node):
    for split in ("train", "val"):
        shutil.copy(node / f"data/{split}/{split}0.h5", node / f"data/{split}/more.h5")


def _size(node):
    for split in ("train", "val"):
        with h5py.File(node / f"data/{split}/{split}1.h5", "r+") as file:
            file.create_dataset("notes", data=[0.0] * 1000)


def _sample(node):
    for split in ("train", "val"):
        change(node / f"data/{split}/{split}1.h5", kspace=3 - 1j)


def _patient(node):
    for split in ("train", "val"):
        change(node / f"data/{split}/{split}1.h5", patient_id="x" * len(f"{split}1"))


def _damage(node):
    for split in ("train", "val"):
        path = node / f"data/{split}/{split}1.h5"
        path.write_bytes(bytes(8) + path.read_bytes()[8:])


CASES = {
    "more": (_more, "more.h5 is only here ("),
    "size": (_size, "1.h5 has size ", ", there "),
    "sample": (_sample, "1.h5 has another header, attributes or first slice (1 of 2 files differ)"),
    "patient": (_patient, "1.h5 has patient xxx", "(1 of 2 files differ)"),
    "folder": (lambda node: shutil.rmtree(node / "data"), "there is no f", "data"),
    "damaged": (_damage, "1.h5: is not an HDF5 file"),
}


@pytest.fixture(scope="module")
def said(make_nodes):
    """What each process said of each case and command."""
    roots = [make_nodes(spoil) for spoil, *_ in CASES.values()]
    cases = [(nodes_of(root), str(root / "out"), ["train", "evaluate", "reconstruct"]) for root in roots]
    texts = run_ranks(2, "node_cases:try_cases", cases)
    written = [list((root / "out").iterdir()) for root in roots]
    return {case: (one, two, files) for case, one, two, files in zip(CASES, *texts, written, strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_different_data_end_all_processes_in_one_line(said, case):
    first, second, written = said[case]
    assert first == second  # the same words on every process
    assert len(first) == 3
    for command, text in first.items():
        assert text.startswith("process 1 of 2 (on "), command
        assert "\n" not in text
        assert all(word in text for word in CASES[case][1:]), (command, text)
    assert not written


def test_the_first_process_examines_the_files_of_all_and_a_run_goes_on_with_the_same_data_alone(make_nodes):
    root, other = make_nodes(), make_nodes(_sample)
    one_file_system = [str(root / "0")] * 2
    (seen, said), (seen_by_second, said_by_second) = run_ranks(
        2, "node_cases:work_and_go_on", one_file_system, str(root / "out"), nodes_of(other)
    )
    assert {f"{split}/{split}{i}.h5" for split in ("train", "val") for i in range(2)} <= set(seen)
    assert seen_by_second == []
    assert said == said_by_second
    assert "train1.h5 has another header, attributes or first slice" in said
