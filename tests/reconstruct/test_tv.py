"""Total variation: its operators, its minimum by two methods, closed forms, and BART's."""

import h5py
import pytest
import torch
from bart_program import needs_bart, pics
from kspace_problems import SIZE, columns, kspace_of, maps_and_image, sample_of

from mrirecon.config import SimulateConfig
from mrirecon.data import SliceDataset
from mrirecon.data.samples import collate
from mrirecon.errors import InputError
from mrirecon.physics import ifft2c, make_mask, rss
from mrirecon.physics.espirit import espirit_smaps
from mrirecon.reconstruct.maps import Maps
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.tv import SOLVERS, TotalVariation, adjoint_differences, differences, total_variation
from mrirecon.workflows.simulate import simulate_volume


def tv(weight, solver="admm", isotropic=True, iterations=200, tolerance=0.0):
    return TotalVariation(
        solver, isotropic, lambda_=weight, iterations=iterations, tolerance=tolerance, maps="espirit", crop=0.0
    )


def small_problem(noise=0.05):
    maps, image = maps_and_image()
    kspace = kspace_of(image, maps, columns(), noise)
    return Problem.of_kspace(kspace[None], columns()[None], maps[None], SIZE)


def test_differences_are_backward_and_periodic_and_have_their_adjoint():
    image = torch.arange(6.0).reshape(1, 2, 3).to(torch.complex128)
    assert differences(image).real.tolist() == [
        [[[-3.0, -3.0, -3.0], [3.0, 3.0, 3.0]], [[-2.0, 1.0, 1.0], [-2.0, 1.0, 1.0]]]
    ]
    generator = torch.Generator().manual_seed(0)
    x, fields = (torch.randn(1, *s, generator=generator, dtype=torch.complex128) for s in ((5, 4), (2, 5, 4)))
    forward = torch.vdot(differences(x).flatten(), fields.flatten())
    torch.testing.assert_close(forward, torch.vdot(x.flatten(), adjoint_differences(fields).flatten()))


def test_total_variation_of_a_square_is_its_edge():
    image = torch.zeros(1, 12, 12, dtype=torch.complex128)
    image[:, 3:8, 4:9] = 2j
    assert float(total_variation(differences(image), isotropic=False)) == pytest.approx(2 * 4 * 5)
    corner = 2 * (2**0.5 - 2)  # at one corner both differences meet in one pixel
    assert float(total_variation(differences(image), isotropic=True)) == pytest.approx(2 * 4 * 5 + corner)


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("weight", [3e-3, 3e-2])
def test_both_solvers_have_the_same_minimum(weight, isotropic):
    problem = small_problem()
    found = {name: tv(weight, name, isotropic, 1500, 1e-9).solve(problem) for name in SOLVERS}
    lowest = {name: float(solution.objective[-1]) for name, solution in found.items()}
    assert lowest["pdhg"] == pytest.approx(lowest["admm"], rel=1e-4)
    torch.testing.assert_close(found["pdhg"].image, found["admm"].image, rtol=0, atol=5e-3)


def test_the_minimum_is_certified_by_a_dual_point():
    """Of a fully sampled image the dual problem is known: its value is a lower bound, and here they meet."""
    image = maps_and_image()[1][None] + 0.1
    kspace = kspace_of(image[0], torch.ones(1, *SIZE, dtype=image.dtype), torch.ones(SIZE[1], dtype=torch.bool))
    problem = Problem.of_kspace(kspace[None], torch.ones(1, SIZE[1], dtype=torch.bool), torch.ones(1, 1, *SIZE), SIZE)
    weight, data = 0.05, problem.adjoint
    found = tv(weight, "pdhg", iterations=4000, tolerance=1e-12).solve(problem)
    # at the minimum data - x = D^T p with |p| <= weight; the dual value is (|data|^2 - |data - D^T p|^2) / 2
    primal = float(found.objective[-1])
    dual = float((data.abs().square().sum() - found.image.abs().square().sum()) / 2)
    assert primal == pytest.approx(dual, rel=1e-5)


def test_a_large_weight_leaves_the_mean():
    image = maps_and_image()[1]
    mask = torch.ones(SIZE[1], dtype=torch.bool)
    ones = torch.ones(1, *SIZE, dtype=image.dtype)
    problem = Problem.of_kspace(kspace_of(image, ones, mask)[None], mask[None], ones[None], SIZE)
    found = (tv(10.0, iterations=3000, tolerance=1e-12).solve(problem).image * problem.scale)[0]
    torch.testing.assert_close(found, image.mean().expand(SIZE), rtol=0, atol=1e-4)


def test_an_unknown_solver_is_refused():
    with pytest.raises(InputError, match=r"unknown solver 'fista'.*admm"):
        tv(0.1, "fista")


def of_file(path, acceleration=4):
    """Slice 0 of a file, its mask (drawn of full k-space) and its maps, as a problem."""
    with h5py.File(path) as file:
        full = torch.from_numpy(file["kspace"][0])
    drawn = make_mask("random", full.shape[-1], 0.08, acceleration, 1)
    kspace = torch.where(drawn.columns, full, 0)
    smaps = espirit_smaps(kspace, drawn.n_center)
    size = tuple(full.shape[-2:])
    return Problem.of_kspace(kspace[None], drawn.columns[None], smaps[None], size), kspace, smaps, drawn.columns


def require_that_of_bart(folder, problem, kspace, smaps, mask, weight):
    image = torch.from_numpy(pics(folder, problem, kspace, smaps, mask, f"T:3:0:{weight}"))[None]
    found = tv(weight, iterations=60).solve(problem)
    # of sizes that 4 does not divide BART's centred transform is the negative of ours
    image = image * torch.sign(torch.vdot(image.flatten(), found.image.flatten()).real)
    objective = problem.misfit(image, problem.normal(image)) + weight * total_variation(differences(image), True)
    assert float(found.objective[-1]) <= 1.005 * float(objective)
    assert float((found.image - image).abs().square().sum() / image.abs().square().sum()) < 1e-3


@pytest.mark.realdata
@needs_bart
@pytest.mark.parametrize("name", ["brain_t1_7ch", pytest.param("brain_gre_3t_16ch", marks=pytest.mark.slow)])
def test_it_equals_bart(shared_data, tmp_path, name):
    require_that_of_bart(tmp_path, *of_file(shared_data / "multicoil" / f"{name}.h5"), 0.01)


@pytest.mark.realdata
@needs_bart
def test_it_equals_bart_where_both_axes_are_undersampled(shared_data, tmp_path):
    """A file of 12 % of a two-dimensional pattern: what was not measured is not held against the image."""
    dataset = SliceDataset(shared_data / "multicoil_undersampled", None, targets=False)
    sample = collate([dataset[0]])
    problem, smaps = Problem.of_sample(sample, Maps("espirit", 0.0)), Maps("espirit", 0.0)(sample)
    kspace = sample.masked_kspace[0]
    mask = (kspace != 0).any(0)
    assert mask.float().mean() < 0.2
    require_that_of_bart(tmp_path, problem, kspace, smaps[0], mask, 0.005)


@pytest.mark.parametrize("kind", ["random", "equispaced"])
@pytest.mark.parametrize("acceleration", [2, 4])
def test_it_beats_zero_filled_on_every_simulated_head(kind, acceleration):
    """By NMSE against the noise-free image, with one weight for all."""
    config = SimulateConfig(output="unused", matrix=[64, 64], slices=1, coils=6, oversampling=1.0, seed=3)
    for index in range(4):
        head = simulate_volume(config, "test", index)
        kept = make_mask(kind, 64, 0.125, acceleration, index).columns
        kspace = torch.where(kept, torch.from_numpy(head.kspace[0]), 0)
        truth = torch.from_numpy(head.ground_truth[0])
        found = tv(0.003, tolerance=1e-3)(sample_of(kspace, kept, (64, 64), n_center=8))[0]
        zero_filled = rss(ifft2c(kspace))
        errors = [float((image - truth).square().sum() / truth.square().sum()) for image in (found, zero_filled)]
        assert errors[0] < 0.7 * errors[1]
