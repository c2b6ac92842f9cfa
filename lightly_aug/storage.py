"""Memory for what leaves a worker."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = ["empty"]


def empty(size: int, dtype: torch.dtype) -> Tensor:
    """An uninitialised 1-D tensor; in a DataLoader worker in shared memory, so that it is not copied on its way out.

    Args:
        size: the number of elements.
        dtype: uint8 or float32.
    """
    if get_worker_info() is None:  # NumPy asks for huge pages, which come faster
        return torch.from_numpy(np.empty(size, dtype=np.uint8 if dtype == torch.uint8 else np.float32))
    storage = torch.UntypedStorage._new_shared(size * dtype.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage)[:size]
