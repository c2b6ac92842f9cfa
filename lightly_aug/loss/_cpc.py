"""The loss of CPC v2."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.distributed import gather, rank
from lightly_aug.loss._rows import dot, wide

__all__ = ["CPCLoss", "cpc"]


def cpc(predictions: Mapping[int, Tensor], targets: Tensor) -> Tensor:
    """Compute the loss of CPC v2 (Hénaff et al. 2019, arXiv 1905.09272): each place of a map predicts those below it.

    For each offset k, the prediction that row r makes for row r + k of the same column is classified among the targets
    at all places of all images of all ranks: the cross entropy of `prediction · target`, neither normalised nor divided
    by a temperature. The loss is the mean over all predictions of an offset, then over the offsets.

    Args:
        predictions: For each offset k `(n, d, rows, columns)`: row r holds the prediction of row r + k; the last k rows
            are ignored. Any floating dtype; the loss is computed in float32, or float64 for float64.
        targets: `(n, d, rows, columns)`; gradients flow into them.

    Returns:
        The mean over the n images of this rank, a scalar.

    Raises:
        ValueError: Shapes do not fit, there is no offset, or one is not from 1 to rows - 1.
    """
    if targets.ndim != 4 or 0 in targets.shape:
        raise ValueError(f"cpc: targets must be (n, d, rows, columns), each at least 1, got {tuple(targets.shape)}")
    n, d, rows, columns = targets.shape
    if not predictions:
        raise ValueError("cpc: predictions must have at least one offset, got none")
    for k, prediction in predictions.items():
        if not 1 <= k < rows:
            raise ValueError(f"cpc: predictions must have offsets from 1 to {rows - 1} for {rows} rows, got {k}")
        if prediction.shape != targets.shape:
            raise ValueError(
                f"cpc: predictions[{k}] must have the shape of targets, "
                f"got {tuple(prediction.shape)} and targets {tuple(targets.shape)}"
            )
    joined = gather(wide(targets), grad=True).movedim(1, 3)  # (N, rows, columns, d)
    places = torch.arange(joined[..., 0].numel(), device=targets.device).view(-1, rows, columns)
    places = places[rank() * n : (rank() + 1) * n]  # this rank's targets in the joined batch
    losses = []
    for k, prediction in predictions.items():
        rows_above = wide(prediction).movedim(1, 3)[:, :-k]  # (n, rows - k, columns, d)
        logits = dot(rows_above.reshape(-1, d), joined.reshape(-1, d))
        losses.append(F.cross_entropy(logits, places[:, k:].flatten()))
    return torch.stack(losses).mean()


class CPCLoss(nn.Module):
    """`cpc` as a module."""

    def forward(self, predictions: Mapping[int, Tensor], targets: Tensor) -> Tensor:
        """Compute `cpc`."""
        return cpc(predictions, targets)
