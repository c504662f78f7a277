"""Several processes choose the lambda that one chooses, and draw and compare what one does."""

import csv
import json

from chosen_by_ranks import evaluate_both
from ranks_of_a_test import run_ranks


def rows(path):
    with path.open() as handle:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(handle)]


def test_two_processes_choose_and_write_what_one_does(tmp_path, volume_writer):
    for split, n in (("train", 3), ("val", 2)):
        for i in range(n):
            path = tmp_path / "data" / split / f"{split}{i}.h5"
            volume_writer(path, n_slices=2, n_coils=2, matrix=(32, 40), seed=10 * n + i)
    evaluate_both(str(tmp_path), "one")
    run_ranks(2, "chosen_by_ranks:evaluate_both", str(tmp_path), "two")
    one, two = (json.loads((tmp_path / of / "tv" / "summary.json").read_text()) for of in ("one", "two"))
    assert one["chosen"] == two["chosen"]
    chosen = one["chosen"]
    assert len({tried["nmse"] for tried in chosen["tried"]}) == len(chosen["tried"]) == 7 + chosen["n_beyond_grid"]
    assert one["options"] == two["options"]
    assert (one["seconds_per_slice"]["n_slices"], two["seconds_per_slice"]["n_slices"]) == (3, 2)
    for name in ("zero-filled/volumes.csv", "tv/volumes.csv", "together/table.csv"):
        assert rows(tmp_path / "one" / name) == rows(tmp_path / "two" / name)
    pictures = sorted((tmp_path / "one" / "together" / "figures").iterdir())
    assert len(pictures) == 2
    for path in pictures:
        assert path.read_bytes() == (tmp_path / "two" / "together" / "figures" / path.name).read_bytes()
