"""The loss of SwAV, and the cluster assignments that it predicts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.checks import check_integer, check_positive
from lightly_aug.distributed import gather
from lightly_aug.loss._cross_views import cross_views
from lightly_aug.loss._rows import wide

__all__ = ["SwaVLoss", "sinkhorn", "swav"]


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3, valid: Tensor | None = None) -> Tensor:
    """Assign the samples of all ranks to prototypes, softly and in nearly equal shares (SwAV, arXiv 2006.09882, §3.1).

    Scale the columns of `exp(scores / ε)` to equal sums, then its rows to 1, `iterations` times. Since rows come last,
    the shares of the prototypes are equal only in the limit. Computed in the logarithm, so no ε overflows.

    Args:
        scores: `(n, k)`, cosines of n samples and k prototypes, any floating dtype; the result is float32, or float64
            for float64.
        epsilon: Regularisation ε, above 0; the smaller, the harder the assignments.
        iterations: Number of iterations, at least 1.
        valid: `(n,)` bool, True for rows that are samples; other rows are ignored. None: all rows are.

    Returns:
        `(n, k)`, without gradient; zero in rows that are not samples.

    Raises:
        ValueError: Shapes do not fit, `epsilon` is not above 0, or `iterations` is below 1.
    """
    check_positive("sinkhorn", epsilon=epsilon)
    check_integer("sinkhorn", least=1, iterations=iterations)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"sinkhorn: scores must be (n, k), n and k at least 1, got {tuple(scores.shape)}")
    if valid is not None and (valid.shape != scores.shape[:1] or valid.dtype != torch.bool):
        raise ValueError(
            f"sinkhorn: valid must be ({len(scores)},) torch.bool for {len(scores)} rows of scores, "
            f"got {tuple(valid.shape)} {valid.dtype}"
        )
    no_sample = torch.zeros_like(scores[:, :1], dtype=torch.bool) if valid is None else ~valid[:, None]
    log_q = wide(scores) / epsilon
    for _ in range(iterations):
        log_q = log_q.masked_fill(no_sample, -torch.inf)
        share = gather(log_q.logsumexp(0, keepdim=True)).logsumexp(0)  # (k,), over all ranks
        log_q = (log_q - share).log_softmax(1)
    return log_q.exp().masked_fill(no_sample, 0)


def swav(scores: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Compute the loss of SwAV (Caron et al. 2020, arXiv 2006.09882, equation 2).

    Each view predicts the assignments of the other views: the mean over the assigned views a of the mean over the views
    v ≠ a of `-Σ_k q_ak log softmax(scores_v / τ)_k`.

    Args:
        scores: For each view `(n, k)`, cosines of its rows and the k prototypes, the assigned views first, any floating
            dtype; the loss is computed in float32, or float64 for float64.
        assignments: For each assigned view `(n, k)`, rows that sum to 1; no gradient flows into them.
        temperature: Temperature τ, above 0.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or `temperature` is not above 0.
    """
    return cross_views("swav", scores, assignments, temperature)


class SwaVLoss(nn.Module):
    """`swav` with assignments by `sinkhorn`.

    Args:
        temperature: Temperature τ, above 0.
        epsilon: Regularisation ε of `sinkhorn`, above 0.
        iterations: Number of iterations of `sinkhorn`, at least 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> None:
        super().__init__()
        check_positive(self, temperature=temperature, epsilon=epsilon)
        check_integer(self, least=1, iterations=iterations)
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations

    def forward(
        self,
        scores: Sequence[Tensor],
        queued: Sequence[Tensor] | None = None,
        valid: Sequence[Tensor] | None = None,
        assigned: int = 2,
    ) -> Tensor:
        """Compute `swav` with the assignments of the first views.

        Args:
            scores: For each view `(n, k)`.
            queued: For each assigned view `(m, k)`, scores of earlier samples, assigned together with `scores`. They
                are joined over all ranks: of a queue that all ranks share, give each rank a part of its own.
            valid: For each of `queued` `(m,)` bool, True for rows that are samples. None: all rows are.
            assigned: Number of views to assign, at least 1.

        Raises:
            ValueError: Shapes or numbers of views do not fit.
        """
        if not 1 <= assigned <= len(scores):
            raise ValueError(f"SwaVLoss: assigned must be from 1 to the {len(scores)} views, got {assigned}")
        for name, each in (("queued", queued), ("valid", valid)):
            if each is not None and len(each) != assigned:
                raise ValueError(
                    f"SwaVLoss: {name} must have one tensor per assigned view, {assigned}, got {len(each)}"
                )
        if valid is not None and queued is None:
            raise ValueError("SwaVLoss: queued must be given with valid, got None: give both or neither")
        assignments = []
        for a, own in enumerate(scores[:assigned]):
            rows, real = own.detach(), None
            if queued is not None:
                rows = torch.cat([queued[a].detach(), rows])
                if valid is not None:
                    real = torch.cat([valid[a], torch.ones_like(own[:, 0], dtype=torch.bool)])
            assignments.append(sinkhorn(rows, self.epsilon, self.iterations, real)[-len(own) :])
        return swav(scores, assignments, self.temperature)

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"temperature={self.temperature}, epsilon={self.epsilon}, iterations={self.iterations}"
