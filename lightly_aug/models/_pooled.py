"""Models of Hugging Face as backbones."""

from typing import Any, Literal

from torch import Tensor, nn

from lightly_aug.checks import check_choice

__all__ = ["pooled"]


def pooled(
    network: nn.Module,
    features: Literal["pooler_output", "class_token", "mean"] = "pooler_output",
    **options: Any,
) -> nn.Module:
    """Make a vision model of Hugging Face Transformers, which returns an object, output its features `(n, d)`.

    A ViTMAE hides three patches of four at random, in `embed`, too, unless its `mask_ratio` is 0.

    Args:
        network: A model without a head, such as `AutoModel.from_pretrained(...)` or `ViTModel`; kept as `network`.
        features: `"pooler_output"`, which most models return; `"class_token"`, the first token of
            `last_hidden_state`, for transformers without a pooler; or `"mean"`, the mean of `last_hidden_state` over
            its tokens, all of them, or pixels.
        **options: Passed to the network with the images, such as `interpolate_pos_encoding=True`, with which a ViT
            takes images of any size.

    Returns:
        The backbone, `(n, c, h, w) -> (n, d)` or `(n, d, 1, 1)`.

    Raises:
        ValueError: Unknown `features`; or, when it runs, the network does not return them.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> class Model(nn.Module):
        ...     def forward(self, pixel_values):
        ...         return SimpleNamespace(pooler_output=pixel_values.mean((2, 3)))
        >>> pooled(Model())(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """
    check_choice("pooled", ("pooler_output", "class_token", "mean"), features=features)
    return _Pooled(network, features, options)


class _Pooled(nn.Module):
    def __init__(self, network: nn.Module, features: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.options = options

    def forward(self, images: Tensor) -> Tensor:
        output = self.network(images, **self.options)
        name = "pooler_output" if self.features == "pooler_output" else "last_hidden_state"
        x: Tensor | None = getattr(output, name, None)
        if x is None or (self.features == "class_token" and x.ndim != 3):
            kind = type(output).__name__
            came = f"{kind} without it" if x is None else f"{tuple(x.shape)}, which has no tokens"
            raise ValueError(
                f"pooled: network must return {name} for features={self.features!r}, got {came}: choose other "
                "features, or take the model without its head"
            )
        match self.features:
            case "class_token":  # (n, tokens, d)
                return x[:, 0]
            case "mean":  # (n, tokens, d) or (n, d, h, w)
                return x.mean(1) if x.ndim == 3 else x.mean((2, 3))
        return x

    def extra_repr(self) -> str:
        return ", ".join(
            [f"features={self.features!r}", *(f"{name}={value!r}" for name, value in self.options.items())]
        )
