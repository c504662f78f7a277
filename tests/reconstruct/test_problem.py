"""The common problem of the classical methods is that of the tested operator `Sense`, in any of its forms."""

import pytest
import torch
from kspace_problems import SIZE, columns, dense, kspace_of, maps_and_image, sample_of

from mrirecon.data.samples import collate, uncollated
from mrirecon.errors import InputError
from mrirecon.physics import Sense, center_crop
from mrirecon.reconstruct.maps import KINDS, Maps
from mrirecon.reconstruct.options import method_options, option_keys
from mrirecon.reconstruct.problem import WHITENED, Problem, minimised
from mrirecon.reconstruct.sense import Combined
from mrirecon.tables.entry import builder
from mrirecon.tables.methods import METHODS


def random_image(size=SIZE):
    return torch.randn(1, *size, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)


@pytest.mark.parametrize("is_2d", [False, True])
def test_normal_and_misfit_are_those_of_the_matrix(is_2d):
    maps, image = maps_and_image()
    mask = columns()
    kspace = kspace_of(image, maps, mask, noise=0.1)
    matrix, x = dense(maps, mask), random_image()
    given = mask[None].expand(SIZE) if is_2d else mask
    problem = Problem.of_kspace(kspace[None], given[None], maps[None], SIZE)
    scale = problem.scale.flatten()
    torch.testing.assert_close(problem.normal(x).flatten(), matrix.mH @ (matrix @ x.flatten()))
    torch.testing.assert_close(problem.adjoint.flatten() * scale, matrix.mH @ kspace.flatten())
    misfit = torch.linalg.vector_norm(matrix @ x.flatten() - kspace.flatten() / scale) ** 2 / 2
    torch.testing.assert_close(problem.misfit(x, problem.normal(x)), misfit[None])
    assert problem.adjoint.abs().max() == pytest.approx(1)


def test_rows_outside_of_the_image_are_left_out_without_changing_the_others():
    maps, image = maps_and_image(size=(48, 20))
    mask, x = columns(), random_image((48, 20))
    kspace = kspace_of(image, maps, mask)
    whole = Problem.of_kspace(kspace[None], mask[None], maps[None], (48, 20))
    cut = Problem.of_kspace(kspace[None], mask[None], maps[None], SIZE)
    expected = center_crop(whole.normal(x), SIZE)
    torch.testing.assert_close(cut.normal(center_crop(x, SIZE)), expected)
    torch.testing.assert_close(cut.adjoint * cut.scale, center_crop(whole.adjoint * whole.scale, SIZE))
    assert cut.smaps.shape[-2:] == SIZE


def test_the_scale_of_kspace_is_that_of_the_image():
    maps, image = maps_and_image(dtype=torch.complex64)
    kspace = kspace_of(image, maps, columns())
    method = Combined(maps="espirit", crop=0.0)
    one = method(sample_of(kspace, columns(), SIZE))
    for factor in (1e-9, 1e9):
        torch.testing.assert_close(
            method(sample_of(kspace * factor, columns(), SIZE)) / factor, one, rtol=1e-3, atol=1e-4
        )


def test_combined_is_the_adjoint_with_the_maps_of_the_sample():
    maps, image = maps_and_image(dtype=torch.complex64)
    kspace = kspace_of(image, maps, columns())
    sample = sample_of(kspace, columns(), SIZE)
    found = Combined(maps="low-resolution", crop=0.0)(sample)
    smaps = Maps("low-resolution", 0.0)(sample)
    torch.testing.assert_close(found, Sense.of_batch(smaps, sample.mask).adjoint(sample.masked_kspace).abs())


def test_one_coil_has_no_maps():
    kspace = kspace_of(
        maps_and_image(1, dtype=torch.complex64)[1], torch.ones(1, *SIZE, dtype=torch.complex64), columns()
    )
    sample = sample_of(kspace, columns(), SIZE, n_center=0)
    assert bool((Maps("espirit", 0.8)(sample) == 1).all())


def test_kept_maps_are_never_those_of_other_kspace():
    maps, image = maps_and_image(dtype=torch.complex64)
    kspace = kspace_of(image, maps, columns(), noise=0.01)
    find = Maps("espirit", 0.0)
    first, again = find(sample_of(kspace, columns(), SIZE)), find(sample_of(kspace.clone(), columns(), SIZE))
    other = find(sample_of(kspace.flip(0), columns(), SIZE))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, find(sample_of(kspace, columns(), SIZE, n_center=5)))


@pytest.mark.parametrize(
    ("kind", "n_center", "words"),
    [
        ("espirit", 2, "v.h5, slice 0: ESPIRiT needs at least 4 fully sampled central columns"),
        (
            "low-resolution",
            1,
            "v.h5, slice 0: low-resolution maps need at least 2 fully sampled .* and there are 1",
        ),
        ("espirt", 6, "unknown maps 'espirt'"),
    ],
)
def test_what_has_no_maps(kind, n_center, words):
    maps, image = maps_and_image(dtype=torch.complex64)
    sample = sample_of(kspace_of(image, maps, columns()), columns(), SIZE, n_center)
    with pytest.raises(InputError, match=words):
        Maps(kind, 0.0)(sample)


@pytest.mark.parametrize("whiten", WHITENED)
@pytest.mark.parametrize("maps", KINDS)
@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if "kspace" in entry.needs])
def test_a_slice_without_signal_gives_an_image_without_and_leaves_the_other_alone(name, maps, whiten):
    """In a batch with one that has some, as some volumes end with empty slices."""
    smaps, image = maps_and_image(dtype=torch.complex64, size=(96, 20))
    kspace = kspace_of(image, smaps, columns(), noise=0.01)
    covariance = (torch.eye(4) + 0.1 * torch.ones(4, 4)).to(torch.complex64)
    both = [
        uncollated(sample_of(values, columns(), SIZE, noise_covariance=covariance), 0)
        for values in (kspace, 0 * kspace)
    ]
    values = {"maps": maps, "whiten": whiten, **{option: grid[2] for option, grid in METHODS[name].chosen.items()}}
    keys = option_keys(METHODS[name])
    options = {keys[option].name: value for option, value in method_options(name, values).items()}
    method = builder(METHODS[name].build)(**options)
    found = method(collate(both))
    assert bool((found[1] == 0).all())
    assert float(found[0].max()) > 0
    torch.testing.assert_close(found[:1], method(collate(both[:1])))


def test_each_slice_stops_by_itself():
    objectives = [torch.tensor([2.0**-i + 1, 1.0]) for i in range(60)]
    steps = [(torch.full((2, 1, 1), float(i)), value) for i, value in enumerate(objectives)]
    found = minimised(steps, 50, 1e-3)
    first, second = found.n_iterations.tolist()
    assert second == 11  # it stands still from the start, which is seen after ten iterations
    change = [abs(objectives[i - 10][0] - objectives[i][0]) <= 1e-3 * objectives[i][0] for i in range(10, 60)]
    assert first == change.index(True) + 11
    assert found.image.flatten().tolist() == [first - 1, second - 1]
    assert minimised(steps, 5, 0).n_iterations.tolist() == [5, 5]
