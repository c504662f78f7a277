"""Which mask a volume gets."""

import dataclasses

import numpy as np
import pytest
import torch

from mrirecon.config import DataConfig
from mrirecon.data.masking import (
    MaskSpec,
    evaluation_mask,
    mask_id,
    mask_spec,
    resolve_mask_name,
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


def test_a_files_own_mask_wins_everywhere(volume_writer, tmp_path):
    columns = np.zeros(40, np.uint8)
    columns[[1, 5, 17, 18, 19, 20, 21, 22, 30]] = 1
    path = volume_writer(tmp_path / "a.h5", mask=columns, target=False, attrs={"acceleration": 4})
    for mask in (
        evaluation_mask(Volume(path), RANDOM),
        evaluation_mask(Volume(path), BOTH, draw=3),
        training_mask(Volume(path), RANDOM, 1),
    ):
        assert mask.columns.tolist() == columns.astype(bool).tolist()
        assert (mask.acceleration, mask.acceleration_true, mask.n_center) == (4, 40 / 9, 6)
        assert mask.center_fraction == 6 / 40
    bare = volume_writer(tmp_path / "b.h5", mask=columns, target=False)
    assert evaluation_mask(Volume(bare), RANDOM).acceleration == pytest.approx(40 / 9)


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
