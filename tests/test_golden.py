"""Views, draws and defaults at fixed seeds, against a file: a change of any of them is a breaking change.

`python tests/test_golden.py` writes the file again. Where values are close, they may differ by the digits that another
processor or engine rounds differently.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lightly_aug import (
    AMDIMCollateFunction,
    BarlowTwinsCollateFunction,
    BaseCollateFunction,
    BYOLCollateFunction,
    ColorCollateFunction,
    CPCCollateFunction,
    DINOCollateFunction,
    EpochSampler,
    ImageCollateFunction,
    Indexed,
    LooCCollateFunction,
    MoCoCollateFunction,
    NNCLRCollateFunction,
    PAWSCollateFunction,
    PIRLCollateFunction,
    ShapeCollateFunction,
    SimCLRCollateFunction,
    SimSiamCollateFunction,
    SwaVCollateFunction,
    TextureCollateFunction,
    recipes,
)
from lightly_aug.philox import uniforms

FILE = Path(__file__).with_suffix(".npz")
SIZE = 16
CROPS: dict[str, Any] = {"size": 16, "local_size": 12, "local_views": 2}
CHANGED = (
    "{name} changed. If nobody meant it, it is a bug. If it is meant, it breaks what users can repeat: write it into "
    "CHANGELOG.md as a breaking change, and make the file anew with: python tests/test_golden.py"
)

# of each class its defaults, too
RECIPES: dict[str, Callable[..., BaseCollateFunction]] = {
    "simclr": partial(SimCLRCollateFunction, SIZE),
    "simclr of tensorflow": partial(SimCLRCollateFunction, SIZE, convention="tensorflow"),
    "moco 1": partial(MoCoCollateFunction, SIZE, version=1),
    "moco 2": partial(MoCoCollateFunction, SIZE, version=2),
    "moco 3": partial(MoCoCollateFunction, SIZE, version=3),
    "byol": partial(BYOLCollateFunction, SIZE),
    "byol of tensorflow": partial(BYOLCollateFunction, SIZE, convention="tensorflow"),
    "simsiam": partial(SimSiamCollateFunction, SIZE),
    "barlow twins": partial(BarlowTwinsCollateFunction, SIZE),
    "nnclr": partial(NNCLRCollateFunction, SIZE),
    "swav": partial(SwaVCollateFunction, **CROPS),
    "dino": partial(DINOCollateFunction, **CROPS),
    "pirl": partial(PIRLCollateFunction, SIZE, patch=8, jigsaw=20, grid=2),
    "pirl of blur": partial(PIRLCollateFunction, SIZE, patch=8, jigsaw=20, grid=2, recipe="blur"),
    "paws": partial(PAWSCollateFunction, **CROPS),
    "paws of cifar": partial(PAWSCollateFunction, **CROPS, recipe="cifar"),
    "amdim": partial(AMDIMCollateFunction, SIZE),
    "cpc": partial(CPCCollateFunction, 24, patch=12, stride=12),
    "looc": partial(LooCCollateFunction, SIZE),
    "image": partial(ImageCollateFunction, SIZE),
    "shape": partial(ShapeCollateFunction, SIZE, rot90=0.5, degrees=20),
    "texture": partial(TextureCollateFunction, SIZE),
    "color": partial(ColorCollateFunction, SIZE),
}


def images() -> list[npt.NDArray[np.uint8]]:
    """Make two images of other sizes by integer arithmetic, which is the same everywhere."""
    made = []
    for h, w in ((40, 31), (25, 52)):
        y, x, c = np.mgrid[:h, :w, :3]
        made.append(((x * (5 + c) + y * (3 * c + 2) + (x * y) // (7 + c) + (x ^ y)) % 256).astype(np.uint8))
    return made


def defaults_of(recipe: Callable[..., BaseCollateFunction]) -> str:
    """Return the text of a recipe at its own sizes, without the lines of what is chosen by the machine."""
    text = repr(getattr(recipe, "func")(seed=0, engine="reference", render="late"))  # noqa: B009
    return re.sub(r"<.*? at 0x[0-9a-f]+>", "<object>", text)


def measure(engine: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield all that the file has, by name."""
    keys = np.array([0, 1, 2**32, 2**63], dtype=np.uint64)
    for seed, epoch in ((0, 0), (2**63 + 5, 11)):
        yield f"uniforms of seed {seed}, epoch {epoch}", uniforms(seed, epoch, keys, [3], 10)[0]
    sampler = EpochSampler(Indexed(range(20)), shuffle=True, seed=4)
    for epoch in range(2):
        yield f"order of epoch {epoch}", np.array([int(index) for index in sampler])
    for name, recipe in RECIPES.items():
        yield f"{name}: defaults", np.array(defaults_of(recipe))
        for seed in (0, 77):
            views = recipe(seed=seed, engine=engine, render="late")(images())
            yield f"{name}: draws of seed {seed}", views.table.numpy()
        rendered = [view[0].numpy().astype(np.float16) for view in views.to("cpu")]  # of the first image
        yield f"{name}: views", np.concatenate([view.ravel() for view in rendered])


@cache
def golden() -> dict[str, npt.NDArray[Any]]:
    with np.load(FILE) as file:
        return dict(file)


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_nothing_has_changed(engine: str) -> None:
    measured = dict(measure(engine))
    assert measured.keys() == golden().keys(), CHANGED.format(name="The list of recipes")
    for name, value in measured.items():
        expected, text = golden()[name], CHANGED.format(name=name)
        assert value.shape == expected.shape, text
        if value.dtype.kind in "US":
            assert str(value) == str(expected), text
        elif name.endswith("views"):  # float16 has three digits; engines agree to 1e-4 before normalisation
            np.testing.assert_allclose(value.astype(float), expected.astype(float), rtol=2e-3, atol=2e-3, err_msg=text)
        elif value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-7, err_msg=text)
        else:
            np.testing.assert_array_equal(value, expected, err_msg=text)


def test_every_recipe_is_there() -> None:
    named = {getattr(recipe, "func").__name__ for recipe in RECIPES.values()}  # noqa: B009
    assert named == {name for name in recipes.__all__ if name.endswith("CollateFunction")}


def test_the_file_is_small() -> None:
    assert FILE.stat().st_size < 200_000


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(FILE, **dict(measure("reference")))  # type: ignore[arg-type]
    print(f"wrote {FILE.name}: {FILE.stat().st_size:,} bytes, {len(golden())} arrays")
