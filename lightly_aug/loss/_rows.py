"""Lengths and products of rows, in float32 or wider."""

import torch
from torch import Tensor

__all__ = ["check_pair", "dot", "unit", "wide"]


def wide(x: Tensor) -> Tensor:
    """Convert to the dtype that losses are computed in: float64 stays, any other becomes float32."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Scale rows to length 1, in float32 or wider. A zero row stays zero, and its gradient stays finite."""
    x = wide(x)
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.masked_fill(length == 0, 1)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Multiply all rows of x with all rows of y, `(n, d), (m, d) -> (n, m)`, without autocast."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    with torch.autocast(x.device.type, enabled=False):  # which would round to 8 bits before a temperature divides
        return x.to(dtype) @ y.to(dtype).T


def check_pair(owner: str, **rows: Tensor) -> None:
    """Raise ValueError for two tensors that are not rows of one shape `(n, d)`.

    Args:
        owner: The name of the function whose arguments these are.
        **rows: The two tensors by argument name.
    """
    shapes = [tuple(x.shape) for x in rows.values()]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] == 0:
        came = " and ".join(map(str, shapes))
        raise ValueError(f"{owner}: {' and '.join(rows)} must have one shape (n, d), n at least 1, got {came}")
