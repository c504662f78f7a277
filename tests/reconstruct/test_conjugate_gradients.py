"""SENSE by conjugate gradients is the solution of its normal equations."""

import pytest
import torch
from kspace_problems import SIZE, columns, dense, kspace_of, maps_and_image

from mrirecon.errors import InputError
from mrirecon.reconstruct.problem import Problem
from mrirecon.reconstruct.sense import ConjugateGradientSense


def sense(weight, iterations=400, tolerance=0.0):
    return ConjugateGradientSense(lambda_=weight, iterations=iterations, tolerance=tolerance, maps="espirit", crop=0.0)


@pytest.mark.parametrize("weight", [1e-3, 0.1])
def test_it_equals_the_direct_solution(weight):
    maps, image = maps_and_image()
    mask = columns()
    kspace, matrix = kspace_of(image, maps, mask, noise=0.05), dense(maps, mask)
    problem = Problem.of_kspace(kspace[None], mask[None], maps[None], SIZE)
    system = matrix.mH @ matrix + weight * torch.eye(matrix.shape[1], dtype=matrix.dtype)
    expected = torch.linalg.solve(system, matrix.mH @ kspace.flatten())
    found = sense(weight).solve(problem)
    torch.testing.assert_close((found.image * problem.scale).flatten(), expected, rtol=1e-6, atol=1e-8)
    residual = matrix @ expected - kspace.flatten()
    objective = (residual.abs().square().sum() + weight * expected.abs().square().sum()) / 2
    torch.testing.assert_close(found.objective[-1] * problem.scale.flatten() ** 2, objective[None])


def test_without_noise_it_unfolds_what_zero_filling_cannot():
    maps, image = maps_and_image(8)
    kspace = kspace_of(image, maps, columns())
    problem = Problem.of_kspace(kspace[None], columns()[None], maps[None], SIZE)

    def error(found):
        return float(torch.linalg.vector_norm(found.abs() - image.abs()) / torch.linalg.vector_norm(image))

    assert error((sense(1e-8).solve(problem).image * problem.scale)[0]) < 1e-3
    assert error((problem.adjoint * problem.scale)[0]) > 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lambda_": None}, "lambda is not set: give --method.lambda"),
        ({"lambda_": 0.0}, "lambda is 0; it must be above 0"),
        ({"lambda_": -1.0}, "lambda is -1; it must be above 0"),
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"tolerance": -1e-3}, "tolerance is -0.001; it must be at least 0"),
        ({"crop": 1.0}, "crop is 1; it must be from 0 to below 1"),
    ],
)
def test_numbers_out_of_range(options, words):
    given = {"lambda_": 0.1, "iterations": 5, "tolerance": 0.0, "maps": "espirit", "crop": 0.0} | options
    with pytest.raises(InputError, match=words):
        ConjugateGradientSense(**given)
