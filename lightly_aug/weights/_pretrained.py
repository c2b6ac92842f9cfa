"""A trained backbone as a module that takes images of any kind."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from lightly_aug.batch import Views
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.images import is_image
from lightly_aug.models import feature_width
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.options import Options
from lightly_aug.user_warning import warn_user
from lightly_aug.weights._backbone import BACKBONE, find_file, read_metadata, save_backbone, still_view
from lightly_aug.weights._build import build_backbone
from lightly_aug.weights._card import write_card

with extra("train"):
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

__all__ = ["Backbone"]

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # "user/name"


class Backbone(nn.Module, ModelHubMixin):
    """A trained network with the preprocessing that it was trained for: images of any kind in, features `(n, d)` out.

    There are two ways in. `backbone(images)` takes images and prepares them: it resizes the shorter side, cuts out the
    centre, and normalises. `backbone.network(views)` takes views `(n, c, h, w)` that are prepared already, as
    `backbone.collate` prepares them in a `DataLoader`; it is the plain network, to be compiled, fine-tuned or put into
    another model.

    `save_pretrained` and `push_to_hub` are those of `huggingface_hub.ModelHubMixin`. They write the weights; the
    settings as `config.json` for people and the hub, which is not read again; and a model card, `README.md`, with front
    matter that only you know: `model_card_kwargs={"license": "mit"}`.

    Args:
        network: The network.
        metadata: Its settings, as `read_metadata` returns them.
        **options: Options of the collate function, as in `BaseCollateFunction`. By default, `mode` and `background` are
            those of the training.

    Attributes:
        network: The network.
        collate: Collate function that makes one view of each image: its input to the network.
        metadata: The settings, as `read_metadata` returns them.

    Example:
        Features of photographs, and of all images of a folder::

            backbone = Backbone.from_pretrained("runs/train").freeze()
            x = backbone(["photos/cat.jpg", "photos/dog.jpg"])  # (2, d)
            loader = DataLoader(image_files("photos"), 64, num_workers=8, collate_fn=backbone.collate)
            x, _ = features(backbone.network, loader)
    """

    def __init__(self, network: nn.Module, metadata: Mapping[str, Any], **options: Unpack[Options]) -> None:
        super().__init__()
        self.network = network
        self.metadata = dict(metadata)
        normalize = metadata["normalize"] and Normalize(**metadata["normalize"])
        kept = Options(seed=0, mode=metadata["mode"], background=metadata["background"])
        self.collate = MultiViewCollateFunction([still_view(metadata["size"], normalize)], **kept | options)
        self._hub_mixin_config = self.metadata  # written as config.json

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the options of collate functions in place of any
        cls,
        path: str | os.PathLike[str],
        *,
        network: nn.Module | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **options: Unpack[Options],
    ) -> Self:
        """Load a backbone from a run of `pretrain`, a file, a folder of `save_pretrained`, or the hub.

        Args:
            path: The file, the folder that holds `backbone.safetensors`, or, if neither exists, a repository of the
                hub, such as `"user/name"`.
            network: Network to load the weights into; by default it is built. Needed for a network that has no name.
            revision: Branch, tag or commit of the repository.
            token: Token of the hub, or whether to send the one that `hf auth login` stored.
            cache_dir: Folder for downloaded files; by default that of the hub.
            force_download: Download the file even if it is in the cache.
            local_files_only: Take the file from the cache, without a connection.
            **options: Options of the collate function, as in `Backbone`.

        Returns:
            The backbone in eval mode, on the CPU. `freeze()` turns its gradients off, too.

        Raises:
            FileNotFoundError: There is no such file, and no such repository that can be reached.
            ValueError: The file is damaged or was not written by `save_backbone`; or the weights do not fit the
                network, or it has no name and is not given.
            ModuleNotFoundError: A package that builds the network is not installed.
        """
        here = Path(path).exists() or (Path(path).parent.is_dir() and Path(path).parent != Path())
        if not here and _REPOSITORY.fullmatch(str(path)) and Path(path).suffix != ".safetensors":
            try:
                path = hf_hub_download(
                    str(path), BACKBONE, revision=revision, token=token, cache_dir=cache_dir,
                    force_download=force_download, local_files_only=local_files_only,
                )  # fmt: skip
            except (HfHubHTTPError, OSError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise FileNotFoundError(
                    f"Backbone: {path} is no file or folder here, and the hub gives no {BACKBONE} of a repository of "
                    f"this name: {reason}"
                ) from error
        metadata = read_metadata(path)
        return cls(_load_network(find_file(path), metadata, network), metadata, **options).eval()

    def forward(self, images: Any) -> Tensor:
        """Compute the features of images.

        Args:
            images: One image, or a list or a batch of them, of any sizes and of the kinds that
                `lightly_aug.images.to_array` takes: PIL images, paths, encoded bytes, tensors `(c, h, w)` and arrays
                `(h, w, c)`. Floats are in [0, 1]; a batch `(n, c, h, w)` of floats, too, holds images, not normalised
                views.

        Returns:
            `(n, d)`, on the device and in the dtype of the network; `(1, d)` for one image.

        Raises:
            TypeError: There is something else than images, such as samples with labels.
            ValueError: Floats are outside [0, 1], as those of views that are normalised already; or an image cannot be
                read (`ImageError`).

        Example:
            >>> from lightly_aug.models import resnet
            >>> metadata = {"backbone": None, "size": 32, "normalize": None, "mode": "RGB", "background": "white"}
            >>> backbone = Backbone(resnet("resnet10", stem="cifar"), metadata).freeze()
            >>> backbone([torch.rand(3, 40, 50), np.zeros((90, 60, 3), np.uint8)]).shape
            torch.Size([2, 512])
        """
        single = is_image(images) and not (isinstance(images, Tensor | np.ndarray) and images.ndim > 3)
        images = [images] if single else list(images)
        _check_range(images)
        views = self.collate(images)
        if not isinstance(views, Views):
            raise TypeError(
                f"Backbone: images must be images only, got samples with {len(views)} members; give a DataLoader the "
                "collate function of the backbone, and its views to backbone.network"
            )
        place = next(self.network.parameters(), torch.empty(0))
        features: Tensor = self.network(views.to(place.device, place.dtype)[0])
        return features.flatten(1)

    def freeze(self) -> Self:
        """Prepare for using the features: switch to eval mode, and turn off the gradients of all parameters."""
        return self.requires_grad_(False).eval()

    def generate_model_card(self, *args: Any, **fields: Any) -> ModelCard:
        """Return the model card: what the backbone is, how it was trained, what was measured, and how to load it.

        Args:
            *args: None are taken.
            **fields: More of its front matter, such as `license="mit"` and `datasets=["cifar10"]`.
        """
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        width = feature_width(self.network, self.metadata["size"])
        return ModelCard(write_card(self.metadata, parameters=parameters, width=width, **fields))

    def _save_pretrained(self, save_directory: Path) -> None:
        if (save_directory / "README.md").exists():
            warn_user(
                f"save_pretrained: {save_directory / 'README.md'} was there before and is kept: check that it "
                "describes these weights, or delete it and save again"
            )
        settings = {name: self.metadata[name] for name in ("size", "mode", "background", "notes")}
        built = self.metadata["backbone"] or {"name": None, "arguments": {}}
        normalize = self.metadata["normalize"] and Normalize(**self.metadata["normalize"])
        named = {"arch": built["name"], "arguments": built["arguments"], "normalize": normalize}
        save_backbone(self.network, save_directory / BACKBONE, **named, **settings)

    def extra_repr(self) -> str:
        """Return the settings that belong to the weights, for `repr`."""
        return f"size={self.metadata['size']}, normalize={self.metadata['normalize']}"


def _load_network(file: Path, metadata: dict[str, Any], network: nn.Module | None) -> nn.Module:
    """Load the weights into a network, by default the one that the metadata names."""
    with extra("train"):
        from safetensors.torch import load_file
    if network is None:
        if metadata["backbone"] is None:
            raise ValueError(
                f"Backbone: {file} holds a network without a name; build it as it was trained, and pass it: "
                "Backbone.from_pretrained(file, network=...)"
            )
        with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then replaced
            network = build_backbone(metadata["backbone"]["name"], **metadata["backbone"]["arguments"])
    try:
        network.load_state_dict(load_file(file))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"Backbone: {file} does not fit the {type(network).__name__}: {reason}") from None
    return network


def _check_range(images: Iterable[Any]) -> None:
    """Refuse floats that are no images: views that are normalised already, or images in another range."""
    for i, image in enumerate(images):
        floats = image.is_floating_point() if isinstance(image, Tensor) else _is_float_array(image)
        if floats and not (image.min() >= 0 and image.max() <= 1):  # NaN does not pass
            raise ValueError(
                f"Backbone: images of floats must be in [0, 1], got image {i} from {float(image.min()):g} to "
                f"{float(image.max()):g}: scale it; give views that are normalised already to backbone.network, and "
                "images that were trained on in another range to backbone.network(backbone.collate(images)[0])"
            )


def _is_float_array(image: Any) -> bool:
    return isinstance(image, np.ndarray) and bool(np.issubdtype(image.dtype, np.floating))
