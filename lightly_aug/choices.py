"""Values of arguments that the command line shows and checks, which it does without importing torch."""

from typing import Final, Literal

__all__ = ["MAX_PIXELS", "METHOD_NAMES", "OnError"]

MAX_PIXELS: Final = 89_478_485
"""The most pixels of an image file by default, as in Pillow: a quarter of a gibibyte in RGB."""

METHOD_NAMES: Final = (
    *("simclr", "simclr-v2", "moco-v1", "moco", "moco-v3", "byol", "simsiam", "barlow-twins", "nnclr", "swav", "dino"),
    *("pirl", "paws", "amdim", "cpc", "looc"),
)
"""The methods, in the order of `docs/methods.md`: the keys of `lightly_aug.methods.METHODS`."""

OnError = Literal["raise", "skip", "replace"]
"""What a collate function does with images that cannot be read."""
