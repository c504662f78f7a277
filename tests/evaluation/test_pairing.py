"""What may be compared, and how volumes find each other."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from result_rows import changed_row, foreign_row, row

from mrirecon.errors import InputError
from mrirecon.evaluation.pairing import Table, of_origin, pair


def rows(n=6, draws=1, offset=0.0, **changes):
    """Volumes v0, v1, ...: the masks are the volumes' own, draw by draw."""
    return [
        row(f"v{i}.h5", **{"mask_draw": d, "mask_id": f"id{i}{d}", "ssim": offset + i + d / 10} | changes)
        for i in range(n)
        for d in range(draws)
    ]


def table(name="a", found=None, **facts):
    return Table(name, rows() if found is None else found, **{"split": "test", "slices": "all"} | facts)


def changed(index, **changes):
    """Six rows of which one is other."""
    found = rows()
    return [*found[:index], changed_row(found[index], **changes), *found[index + 1 :]]


def test_units_are_the_means_over_draws_whatever_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    found = [rows(5, 3, offset) for offset in (0.0, 100.0)]
    for rows_of in found:
        rng.shuffle(rows_of)
    pairs = pair([table("a", found[0]), table("b", found[1])])
    assert pairs.volumes == tuple(f"v{i}.h5" for i in range(5)) == pairs.patients
    np.testing.assert_allclose(pairs.scores["ssim"], [np.arange(5) + 0.1, np.arange(5) + 100.1], rtol=1e-14)
    assert (pairs.n_draws, pairs.mask, pairs.origin, pairs.split) == (3, "random", "measured", "test")
    assert pairs.zero_filled["psnr"].tolist() == [28.0] * 5


def test_a_volume_at_two_accelerations_is_two_units():
    found = [row("v.h5", acceleration=r, mask_id=str(r), ssim=1 / r) for r in (8.0, 4.0)]
    pairs = pair([table("a", found), table("b", found)])
    assert pairs.accelerations == (4.0, 8.0)
    assert pairs.scores["ssim"].tolist() == [[1 / 4, 1 / 8]] * 2


def test_means_are_over_slices_where_the_protocol_is():
    found = [row(f"v{i}.h5", n_slices=i + 1, protocol="algoperf-v1") for i in range(3)]
    assert pair([table("a", found), table("b", found)]).weights.tolist() == [1, 2, 3]
    assert pair([table(), table("b")]).weights.tolist() == [1] * 6


def test_bare_names_pair_where_one_folder_was_given_from_further_up():
    above = [replace(r, volume=f"test/{r.volume}", patient=f"test/{r.volume}") for r in rows()]
    pairs = pair([table(), table("b", above)])
    assert pairs.volumes == tuple(f"v{i}.h5" for i in range(6))
    assert pairs.patients == pairs.volumes  # files without an id are their own patient


def test_bare_names_of_two_files_do_not_pair():
    above = [replace(r, volume=f"{r.volume[1]}/w.h5", patient="p") for r in rows()]
    with pytest.raises(InputError, match=r"b has no v0\.h5 \(6 of the 6 of a\)"):
        pair([table("a", changed(0, patient="p")), table("b", above)])


FAULTS = {
    "protocol": (rows(protocol="algoperf-v1"), {}, "protocols: fastmri-v1 in a, algoperf-v1 in b; .*--protocol"),
    "mask": (rows(mask="equispaced"), {}, "masks: random in a, equispaced in b; .*--mask"),
    "acceleration": (rows(acceleration=8.0), {}, "accelerations: 4x in a, 8x in b; .*--acceleration"),
    "origin": (rows(origin="simulated-from-phantom"), {}, "origins: measured in a, simulated-from-phantom in b"),
    "split": (rows(), {"split": "val"}, "splits: test in a, val in b; .*--split"),
    "slices": (rows(), {"slices": "2 to 5"}, "slices: all in a, 2 to 5 in b; .*--slices"),
    "fewer volumes": (rows(5), {}, r"different volumes: b has no v5\.h5 \(1 of the 6 of a\); .*--split-seed"),
    "more volumes": (rows(8), {}, r"different volumes: a has no v6\.h5 \(2 of the 8 of b\)"),
    "draws": (rows(draws=2), {}, r"mask draws of v0\.h5: 0 at 4x in a, 0 at 4x, 1 at 4x in b; .*--mask-draws"),
    "mask columns": (changed(3, mask_id="other"), {}, r"masks of v3\.h5: id30 in a, other in b \(1 of 6 pairs\)"),
    "scored slices": (changed(2, n_slices=9), {}, r"numbers of scored slices of v2\.h5: 12 in a, 9 in b \(1 of 6"),
    "patient": (changed(1, patient="q"), {}, r"patients of v1\.h5: v1\.h5 in a, q in b"),
    "samples": (changed(4, zf_nmse=0.0501), {}, r"samples of v4\.h5: .* 0\.05 in a, of 0\.0501 in b"),
    "row twice": ([*rows(), rows()[5]], {}, r"b has two rows of v5\.h5, draw 0"),
    "no rows": ([], {}, "b has no rows"),
    "two protocols": (changed(0, protocol="p"), {}, r"b mixes protocols \(fastmri-v1, p\)"),
    "two masks": (changed(0, mask="file"), {}, r"b mixes masks \(file, random\)"),
    "two origins": (changed(0, origin="x"), {}, r"b mixes origins \(measured, x\).*--origin"),
    "two methods": (changed(0, reconstructor="x"), {}, r"b mixes reconstructors \(unet, x\)"),
    "two checkpoints": (changed(0, checkpoint="last"), {}, r"b mixes checkpoints \(best, last\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_must_not_be_mixed_is_named_in_one_line(fault):
    found, facts, says = FAULTS[fault]
    with pytest.raises(InputError, match=says) as caught:
        pair([table(), table("b", found, **facts)])
    assert "\n" not in str(caught.value)


def test_the_third_table_is_looked_at_too_in_any_order():
    tables = [table(), table("b"), table("c", rows(5))]
    for order in permutations(tables):
        with pytest.raises(InputError, match=r"c has no v5\.h5"):
            pair(order)


def test_what_is_not_known_differs_from_nothing():
    """A table without a summary has no split and no slices; rounding in the zero-filled scores is no other file."""
    found = rows(zf_nmse=0.05 * (1 + 1e-6))
    assert pair([table(split="", slices=""), table("b", found)]).split == "test"


def test_an_undeclared_mask_needs_leave_and_is_remembered():
    foreign = [foreign_row(f"v{i}.h5", ssim=i / 10) for i in range(6)]
    for tables in ([table(), Table("theirs", foreign)], [Table("theirs", foreign), table()]):
        with pytest.raises(InputError, match="theirs declares no mask or acceleration; .*--allow-undeclared"):
            pair(tables)
        pairs = pair(tables, allow_undeclared=True)
        assert (pairs.undeclared, pairs.unchecked) == (("theirs",), ())
        assert (pairs.mask, set(pairs.accelerations)) == ("random", {4.0})
        assert pairs.zero_filled["ssim"].tolist() == [0.7] * 6  # from the table that knows


def test_only_the_acceleration_undeclared():
    foreign = [foreign_row(f"v{i}.h5", mask="random") for i in range(6)]
    with pytest.raises(InputError, match="theirs declares no acceleration; "):
        pair([table(), Table("theirs", foreign)])


def test_a_declared_mask_is_taken_and_not_checked():
    foreign = [foreign_row(f"v{i}.h5", mask="random", acceleration=4.0) for i in range(6)]
    assert pair([table(), Table("theirs", foreign)]).unchecked == ("theirs",)
    with pytest.raises(InputError, match="masks: random in a, equispaced in theirs"):
        pair([table(), Table("theirs", [replace(r, mask="equispaced") for r in foreign])])


def test_two_undeclared_tables_pair_with_each_other():
    foreign = [foreign_row(f"v{i}.h5") for i in range(6)]
    pairs = pair([Table("x", foreign), Table("y", foreign)], allow_undeclared=True)
    assert math.isnan(pairs.accelerations[0])
    assert pairs.mask == "undeclared"
    assert np.isnan(pairs.zero_filled["ssim"]).all()


def test_an_undeclared_acceleration_is_not_guessed_among_several():
    ours = [row("v.h5", acceleration=r, mask_id=str(r)) for r in (4.0, 8.0)]
    with pytest.raises(InputError, match="theirs declares no acceleration and the others have several .*4x, 8x"):
        pair([table("a", ours), Table("theirs", [foreign_row("v.h5")])], allow_undeclared=True)


def test_one_origin_of_several():
    mixed = table("a", [*rows(), *(replace(r, volume=f"w{r.volume}", origin="x") for r in rows())])
    assert of_origin(mixed, "measured").rows == rows()
    with pytest.raises(InputError, match="a has no volumes of the origin 'simulated', but of measured, x"):
        of_origin(mixed, "simulated")
