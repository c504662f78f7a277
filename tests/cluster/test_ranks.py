"""What processes say to each other, against sums and rows made by hand."""

import pytest
import torch
from ranks_of_a_test import run_ranks

from mrirecon import ranks


def talk():
    me = ranks.rank()
    rows = torch.arange(2.0 * me, dtype=torch.float64).reshape(me, 2) + 10 * me  # rank 0 has none
    return {
        "rank": [me, ranks.world_size(), ranks.is_first()],
        "any": [ranks.any_of(False), ranks.any_of(me == 2), ranks.any_of(True)],
        "sum": ranks.sum_of([1.0, me, 1e-12]),
        "first": ranks.from_first(lambda: {"path": f"ü/{me}", "empty": []}),
        "said": [ranks.first_said(f"ü {me}\n" if me else ""), ranks.first_said(""), ranks.first_said(str(me))],
        "nothing": ranks.from_first(lambda: None),
        "rows": ranks.gather_rows(rows).tolist(),
        "none": list(ranks.gather_rows(torch.empty(0, 3)).shape),
    }


def test_three_processes_agree():
    said = run_ranks(3, "test_ranks:talk")
    for me, own in enumerate(said):
        assert own.pop("rank") == [me, 3, me == 0]
    assert said[0] == said[1] == said[2]
    assert said[0]["any"] == [False, True, True]
    assert said[0]["sum"] == pytest.approx([3, 3, 3e-12], rel=1e-15)
    assert said[0]["first"] == {"path": "ü/0", "empty": []}
    assert said[0]["said"] == ["ü 1\n", "", "0"]
    assert said[0]["nothing"] is None
    assert said[0]["rows"] == [[10, 11], [20, 21], [22, 23]]
    assert said[0]["none"] == [0, 3]


def test_alone_everything_is_at_hand():
    assert (ranks.rank(), ranks.world_size(), ranks.is_first()) == (0, 1, True)
    assert ranks.sum_of([2.5]) == [2.5]
    assert ranks.from_first(lambda: {"a": 1}) == {"a": 1}
    rows = torch.ones(2, 3)
    assert ranks.gather_rows(rows) is rows
    assert not ranks.any_of(False)
    assert ranks.first_said("a") == "a"
    ranks.barrier()
