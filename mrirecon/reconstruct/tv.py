"""Total variation (Rudin, Osher and Fatemi 1992) of complex images, as compressed sensing uses it (Lustig et al. 2007).

`min 1/2 ||A x - y||^2 + lambda TV(x)` with backward periodic differences, as BART's `pics -R T:3:0:lambda`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import unknown_name
from mrirecon.reconstruct.problem import Penalised, Problem, inner, ratio

_DUAL_STEP = 0.3  # of the primal-dual method, in units in which images have a maximum of 1
_PENALTY = 0.25  # of ADMM
_INNER_STEPS = 5  # conjugate gradients in each step of ADMM


class TotalVariation(Penalised):
    """The minimiser of the misfit plus total variation; see `Penalised`.

    Args:
        solver: `admm` (Boyd et al. 2011), or `pdhg`, the primal-dual method of Chambolle and Pock (2011) with a
            gradient step on the misfit (Condat 2013). Both have the same minimum.
        isotropic: Penalise the length of the gradient, or else both differences apart.
        further: Those of `Penalised`.

    Raises:
        InputError: Unknown solver, or from `Penalised`.
    """

    def __init__(self, solver: str, isotropic: bool, **further: Any) -> None:
        super().__init__(**further)
        if solver not in SOLVERS:
            raise unknown_name("solver", solver, SOLVERS)
        self.solver, self.isotropic = solver, isotropic

    def steps(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        return SOLVERS[self.solver](problem, self.weight, self.isotropic)


def differences(image: Tensor) -> Tensor:
    """Backward periodic differences along height and width, BART's, `(batch, h, w)` to `(batch, 2, h, w)`."""
    return torch.stack([image - image.roll(1, -2), image - image.roll(1, -1)], 1)


def adjoint_differences(fields: Tensor) -> Tensor:
    """The adjoint of `differences`: `(batch, 2, h, w)` to `(batch, h, w)`."""
    return fields[:, 0] - fields[:, 0].roll(-1, -2) + fields[:, 1] - fields[:, 1].roll(-1, -1)


def _lengths(fields: Tensor, isotropic: bool) -> Tensor:
    """Lengths `(batch, 1, h, w)` of gradients `(batch, 2, h, w)`, or of their parts `(batch, 2, h, w)`."""
    squares = torch.view_as_real(fields).square().sum(-1)  # much faster than the modulus of complex numbers
    return (squares.sum(1, keepdim=True) if isotropic else squares).sqrt()


def total_variation(fields: Tensor, isotropic: bool) -> Tensor:
    """Sum of the lengths of gradients `(batch, 2, h, w)`, double `(batch,)`.

    That of Rudin, Osher and Fatemi (1992); with `isotropic` false, of the moduli of both parts.
    """
    return _lengths(fields, isotropic).sum(-1).double().sum((1, 2))


def _primal_dual(problem: Problem, weight: float, isotropic: bool) -> Iterator[tuple[Tensor, Tensor]]:
    step = 1 / (1 + 8 * _DUAL_STEP)  # 1/step - 8 dual_step >= half of the largest eigenvalue of A^H A
    image = problem.adjoint
    normal, gradient = problem.normal(image), differences(image)
    dual = torch.zeros_like(gradient)
    while True:
        last = gradient
        image = image - step * (normal - problem.adjoint + adjoint_differences(dual))
        normal, gradient = problem.normal(image), differences(image)
        dual = dual + _DUAL_STEP * (2 * gradient - last)
        dual = dual / (_lengths(dual, isotropic) / weight).clamp(min=1)
        yield image, problem.misfit(image, normal) + weight * total_variation(gradient, isotropic)


def _alternating(problem: Problem, weight: float, isotropic: bool) -> Iterator[tuple[Tensor, Tensor]]:
    image, normal = problem.adjoint, problem.normal(problem.adjoint)
    gradient = differences(image)
    split, scaled_dual = gradient, torch.zeros_like(gradient)
    while True:
        aim = _PENALTY * adjoint_differences(split - scaled_dual) + problem.adjoint
        residual = direction = aim - normal - _PENALTY * adjoint_differences(gradient)
        energy = inner(residual, residual)
        for _ in range(_INNER_STEPS):
            along, along_gradient = problem.normal(direction), differences(direction)
            curved = along + _PENALTY * adjoint_differences(along_gradient)
            curvature = inner(direction, curved)
            length = ratio(energy, curvature, image)
            image, normal = image + length * direction, normal + length * along
            gradient = gradient + length[:, None] * along_gradient
            residual = residual - length * curved
            before, energy = energy, inner(residual, residual)
            direction = residual + ratio(energy, before, image) * direction
        wanted = gradient + scaled_dual
        lengths = _lengths(wanted, isotropic)
        split = wanted * (1 - weight / _PENALTY / lengths.clamp(min=1e-30)).clamp(min=0)
        scaled_dual = wanted - split
        yield image, problem.misfit(image, normal) + weight * total_variation(gradient, isotropic)


SOLVERS = {"pdhg": _primal_dual, "admm": _alternating}
