"""The loss of SwAV, and the assignments that it predicts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightly_aug.distributed import gather
from lightly_aug.loss._info_nce import check_temperature, wide

__all__ = ["SwaVLoss", "cross_views", "sinkhorn", "swav"]


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3, valid: Tensor | None = None) -> Tensor:
    """Assign the samples of all ranks to prototypes, softly and in nearly equal shares (SwAV, arXiv 2006.09882, §3.1).

    `exp(scores / ε)` has its columns and then its rows scaled to one sum, `iterations` times. Rows come last: each
    sums to 1, the shares of the prototypes are equal only in the limit. In the logarithm, so no ε overflows.

    Args:
        scores: `(n, k)`, cosines of n samples and k prototypes, any floating dtype; the result is float32, or float64
            for float64.
        epsilon: ε, above 0; the smaller, the harder the assignments.
        iterations: How often, at least 1.
        valid: `(n,)` bool, which rows are samples. The others take part in nothing. None: all of them.

    Returns:
        `(n, k)`, no gradient; zeros in the rows that are no samples.

    Raises:
        ValueError: Shapes do not fit, `epsilon` is not above 0, or `iterations` is below 1.
    """
    _check_sinkhorn(epsilon, iterations)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores are {tuple(scores.shape)}, sinkhorn takes (n, k) with n and k at least 1")
    if valid is not None and (valid.shape != scores.shape[:1] or valid.dtype != torch.bool):
        raise ValueError(
            f"valid is {tuple(valid.shape)} {valid.dtype}, {len(scores)} rows need ({len(scores)},) torch.bool"
        )
    no_sample = torch.zeros_like(scores[:, :1], dtype=torch.bool) if valid is None else ~valid[:, None]
    log_q = wide(scores) / epsilon
    for _ in range(iterations):
        log_q = log_q.masked_fill(no_sample, -torch.inf)
        share = gather(log_q.logsumexp(0, keepdim=True)).logsumexp(0)  # (k,), over all ranks
        log_q = (log_q - share).log_softmax(1)
    return log_q.exp().masked_fill(no_sample, 0)


def swav(scores: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """SwAV (Caron et al. 2020, arXiv 2006.09882, equation 2): each view predicts the assignments of the others.

    The mean over the assigned views a of the mean over the views v ≠ a of `-Σ_k q_ak log softmax(scores_v / τ)_k`.

    Args:
        scores: Of each view `(n, k)`, cosines of its rows and the k prototypes, the assigned views first, any floating
            dtype; the loss is computed in float32, or float64 for float64.
        assignments: Of each assigned view `(n, k)`, rows that sum to 1; no gradient flows into them.
        temperature: τ, above 0.

    Returns:
        The mean over the n rows of this rank, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or `temperature` is not above 0.
    """
    return cross_views(scores, assignments, temperature)


class SwaVLoss(nn.Module):
    """`swav` with assignments by `sinkhorn`.

    Args:
        temperature: τ, above 0.
        epsilon: ε of `sinkhorn`, above 0.
        iterations: Of `sinkhorn`, at least 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3) -> None:
        super().__init__()
        check_temperature(temperature)
        _check_sinkhorn(epsilon, iterations)
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
        """Assign the first views, then see `swav`.

        Args:
            scores: Of each view `(n, k)`.
            queued: Of each assigned view `(m, k)`, scores of earlier samples, assigned together with these. The ranks
                join theirs: a queue that is the same on all ranks has to be dealt out, else its rows count often.
            valid: For each of `queued` `(m,)` bool, which rows are samples. None: all of them.
            assigned: How many views are assigned, at least 1.

        Raises:
            ValueError: Shapes or numbers of views do not fit.
        """
        if not 1 <= assigned <= len(scores):
            raise ValueError(f"assigned is {assigned}, of {len(scores)} views it must be from 1 to {len(scores)}")
        for name, each in (("queued", queued), ("valid", valid)):
            if each is not None and len(each) != assigned:
                raise ValueError(f"{name} is for {len(each)} views, {assigned} are assigned: give one for each of them")
        if valid is not None and queued is None:
            raise ValueError("valid says which queued rows are samples, but queued is None: give both or neither")
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
        """The arguments, as in the constructor."""
        return f"temperature={self.temperature}, epsilon={self.epsilon}, iterations={self.iterations}"


def cross_views(scores: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    """Cross entropy of the target of each view against the softmax of every other: SwAV and DINO.

    Args:
        scores: Of each view `(n, k)`.
        targets: Of the first views `(n, k)`, distributions over k; no gradient flows into them.
        temperature: τ of the scores, above 0.

    Returns:
        The mean over the rows and over all pairs of a target and another view, a scalar.

    Raises:
        ValueError: Shapes or numbers of views do not fit, or `temperature` is not above 0.
    """
    check_temperature(temperature)
    if len(scores) < 2 or not 1 <= len(targets) <= len(scores):
        raise ValueError(
            f"{len(scores)} views and {len(targets)} targets: give 2 views or more, and targets of the first ones"
        )
    shapes = [tuple(x.shape) for x in (*scores, *targets)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(f"views and their targets are {shapes}: all need one shape (n, k) with n and k at least 1")
    log_p = [(wide(x) / temperature).log_softmax(1) for x in scores]
    terms = [
        -(q.detach() * log_p[v]).sum(1).mean() for a, q in enumerate(targets) for v in range(len(scores)) if v != a
    ]
    return torch.stack(terms).mean()


def _check_sinkhorn(epsilon: float, iterations: int) -> None:
    check_temperature(epsilon, "epsilon")
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}, it must be at least 1")
