"""Which mask a volume gets."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch

from mrirecon.config import DataConfig
from mrirecon.data.folders.volume_files import list_volumes
from mrirecon.data.mask_choice import (
    MaskSpec,
    check_masks,
    evaluation_mask,
    mask_id,
    mask_spec,
    masks_used,
    named_masks,
    resolve_mask_name,
    scored_passes,
    stored_mask,
    training_mask,
)
from mrirecon.data.volume import Volume
from mrirecon.errors import InputError
from mrirecon.physics import MASKS, make_mask

RANDOM = MaskSpec.of("random")
BOTH = MaskSpec.of("random", [4, 8])


@pytest.fixture
def volume(volume_writer, tmp_path):
    return Volume(volume_writer(tmp_path / "file1000000.h5", n_slices=1, n_coils=1, matrix=(8, 368)))


def test_golden_evaluation_mask(volume):
    assert mask_id(evaluation_mask(volume, RANDOM)) == "c814b1134c27"
    assert mask_id(evaluation_mask(volume, MaskSpec.of("random", 8))) == "cb9280885f79"
    assert mask_id(evaluation_mask(volume, BOTH)) == "4051007fa71e"


def test_a_renamed_copy_keeps_its_mask_only_with_the_attribute(volume_writer, tmp_path, volume):
    options = {"n_slices": 1, "n_coils": 1, "matrix": (8, 368)}
    renamed = Volume(volume_writer(tmp_path / "file1000000_v2.h5", **options))
    kept = Volume(volume_writer(tmp_path / "other.h5", attrs={"mask_seed_name": "file1000000.h5"}, **options))
    expected = mask_id(evaluation_mask(volume, RANDOM))
    assert mask_id(evaluation_mask(renamed, RANDOM)) != expected
    assert mask_id(evaluation_mask(kept, RANDOM)) == expected


def test_further_draws_differ_and_repeat(volume):
    ids = [mask_id(evaluation_mask(volume, RANDOM, draw)) for draw in range(20)]
    assert len(set(ids)) == 20
    assert ids == [mask_id(evaluation_mask(volume, RANDOM, draw)) for draw in range(20)]
    seed = (*map(ord, "file1000000.h5"), 7)
    assert ids[7] == mask_id(make_mask("random", 368, 0.08, 4, seed))


def test_a_volume_has_one_acceleration_in_evaluation_and_training_draws_both(volume):
    drawn = [training_mask(volume, BOTH, seed) for seed in range(60)]
    pairs = {(mask.acceleration, mask.center_fraction) for mask in drawn}
    assert pairs == {(4, 0.08), (8, 0.04)}
    assert 15 < sum(mask.acceleration == 4 for mask in drawn) < 45
    assert evaluation_mask(volume, BOTH.only(1)).acceleration == 8
    assert BOTH.only(1) == MaskSpec("random", (8,), (0.04,))


def test_training_masks_depend_on_the_seed_alone(volume, volume_writer, tmp_path):
    other = Volume(volume_writer(tmp_path / "b.h5", n_slices=1, n_coils=1, matrix=(8, 368)))
    first = mask_id(training_mask(volume, RANDOM, 5))
    np.random.seed(0)
    torch.manual_seed(0)
    assert mask_id(training_mask(other, RANDOM, 5)) == first
    assert mask_id(training_mask(volume, RANDOM, 6)) != first


def test_true_acceleration_counts_measured_columns(volume_writer, tmp_path):
    padded = Volume(volume_writer(tmp_path / "a.h5", n_slices=1, n_coils=1, matrix=(8, 320), padding=(30, 20)))
    mask = evaluation_mask(padded, MaskSpec.of("equispaced"))
    assert mask.acceleration == 4
    assert mask.acceleration_true == 270 / int(mask.columns[30:300].sum())


@pytest.mark.parametrize("has_dataset", [True, False])
def test_a_files_own_mask_is_used_by_auto_and_file(volume_writer, tmp_path, has_dataset):
    """With the data set `mask`, or gaps in k-space alone: the same masks."""
    columns = np.zeros(40, np.uint8)
    columns[[1, 5, 17, 18, 19, 20, 21, 22, 30]] = 1
    path = volume_writer(tmp_path / "a.h5", mask=columns, attrs={"acceleration": 4})
    bare = volume_writer(tmp_path / "b.h5", mask=columns, target=False)
    if not has_dataset:
        for place in (path, bare):
            with h5py.File(place, "r+") as file:
                del file["mask"]
                file.attrs["max"] = 1
    auto, file_masks = named_masks("auto", [Volume(path)], [4, 8]), named_masks("file", [Volume(path)])
    for mask in (
        evaluation_mask(Volume(path), auto.only(1)),
        evaluation_mask(Volume(path), auto, draw=3),
        training_mask(Volume(path), file_masks, 1),
        stored_mask(Volume(path)),
    ):
        assert mask.columns.tolist() == columns.astype(bool).tolist()
        assert (mask.acceleration, mask.acceleration_true, mask.n_center) == (4, 40 / 9, 6)
        assert mask.center_fraction == 6 / 40
    assert evaluation_mask(Volume(bare), auto).acceleration == pytest.approx(40 / 9)
    for draw in (evaluation_mask, training_mask):
        with pytest.raises(InputError, match=r"a.h5: its k-space is undersampled already \(31 of 40 columns are empty"):
            draw(Volume(path), RANDOM, 1)
    assert masks_used(auto, [Volume(path)])["own"] == {"volumes": 1, "of": 1, "acceleration_true": [40 / 9, 40 / 9]}


def test_a_named_mask_is_drawn_where_kspace_is_full_though_the_file_has_a_mask(volume_writer, tmp_path):
    path = volume_writer(tmp_path / "file1000000.h5", n_slices=1, n_coils=1, matrix=(8, 368))
    with h5py.File(path, "r+") as file:
        file["mask"] = np.arange(368) % 2 == 0
    assert mask_id(evaluation_mask(Volume(path), RANDOM)) == "c814b1134c27"
    assert evaluation_mask(Volume(path), named_masks("auto", [Volume(path)])).acceleration_true == 2
    assert masks_used(RANDOM, [Volume(path)]) == {
        **dataclasses.asdict(RANDOM),
        "own": None,
    }


def test_files_with_and_without_own_masks_are_undersampled_each_its_way(volume_writer, tmp_path):
    own = Volume(volume_writer(tmp_path / "own.h5", mask=np.arange(40) % 2 == 0, acquisition="AXGRE"))
    full = Volume(volume_writer(tmp_path / "full.h5", acquisition="AXGRE"))
    auto = named_masks("auto", [own, full], [4, 8])
    assert [[v.name for v in volumes] for _, volumes in scored_passes(auto, [own, full])] == [
        ["own.h5", "full.h5"],
        ["full.h5"],
    ]
    assert len(scored_passes(auto, [own])) == 1
    used = masks_used(auto, [own, full])
    assert (used["name"], used["accelerations"]) == ("random", (4, 8))
    assert used["own"] == {"volumes": 1, "of": 2, "acceleration_true": [2.0, 2.0]}
    with pytest.raises(InputError, match="full.h5: --mask file, but it has neither"):
        evaluation_mask(full, named_masks("file", [own, full]))


def test_zero_padding_that_the_header_does_not_tell_is_not_measured(volume_writer, tmp_path):
    """The same k-space with and without encoding limits has the same true acceleration."""
    told = volume_writer(tmp_path / "told" / "a.h5", n_slices=1, matrix=(8, 320), padding=(30, 20))
    untold = volume_writer(tmp_path / "untold" / "a.h5", n_slices=1, matrix=(8, 320), padding=(30, 20))
    with h5py.File(untold, "r+") as file:
        del file["ismrmrd_header"]
    masks = [evaluation_mask(Volume(path), RANDOM) for path in (told, untold)]
    assert masks[0].acceleration_true == masks[1].acceleration_true == 270 / int(masks[0].columns[30:300].sum())
    assert Volume(untold).own_mask is None


@pytest.mark.parametrize(
    ("acquisitions", "expected"),
    [
        (["CORPD_FBK", "CORPDFS_FBK"], "random"),
        (["AXT2", "AXFLAIR", "AXT1", "AXT1PRE", "AXT1POST"], "equispaced_fraction"),
        (["AXT2", "CORPD_FBK"], "random"),
        (["AXGRE"], "random"),
        ([], "random"),
    ],
)
def test_auto_goes_by_anatomy(volume_writer, tmp_path, acquisitions, expected):
    volumes = [Volume(volume_writer(tmp_path / f"{name}.h5", n_slices=1, acquisition=name)) for name in acquisitions]
    assert resolve_mask_name("auto", volumes) == expected
    assert mask_spec(DataConfig(), volumes).name == expected
    for name in MASKS:
        assert resolve_mask_name(name, volumes) == name


def test_default_center_fractions():
    assert MaskSpec.of("random", [4, 8]).center_fractions == (0.08, 0.04)
    assert mask_spec(DataConfig(mask="random", acceleration=[5]), []).center_fractions == (0.064,)
    assert mask_spec(DataConfig(mask="random", center_fraction=[0.1]), []).center_fractions == (0.1,)


def test_wrong_settings():
    with pytest.raises(InputError, match="did you mean 'equispaced'"):
        MaskSpec.of("equispace")
    with pytest.raises(InputError, match="did you mean 'auto'"):
        resolve_mask_name("autos", [])
    with pytest.raises(InputError, match="1 center fractions for 2 accelerations"):
        MaskSpec.of("random", [4, 8], [0.08])
    with pytest.raises(InputError, match="0 accelerations"):
        MaskSpec.of("random", [], [])
    assert dataclasses.is_dataclass(RANDOM)
    assert hash(RANDOM) == hash(MaskSpec.of("random", 4, 0.08))


def test_masks_are_checked_of_each_width(tmp_path, volume_writer):
    """A centre that is less than a column of the last volume is found, though wider ones fit."""
    for i, width in enumerate((48, 48, 16)):
        volume_writer(tmp_path / f"{i}.h5", n_slices=1, n_coils=2, matrix=(16, width))
    volumes = list_volumes(tmp_path)
    check_masks(volumes, MaskSpec.of("random", 4, 0.08))
    spec = MaskSpec.of("random", [4, 8], [0.08, 0.02])
    check_masks(volumes[:2], spec)
    with pytest.raises(InputError, match="of 16 columns is less than one column"):
        check_masks(volumes, spec)
