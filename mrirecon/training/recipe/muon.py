"""Muon: momentum whose matrices are made orthogonal, with a short Newton-Schulz iteration on the smaller side."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

_QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan (2024): steep at 0, its values stay below 1.21
_ITERATIONS = 3
_TINY = 1e-30
_ROWS = 256  # of a matrix that are made orthogonal together; more cost time and gained no quality here


def orthogonalised(matrices: Tensor, iterations: int = _ITERATIONS, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return `(..., rows, columns)` with the singular vectors of `matrices` and singular values nearer to 1.

    With `q(s) = 3.4445 s - 4.775 s^3 + 2.0315 s^5` (Jordan 2024), a singular value `s` of a matrix of Frobenius norm 1
    becomes `q(...q(s))`: after three iterations, what was .02 is .7, and nothing passes 1.21 (1.32 in bfloat16).

    Jordan multiplies the whole matrix in each iteration. Here an iteration acts on the Gram matrix `A = X X^T` of the
    smaller side: `X` is multiplied with the polynomial `q(s)/s` of `A`, which commutes with `A`, so that the
    polynomials are gathered and applied to `X` once, at the end. More iterations of this in bfloat16 multiply rounding
    errors of small singular values, and other polynomials that are steeper at 0 diverge on gradients of low rank.
    """
    wide = matrices.to(dtype)
    wide = wide.mT if wide.shape[-2] > wide.shape[-1] else wide
    largest = torch.maximum(wide.amax((-2, -1), keepdim=True), -wide.amin((-2, -1), keepdim=True))
    wide = wide / largest.clamp(min=_TINY)  # no square underflows
    gram = wide @ wide.mT
    norm_squared = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].clamp(min=_TINY)
    gram = gram / norm_squared
    linear, cubic, quintic = _QUINTIC
    gathered = norm_squared.rsqrt()
    for i in range(iterations):
        factor = (gram @ gram).mul_(quintic).add_(gram, alpha=cubic)
        factor.diagonal(dim1=-2, dim2=-1).add_(linear)
        gathered = factor @ gathered if i else factor * gathered
        if i + 1 < iterations:
            gram = factor @ gram @ factor
    found = gathered @ wide if iterations else wide * gathered
    return found.mT if matrices.shape[-2] > matrices.shape[-1] else found


def in_blocks(matrices: Tensor, iterations: int = _ITERATIONS, rows: int = _ROWS) -> Tensor:
    """Return `orthogonalised` of blocks of the smaller side of `(..., rows, columns)`, of at most so many `rows` each.

    Half of the time of a step of the U-Net of 32 channels, whose lowest level has 512. Blocks alone, without whole
    matrices now and then, are the first form of MuonBP (Khaled et al. 2025).
    """
    axis = -2 if matrices.shape[-2] <= matrices.shape[-1] else -1
    if matrices.shape[axis] <= rows:
        return orthogonalised(matrices, iterations)
    return torch.cat([orthogonalised(block, iterations) for block in matrices.split(rows, axis)], axis)


class Muon(Optimizer):
    """Muon for matrices and flattened convolutions, AdamW for the rest (Jordan 2024; step size of Liu et al. 2025).

    A step of a matrix is `lr * .2 * sqrt(max(rows, columns))` times its orthogonalised Nesterov momentum, so that
    entries change about as much as AdamW's. Differs from timm's `Muon` in how momenta are made orthogonal, see
    `orthogonalised`, and equals it with the same iteration.

    Args:
        params: Parameters or groups; `use_muon` of a group says which of both it is for.
        lr: Learning rate.
        momentum: Of Muon.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Decoupled, of both.
        iterations: Of Newton and Schulz.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        iterations: int = _ITERATIONS,
    ) -> None:
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "iterations": iterations, "use_muon": True}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **defaults})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step: that of Muon (Jordan 2024) or of AdamW (Loshchilov and Hutter 2019), as each group says."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["use_muon"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[Any, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)  # orthogonalised as one batch
        for p in group["params"]:
            if p.grad is not None:
                alike[(*p.shape, p.dtype, p.device)].append((p, p.grad))
        for pairs in alike.values():
            momenta = [self._momentum(p, gradient, group["momentum"]) for p, gradient in pairs]
            # one product of many matrices is slower on a CPU than many products, and faster on a GPU
            together = pairs[0][0].is_cuda and len(pairs) > 1
            batches = [torch.stack(momenta)] if together else momenta
            steps = [in_blocks(batch, group["iterations"]) for batch in batches]
            for (p, _), step in zip(pairs, steps[0] if together else steps, strict=True):
                if group["weight_decay"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step.view_as(p), alpha=-group["lr"] * 0.2 * max(step.shape) ** 0.5)

    def _momentum(self, p: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Return Nesterov's momentum as a matrix (out, rest), in the precision of its products."""
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum).flatten(1).bfloat16()

    def _adamw(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        first, second, steps = ([self.state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step"))
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters],
            first,
            second,
            [],
            steps,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            fused=parameters[0].is_cpu or None,  # on a GPU, one pass over the weights needs the step number there
        )
