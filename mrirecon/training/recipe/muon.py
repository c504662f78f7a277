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


def orthogonalised(matrices: Tensor, iterations: int = _ITERATIONS, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return `(..., rows, columns)` with the singular vectors of `matrices` and singular values nearer to 1.

    With `q(s) = 3.4445 s - 4.775 s^3 + 2.0315 s^5` (Jordan 2024), a singular value `s` of a matrix of Frobenius norm 1
    becomes `q(...q(s))`: after three iterations, what was .02 is .7, and nothing passes 1.21 (1.32 in bfloat16).

    Jordan multiplies the whole matrix in each iteration. Here an iteration acts on the Gram matrix `A = X X^T` of the
    smaller side: `X` is multiplied with the polynomial `q(s)/s` of `A`, which commutes with `A`, so that the
    polynomials are gathered and applied to `X` once, at the end. More iterations of this in bfloat16 multiply rounding
    errors of small singular values, and other polynomials that are steeper at 0 diverge on gradients of low rank.
    """
    wide = (matrices / matrices.abs().amax((-2, -1), keepdim=True).clamp(min=_TINY)).to(dtype)  # no square underflows
    is_tall = wide.shape[-2] > wide.shape[-1]
    wide = wide.mT if is_tall else wide
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=_TINY)
    gram = wide @ wide.mT
    linear, cubic, quintic = _QUINTIC
    gathered = None
    for i in range(iterations):
        factor = cubic * gram + quintic * (gram @ gram)
        factor.diagonal(dim1=-2, dim2=-1).add_(linear)
        gathered = factor if gathered is None else factor @ gathered
        if i + 1 < iterations:
            gram = factor @ gram @ factor
    found = wide if gathered is None else gathered @ wide
    return (found.mT if is_tall else found).to(matrices.dtype)


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
        """Take a step."""
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
            updates = []
            for p, gradient in pairs:
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                momentum = state["momentum_buffer"]
                momentum.lerp_(gradient, 1 - group["momentum"])
                updates.append(gradient.lerp(momentum, group["momentum"]).flatten(1))
            steps = orthogonalised(torch.stack(updates), group["iterations"])
            scale = 0.2 * max(steps.shape[-2:]) ** 0.5
            for (p, _), step in zip(pairs, steps, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step.view_as(p), alpha=-group["lr"] * scale)

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
        )
