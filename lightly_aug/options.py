"""The options that every collate function takes, and the refusal of arguments that it does not take."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex, TypedDict

from lightly_aug.choices import OnError
from lightly_aug.invariances import Color, Shape, Texture

__all__ = ["Options", "check_options", "refuse_argument"]


class Options(TypedDict, total=False):
    """The options of `BaseCollateFunction`, for the signature of a subclass: editors complete them, mypy checks them.

    Example:
        >>> from typing import Unpack
        >>> from lightly_aug import BaseCollateFunction, Shape, View
        >>> class AerialCollateFunction(BaseCollateFunction):
        ...     def __init__(self, size: int = 64, **options: Unpack[Options]) -> None:
        ...         super().__init__([View(Shape(size, vflip=0.5, rot90=1.0))] * 2, **options)
        >>> AerialCollateFunction(32, seed=1).seed
        1
    """

    seed: SupportsIndex | None
    render: Literal["auto", "late", "worker"]
    engine: str
    image: str | int | Sequence[str | int] | None
    mode: str | None
    decode: int | None
    background: str | tuple[int, int, int] | None
    max_pixels: int | None
    on_error: OnError


# Arguments of lightly and pl_bolts, and what to write here instead.
_FOREIGN = {
    **dict.fromkeys(("input_size", "input_height", "global_crop_size", "crop_size"), "size=…"),
    **dict.fromkeys(("cj_strength", "jitter_strength"), "strength=…"),
    "cj_prob": "jitter=…",
    "cj_bright": "brightness=…",
    "cj_contrast": "contrast=…",
    "cj_sat": "saturation=…",
    "cj_hue": "hue=…",
    "random_gray_scale": "grayscale=…",
    "gaussian_blur": "blur=…",
    "sigmas": "sigma=…",
    **dict.fromkeys(("kernel_size", "kernel_scale"), "sigma=… (the kernel follows it)"),
    "solarization_prob": "solarize=…",
    "min_scale": "scale=(min_scale, 1)",
    "hf_prob": "hflip=…",
    "vf_prob": "vflip=…",
    "rr_prob": "rot90=…",
    "rr_degrees": "degrees=…",
    "crop_sizes": "size=…, local_size=…",
    "crop_counts": "local_views=… (two views are large)",
    **dict.fromkeys(("crop_min_scales", "crop_max_scales"), "scale=…, local_scale=… (each as min, max)"),
    "global_crop_scale": "scale=…",
    "local_crop_size": "local_size=…",
    "local_crop_scale": "local_scale=…",
    "n_local_views": "local_views=…",
    "n_grid": "grid=…",
}


def check_options(owner: object, unknown: Iterable[str]) -> None:
    """Raise TypeError if there are arguments that nothing has taken.

    The message names the nearest argument of the owner. For arguments of lightly it says what to write instead.

    Args:
        owner: The object whose arguments these are.
        unknown: The names that are left over.

    Raises:
        TypeError: There is such a name.
    """
    if names := list(unknown):
        parameters = inspect.signature(type(owner)).parameters.values()
        known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        known += [name for name in Options.__annotations__ if name not in known]
        raise TypeError(f"{type(owner).__name__}: {'; '.join(refuse_argument(name, known) for name in names)}")


def refuse_argument(name: str, known: Sequence[str]) -> str:
    """Return a text that says that an argument is unknown, and what to write instead.

    Args:
        name: The argument.
        known: The arguments that there are.
    """
    advice = _FOREIGN.get(name)
    if advice is None:
        near = difflib.get_close_matches(name, known, n=1)
        return f"{name} is not an argument, " + (f"write {near[0]}" if near else f"these are: {', '.join(known)}")
    new = advice.split("=")[0]
    if new in known:
        return f"{name} is not an argument, write {advice}"
    for group in (Shape, Color, Texture):
        if new in inspect.signature(group).parameters:
            return f"{name} is not an argument, write {advice} in {group.__name__} or ImageCollateFunction"
    return f"{name} is not an argument, the collate functions that take it call it {advice}"
