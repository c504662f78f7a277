"""How large gradients and steps are: two numbers of single optimizer steps, for the curve."""

from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class StepTrace:
    """Looks at the parameters of an optimizer before and after one of its steps; keeps a copy of them in between."""

    def __init__(self) -> None:
        self._before: list[Tensor] | None = None
        self._parameters: list[Tensor] = []
        self._grad_norm = 0.0

    def begin(self, optimizer: Optimizer) -> None:
        """Before the step: its gradient is complete (accumulated, unscaled) and not clipped yet."""
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._grad_norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None]).item()
        self._before = [p.detach().clone() for p in self._parameters]

    def end(self) -> dict[str, float]:
        """After the step: Euclidean norms over all parameters, as one vector; empty where none was begun.

        Returns:
            `grad_norm`: of the gradient. `update_ratio`: of the change of the weights over that of the weights before.
        """
        if self._before is None:
            return {}
        change = [p.detach() - before for p, before in zip(self._parameters, self._before, strict=True)]
        ratio = get_total_norm(change) / get_total_norm(self._before)
        self._before, self._parameters = None, []
        return {"grad_norm": self._grad_norm, "update_ratio": ratio.item()}
