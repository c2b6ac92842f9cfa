"""What is kept from step to step must be finite: one bad batch would stay in a queue or an average for ever."""

import torch
from torch import Tensor

from lightly_aug.user_warning import warn_user

__all__ = ["BadRows"]


class BadRows:
    """Count rows that were left out because they are not finite, and warn once, without waiting for a device.

    On an accelerator the warning comes with a later call, when the count has arrived.

    Args:
        owner: What leaves rows out, for the warning.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._count: Tensor | None = None  # on the device
        self._seen: Tensor | None = None  # its copy in pinned memory, of some earlier call
        self._warned = False

    def count(self, bad: Tensor) -> None:
        """Count more rows.

        Args:
            bad: `()`, a number of rows.
        """
        if torch.compiler.is_compiling() or bad.is_meta:
            return
        if self._count is None or self._count.device != bad.device:
            self._count, self._seen = torch.zeros_like(bad), None
        self._count += bad
        if bad.device.type == "cpu":
            self._seen = self._count
        elif self._seen is None:
            pinned = torch.cuda.is_available()
            self._seen = torch.zeros(bad.shape, dtype=bad.dtype, pin_memory=pinned)
        if self._seen.any() and not self._warned:
            self._warned = True
            warn_user(
                f"{self.owner}: left out {int(self._seen)} rows that are not finite; the images, the learning rate or "
                "the precision make NaN or infinity"
            )
        if self._seen is not self._count:
            self._seen.copy_(self._count, non_blocking=True)
