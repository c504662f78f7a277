"""Reconstructions that are linear in k-space: coil combination with maps, and SENSE by conjugate gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mrirecon.data.samples import Sample
from mrirecon.reconstruct.maps import Maps
from mrirecon.reconstruct.problem import Penalised, Problem, inner, ratio, require_whitened


class Combined:
    """The zero-filled image of all coils, combined with their maps: `A^H y` (Roemer et al. 1990)."""

    def __init__(self, maps: str, crop: float, whiten: str = "none") -> None:
        self.maps, self.whiten = Maps(maps, crop), require_whitened(whiten)

    def __call__(self, sample: Sample) -> Tensor:
        """Return the images `(batch, height, width)` in the units of the target."""
        problem = Problem.of_sample(sample, self.maps, self.whiten)
        return problem.finished(problem.adjoint)


class ConjugateGradientSense(Penalised):
    """`min 1/2 ||A x - y||^2 + lambda/2 ||x||^2` by conjugate gradients (Pruessmann et al., MRM 2001).

    `lambda` is relative to the largest eigenvalue of `A^H A`, which is about 1. See `Penalised`.
    """

    def steps(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """Conjugate gradients (Hestenes and Stiefel 1952) of `A^H A + lambda`, images `(batch, h, w)`, from 0 on."""
        image = torch.zeros_like(problem.adjoint)
        residual = direction = problem.adjoint
        normal = torch.zeros_like(image)  # of the image
        energy = inner(residual, residual)
        while True:
            along = problem.normal(direction)
            curvature = inner(direction, along) + self.weight * inner(direction, direction)
            step = ratio(energy, curvature, image)
            image, normal = image + step * direction, normal + step * along
            residual = problem.adjoint - normal - self.weight * image
            before, energy = energy, inner(residual, residual)
            direction = residual + ratio(energy, before, image) * direction
            yield image, problem.misfit(image, normal) + self.weight / 2 * inner(image, image)
