"""NT-Xent, the loss of SimCLR."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightly_aug.checks import check_positive
from lightly_aug.distributed import gather, rank
from lightly_aug.loss._info_nce import info_nce
from lightly_aug.loss._rows import check_pair, dot, unit
from lightly_aug.memory_bank import MemoryBank

__all__ = ["NTXentLoss", "nt_xent"]


def nt_xent(z0: Tensor, z1: Tensor, temperature: float = 0.1) -> Tensor:
    """Compute NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, equation 1).

    The mean over all 2N views of `ℓ(i, j) = -log( exp(z_i z_j / τ) / Σ_{k≠i} exp(z_i z_k / τ) )` with rows normalised.
    The positive is the other view of the image; the negatives are the 2N - 2 remaining views, of both sides and all
    ranks. The official SimCLR code returns twice this value, since it adds the means of the two sides.

    Args:
        z0: First views, `(n, d)`, any floating dtype; the loss is computed in float32, or float64 for float64.
        z1: Second views, `(n, d)`, row i of the same image as row i of `z0`.
        temperature: Temperature τ, above 0.

    Returns:
        The mean over the 2n views of this rank, a scalar; the mean over ranks is the loss of the joined batch, and
        gradients cross the ranks accordingly.

    Raises:
        ValueError: Shapes differ or are not `(n, d)`, or `temperature` is not above 0.
    """
    check_positive("nt_xent", temperature=temperature)
    check_pair("nt_xent", z0=z0, z1=z1)
    n = len(z0)
    z = unit(torch.cat([z0, z1]))  # (2n, d)
    logits = dot(z, gather(z, grad=True)) / temperature  # (2n, 2N)
    own = rank() * 2 * n + torch.arange(2 * n, device=z.device)  # this rank's views in the joined batch
    logits = logits.scatter(1, own[:, None], -torch.inf)  # k ≠ i
    return F.cross_entropy(logits, own.roll(n))


class NTXentLoss(nn.Module):
    """NT-Xent between two views, or against a bank of past keys.

    Without a bank this is `nt_xent`. With a bank it is the one-directional InfoNCE of MoCo: the first argument is the
    query, the second its key, into which no gradient flows, and the bank holds the negatives. The keys enter the bank
    afterwards, in training mode only; the first step, with an empty bank, has loss 0. Do not call it twice for a
    symmetric loss: the second call would find keys of its own images among the negatives. Use `info_nce` twice and
    update the bank once.

    Args:
        temperature: Temperature τ, above 0.
        memory_bank: Keys of earlier batches as negatives; None takes the other views of this batch.

    Raises:
        ValueError: `temperature` is not above 0.

    Example:
        >>> z0, z1 = torch.randn(2, 8, 16)
        >>> NTXentLoss(temperature=0.5)(z0, z1).shape
        torch.Size([])
    """

    def __init__(self, temperature: float = 0.1, memory_bank: MemoryBank | None = None) -> None:
        super().__init__()
        check_positive(self, temperature=temperature)
        self.temperature = temperature
        self.memory_bank = memory_bank

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Compute the loss of two views `(n, d)`, or of queries `(n, d)` and their keys `(n, d)`."""
        if self.memory_bank is None:
            return nt_xent(z0, z1, self.temperature)
        key = unit(z1.detach())
        loss = info_nce(z0, key, *self.memory_bank.negatives(), self.temperature)
        self.memory_bank.update(key)
        return loss

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"temperature={self.temperature}"
