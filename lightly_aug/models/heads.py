"""The projection and prediction heads of all methods."""

from itertools import pairwise
from typing import Literal

from torch import nn

from lightly_aug.checks import check_choice

__all__ = ["mlp"]


def mlp(
    *widths: int,
    bias: bool = True,
    last_bias: bool | None = None,
    norm: bool = True,
    last_norm: Literal["affine", "scale", "plain"] | None = None,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Build linear layers with BatchNorm and an activation between them, without an activation at the end.

    Args:
        *widths: Width of the input, of every hidden layer, and of the output; at least two.
        bias: Give the linear layers a bias.
        last_bias: Give the last linear layer a bias; None follows `bias`.
        norm: Add BatchNorm after every hidden linear layer.
        last_norm: Add BatchNorm after the last layer: with γ and β (`"affine"`), with γ alone (`"scale"`), with
            neither (`"plain"`), or None for no BatchNorm.
        activation: Activation after every hidden layer.

    Returns:
        The head, `(n, widths[0]) -> (n, widths[-1])`.

    Raises:
        ValueError: Fewer than two widths, one below 1, or an unknown `last_norm`.

    Example:
        >>> mlp(512, 2048, 128, norm=False)
        Sequential(
          (0): Linear(in_features=512, out_features=2048, bias=True)
          (1): ReLU()
          (2): Linear(in_features=2048, out_features=128, bias=True)
        )
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"mlp: widths must be those of input, hidden layers and output, each at least 1, got {widths}")
    check_choice("mlp", (None, "affine", "scale", "plain"), last_norm=last_norm)
    layers: list[nn.Module] = []
    for width, following in pairwise(widths[:-1]):
        layers.append(nn.Linear(width, following, bias=bias))
        if norm:
            layers.append(nn.BatchNorm1d(following))
        layers.append(activation())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=bias if last_bias is None else last_bias))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=last_norm != "plain"))
        if last_norm == "scale":
            layers[-1].register_parameter("bias", None)
    return nn.Sequential(*layers)
