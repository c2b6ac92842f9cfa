"""LARS, the optimiser of methods that train with large batches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from lightly_aug.checks import check_positive

__all__ = ["LARS"]


class LARS(Optimizer):
    """SGD with momentum that scales the gradient of each parameter to a share of the parameter's norm.

    This is the form of LARS (You et al. 2017, arXiv 1708.03888) that Barlow Twins, MoCo v3 and DINO train with::

        g = gradient + weight_decay * w
        v = momentum * v + trust * |w| / |g| * g
        w = w - lr * v

    SimCLR's and PAWS's code multiplies by `lr` inside `v`, which differs where the learning rate changes. apex's LARC
    divides by `|gradient| + weight_decay * |w|`.

    Args:
        params: Parameters, or parameter groups. A group with `adapt=False` is not scaled, which is plain SGD: for
            biases and the parameters of normalisation layers.
        lr: Learning rate, above 0.
        momentum: Momentum, 0 to 1.
        weight_decay: Weight decay, 0 or more.
        trust: The share of the norm, above 0.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> w = torch.tensor([3.0, 4.0], requires_grad=True)  # of norm 5
        >>> optimizer = LARS([w], lr=1.0, trust=0.1)
        >>> w.grad = torch.tensor([0.0, 7.0])
        >>> optimizer.step()
        >>> w  # the step has a tenth of that norm
        tensor([3.0000, 3.5000], requires_grad=True)
    """

    def __init__(
        self, params: ParamsT, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3
    ) -> None:
        check_positive(self, lr=lr, trust=trust)
        if not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                f"LARS: momentum must lie in [0, 1) and weight_decay be at least 0, got {momentum} and {weight_decay}"
            )
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient.

        Args:
            closure: Computes the loss and the gradients anew, and returns the loss.

        Returns:
            What `closure` returned, None without it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, group)
        return loss

    def _update(self, w: Tensor, group: dict[str, Any]) -> None:
        g = w.grad.add(w, alpha=group["weight_decay"]) if group["weight_decay"] else w.grad.clone()  # type: ignore[union-attr]
        if group["adapt"]:
            norm, size = w.norm(), g.norm()
            ratio = group["trust"] * norm / size  # a parameter or gradient of zero is not scaled
            g.mul_(torch.where((norm > 0) & (size > 0), ratio, torch.ones_like(ratio)))
        v = self.state[w].setdefault("momentum_buffer", torch.zeros_like(w))
        v.mul_(group["momentum"]).add_(g)
        w.sub_(v, alpha=group["lr"])
