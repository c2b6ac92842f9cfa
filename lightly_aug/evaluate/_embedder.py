"""Images at hand, rendered with any draws and embedded by a network and its layers."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from lightly_aug.batch import Views
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.evaluate._features import features
from lightly_aug.operations import Floats, Ints
from lightly_aug.options import Options
from lightly_aug.view import View

__all__ = ["OUTPUT", "Embedder"]

OUTPUT: Final = "output"
"""Name of the output of the whole network, beside those of its layers."""


class Embedder:
    """The images, packed once, and the network, to embed them as often as one likes.

    Args:
        network: Maps images to features; a module, a method of one, or any function.
        images: The images.
        view: View that the images must suit.
        layers: Names of modules in the network, whose pooled outputs are features, too.
        device: Device to render and embed on.
        batch_size: Images in a batch.
        options: Options of the collate function that reads the images.

    Attributes:
        height: Heights of the images, `(n,)`, in pixels.
        width: Widths.

    Raises:
        ValueError: A layer is not in the network.
        ImageError: An image is damaged or does not suit the view.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        images: Sequence[Any],
        view: View,
        *,
        layers: Sequence[str],
        device: torch.device | str,
        batch_size: int,
        options: Options,
    ) -> None:
        collate = MultiViewCollateFunction([view], **Options(seed=0) | options | Options(render="late"))
        starts = range(0, len(images), batch_size)
        self._batches: list[Views] = [collate(list(images[start : start + batch_size])) for start in starts]
        self._outputs = _Outputs(network, layers)
        self._device = device
        shapes = np.concatenate([batch.images.shapes.numpy() for batch in self._batches])
        self.height: Ints = shapes[:, 1]
        self.width: Ints = shapes[:, 2]

    def embed(self, view: View, table: Floats) -> dict[str, Tensor]:
        """Embed all n images as one view.

        Args:
            view: The view.
            table: Its draws, `(n, columns)`.

        Returns:
            Features `(n, d)` by the name of the layer, `OUTPUT` first.
        """
        rows = torch.from_numpy(table.astype(np.float32)).split([batch.batch_size for batch in self._batches])
        loader = (
            Views(batch.images, own[None], (view,), engine=batch.engine)
            for batch, own in zip(self._batches, rows, strict=True)
        )
        x, _ = features(self._outputs.to(self._device), loader, self._device)
        names = (OUTPUT, *self._outputs.layers)
        return dict(zip(names, x.split(self._outputs.widths, dim=1), strict=True))


class _Outputs(nn.Module):
    """A network that outputs its features and the pooled outputs of some layers, side by side."""

    def __init__(self, network: Callable[[Tensor], Tensor], layers: Sequence[str]) -> None:
        super().__init__()
        owner = getattr(network, "__self__", network)
        if isinstance(owner, nn.Module):
            self.owner = owner  # so that `features` finds it, and evaluates it in eval mode
        self._modules_by_name = dict(owner.named_modules()) if isinstance(owner, nn.Module) else {}
        for name in layers:
            if name not in self._modules_by_name or not name:
                near = get_close_matches(name, self._modules_by_name, n=3)
                raise ValueError(
                    f"measure_invariance: layers must be names of modules in the network, got {name!r}"
                    + (f"; near it are {', '.join(map(repr, near))}" if near else "")
                )
        self._network = [network]  # in a list, so that it is not registered twice
        self.layers = tuple(layers)
        self.widths: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        kept: dict[str, Any] = {}
        hooks = [
            self._modules_by_name[name].register_forward_hook(
                lambda module, inputs, output, name=name: kept.__setitem__(name, output)
            )
            for name in self.layers
        ]
        try:
            output = self._network[0](x)
        finally:
            for hook in hooks:
                hook.remove()
        missing = [name for name in self.layers if name not in kept]
        if missing:
            raise ValueError(f"measure_invariance: layers must be called by the network, {missing} are not")
        parts = [_pool(output, OUTPUT), *(_pool(kept[name], name) for name in self.layers)]
        self.widths = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)


def _pool(output: Any, name: str) -> Tensor:
    """Average a map `(n, d, h, w)` over its places, and tokens `(n, t, d)` over the tokens."""
    places = {2: (), 3: (1,), 4: (2, 3)}
    if isinstance(output, Tensor) and output.ndim in places:
        dims = places[output.ndim]
        return (output.mean(dims) if dims else output).float()
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(
        f"measure_invariance: the output of {name} must be a tensor (n, d), (n, tokens, d) or (n, d, h, w), got {shape}"
    )
