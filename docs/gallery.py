"""Draw every operation and the views of every method: `python docs/gallery.py FOLDER` writes two pages there."""

import inspect
import re
import sys
from collections import Counter
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import lightly_aug
from lightly_aug import Color, Operation, Shape, Texture
from lightly_aug.methods import METHODS
from lightly_aug.operations import KorniaModule

__all__ = ["ENTRIES", "Entry", "Picture", "build"]

PREAMBLE: Final = """\
from pathlib import Path

import kornia.augmentation as K
import skimage
from torchvision.transforms import v2

from lightly_aug import (
    Batched, CenterCrop, ColorJitter, Crop, MultiViewCollateFunction, Normalize, PerImage,
    RandomEqualize, RandomJigsawPatch, RandomResizedCrop, RandomRotation, Resize, Shared,
    View,
)
from lightly_aug.methods import METHODS
from lightly_aug.plot import sweep

data = Path(skimage.__file__).parent / "data"
astronaut, cat, cup = data / "astronaut.png", data / "chelsea.png", data / "coffee.png"


def draw(*items, image=cat, count=4):
    return MultiViewCollateFunction([View(*items)] * count, seed=0).show([image])
"""
"""What the lines of code on the pages use. It is run, and it is on the pages."""


class Picture(NamedTuple):
    """One picture of the gallery.

    Attributes:
        code: Expression that draws it, as a figure.
        alt: Text for readers who do not see the picture.
    """

    code: str
    alt: str


class Entry(NamedTuple):
    """What the gallery says about an operation, beside its docstring.

    Attributes:
        group: Heading that it stands under.
        operation: The operation.
        pictures: Its pictures.
        rows: Rows of the tables in `docs/invariances.md` that say what it teaches to ignore, and where that is wrong.
        text: What it teaches, for an operation without such a row.
    """

    group: str
    operation: type[Operation]
    pictures: tuple[Picture, ...]
    rows: tuple[str, ...] = ()
    text: str = ""


def _strengths(name: str, image: str, shown: str) -> Picture:
    return Picture(f'sweep({image}, "{name}")', f"{shown} from weak to strong: {name}")


ENTRIES: Final = (
    Entry(
        "Shape", lightly_aug.RandomResizedCrop, (
            Picture("draw(RandomResizedCrop(160))", "Cat, and four random crops of it, of different sizes and places"),
            _strengths("crop scale", "cat", "Cat, cropped"),
            _strengths("aspect ratio", "cat", "Cat, stretched"),
        ), ("crop with resize",),
    ),
    Entry(
        "Shape", lightly_aug.RandomHorizontalFlip,
        (_strengths("horizontal flip", "cup", "Cup of coffee, and its mirror image"),), ("horizontal flip",),
    ),
    Entry(
        "Shape", lightly_aug.RandomVerticalFlip,
        (_strengths("vertical flip", "cup", "Cup of coffee, upright and upside down"),), ("vertical flip",),
    ),
    Entry(
        "Shape", lightly_aug.RandomRotation90, (_strengths("quarter turns", "cat", "Cat, turned"),),
        ("quarter turns, rotation",),
    ),
    Entry(
        "Shape", lightly_aug.RandomRotation, (
            Picture("draw(Resize(160), CenterCrop(160), RandomRotation(45))", "Cat, rotated by four random angles"),
            _strengths("rotation", "cat", "Middle of the cat's face, rotated"),
        ), ("quarter turns, rotation",),
    ),
    Entry(
        "Texture", lightly_aug.RandomGaussianBlur, (_strengths("blur", "astronaut", "Astronaut, blurred"),),
        ("blur",),
    ),
    Entry(
        "Texture", lightly_aug.RandomSolarize, (_strengths("solarize", "astronaut", "Astronaut, solarized"),),
        ("solarize",),
    ),
    Entry(
        "Color", lightly_aug.ColorJitter, (
            Picture(
                "draw(Resize(160), CenterCrop(160), ColorJitter(0.4, 0.4, 0.4, 0.1), image=cup)",
                "Cup of coffee in four random lights and tints",
            ),
            *(_strengths(part, "cup", "Cup of coffee") for part in ("brightness", "contrast", "saturation", "hue")),
        ), ("brightness, contrast", "saturation, hue"),
    ),
    Entry("Color", lightly_aug.RandomGrayscale, (_strengths("grayscale", "cup", "Cup of coffee"),), ("grayscale",)),
    Entry(
        "Other", lightly_aug.RandomEqualize,
        (Picture("draw(Resize(160), CenterCrop(160), RandomEqualize(0.5))", "Cat, with and without a flat histogram"),),
        text="Teaches to ignore exposure, contrast and tint. Wrong where intensities are measurements.",
    ),
    Entry(
        "Other", lightly_aug.RandomJigsawPatch,
        (
            Picture(
                "MultiViewCollateFunction(\n"
                '    [View(Shared("cells", RandomResizedCrop(255), RandomJigsawPatch(64, i))) for i in range(9)],\n'
                "    seed=0,\n"
                ").show([astronaut])",
                "Astronaut, and nine patches of a crop, one from each cell of a grid, in random order",
            ),
        ),
        text="Teaches to ignore where in the image a part is. Wrong where the arrangement of parts is the label.",
    ),
    Entry(
        "Other", lightly_aug.Resize,
        (Picture("MultiViewCollateFunction([View(Resize(side)) for side in (160, 80, 40)]).show([cat])",
                 "Cat, resized to three sizes"),),
        text="Teaches nothing by itself: all images get one size. A small size loses fine detail.",
    ),
    Entry(
        "Other", lightly_aug.CenterCrop,
        (Picture("MultiViewCollateFunction([View(CenterCrop(side)) for side in (280, 140)]).show([cat])",
                 "Cat, and two windows about the centre"),),
        text="Teaches nothing by itself. Wrong where the object is not in the middle: the crop misses it.",
    ),
    Entry(
        "Other", lightly_aug.Crop,
        (Picture("MultiViewCollateFunction([View(Crop(140, 40, 90)), View(Crop(140, 40, 230))]).show([cat])",
                 "Cat, and two windows at fixed places"),),
        text="Teaches to match two fixed parts of each image if each view has another one, as the patches of CPC. "
        "Alone it is preprocessing.",
    ),
    Entry(
        "Other", lightly_aug.Normalize,
        (Picture("sweep(cat, lambda mean: Normalize(mean, 1.0), [0, 0.25, 0.5], neutral=0)",
                 "Cat, and two darker copies, from whose values a number was subtracted"),),
        text="Teaches nothing: it is the scale of values that a network expects. In the picture, values below 0 are "
        "black.",
    ),
    Entry(
        "Other", lightly_aug.PerImage,
        (Picture("draw(Resize(160), CenterCrop(160), PerImage(v2.RandomErasing(p=1.0), moves_pixels=False))",
                 "Cat, with a random rectangle erased in each of four views"),),
        text="Teaches to ignore what the function changes; here that parts are hidden.",
    ),
    Entry(
        "Other", lightly_aug.Batched,
        (Picture("draw(Resize(160), CenterCrop(160), Batched(v2.GaussianNoise(sigma=0.15), moves_pixels=False))",
                 "Cat, with different noise in each of four views"),),
        text="Teaches to ignore what the function changes; here noise.",
    ),
    Entry(
        "Other", KorniaModule,
        (Picture("draw(Resize(160), CenterCrop(160), K.RandomPerspective(0.4, p=1.0))",
                 "Cat, as from another side in each of four views"),),
        text="Teaches to ignore what the module changes; here the viewpoint. Wrong where that changes the label.",
    ),
)  # fmt: skip
"""The operations, in the order of the page."""


def build(folder: Path) -> None:
    """Write `operations.md`, `methods.md` and their pictures.

    Args:
        folder: Folder to write to; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {}
    exec(PREAMBLE, names)
    (folder / "operations.md").write_text(_write_operations(folder, names), encoding="utf-8")
    (folder / "methods.md").write_text(_write_methods(folder, names), encoding="utf-8")


def _write_operations(folder: Path, names: dict[str, Any]) -> str:
    parts = [
        "# Gallery of operations",
        "What each operation does to a photograph, from weak to strong or in several random draws. The [table of "
        "operations](../operations.md) says what each computes, and [Invariances](../invariances.md) how to choose. "
        "The pictures are drawn by the lines above them, after:",
        _code(PREAMBLE),
        "A blue frame marks the unchanged image, and the photographs are those of scikit-image.",
    ]
    taught = _read_invariances()
    headings = {"Shape": Shape, "Texture": Texture, "Color": Color}
    group = ""
    for entry in ENTRIES:
        if entry.group != group:
            group = entry.group
            parts += [f"## {group}"]
            parts += [_first_line(headings[group])] if group in headings else []
        name = entry.operation.__name__
        parts += [f"### {name}", _first_line(entry.operation), entry.text or _say_what_is_taught(entry, taught)]
        parts += [table] if (table := _write_arguments(entry.operation)) else []
        for i, picture in enumerate(entry.pictures):
            parts += _draw(picture, folder / f"{name}-{i}.webp", names)
    return "\n\n".join(parts) + "\n"


def _write_methods(folder: Path, names: dict[str, Any]) -> str:
    parts = [
        "# Gallery of methods",
        "The views that each method trains on, at 224 pixels, of two photographs of scikit-image. The [table of "
        "methods](../methods.md) links their papers. An outline on a photograph shows the region of the view whose "
        "frame has its colour. The pictures are drawn by the lines above them, after the imports of the [gallery of "
        "operations](operations.md). Arguments that have their defaults are left out.",
    ]
    for name, method in METHODS.items():
        collate = method.views(224, seed=1)
        picture = Picture(
            f'METHODS["{name}"].views(224, seed=1).show([astronaut, cat])',
            f"Astronaut and cat, and the views of {method.title}: {len(collate.views)} of each",
        )
        kinds = [
            f"* {count} × `{' → '.join(map(_write_call, view.operations))}`"
            for view, count in Counter(collate.views).items()
        ]
        if len(kinds) > 5:  # patches, which differ in their place only
            kinds = [*kinds[:2], f"* and {len(kinds) - 2} more of this kind"]
        parts += [f"## {method.title}", _first_line(type(collate)), "\n".join(kinds)]
        parts += _draw(picture, folder / f"{name}.webp", names)
    return "\n\n".join(parts) + "\n"


def _draw(picture: Picture, file: Path, names: dict[str, Any]) -> list[str]:
    """Draw a picture by its line of code, and return the line and the picture as Markdown."""
    figure = eval(picture.code, names)
    dpi = min(88.0, 1100 / figure.get_figwidth())
    figure.savefig(file, dpi=dpi, pil_kwargs={"quality": 80, "method": 4})
    return [_code(picture.code), f"![{picture.alt}]({file.name})"]


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"


def _first_line(described: type) -> str:
    return (inspect.getdoc(described) or "").split("\n\n")[0].replace("\n", " ")


def _read_invariances() -> dict[str, tuple[str, str]]:
    """Return by operation what it teaches to ignore, and where that is wrong, from the tables of `invariances.md`."""
    page = Path(__file__).with_name("invariances.md").read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    above = ""
    for name, taught, wrong in re.findall(r"^\| ([^|]+) \| (?:`\w+`(?:, )?)+ \| ([^|]+) \| ([^|]+) \|$", page, re.M):
        above = wrong.replace("the same", above) if wrong.startswith("the same") else wrong  # as in the row above
        found[name] = taught, above
    return found


def _say_what_is_taught(entry: Entry, known: dict[str, tuple[str, str]]) -> str:
    lines = []
    for row in entry.rows:
        taught, wrong = known[row]
        about = f", by {row}" * (len(entry.rows) > 1)
        lines.append(f"* **Teaches to ignore{about}:** {taught}. **Wrong where it matters:** {wrong}.")
    return "\n".join(lines)


def _write_arguments(operation: type[Operation]) -> str:
    """Return the arguments of an operation with their defaults, as its docstring describes them."""
    text = inspect.getdoc(operation) or ""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", text, re.M)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.M) if section else []
    defaults = {field.name: field.default for field in fields(operation)}  # type: ignore[arg-type]
    rows = []
    for name, meaning in entries:
        default = defaults.get(name, MISSING)
        shown = "" if default is MISSING else f"`{_write_value(default)}`"
        rows.append(f"| `{name}` | {shown} | {' '.join(meaning.split())} |")
    return "\n".join(["| argument | default | meaning |", "|---|---|---|", *rows]) if rows else ""


def _write_call(operation: Operation) -> str:
    """Return an operation as code, without the arguments that have their defaults."""
    arguments = [
        f"{field.name}={_write_value(getattr(operation, field.name))}"
        for field in fields(operation)  # type: ignore[arg-type]
        if field.init and getattr(operation, field.name) != field.default
    ]
    return f"{type(operation).__name__}({', '.join(arguments)})"


def _write_value(value: object) -> str:
    """Return a value as code, with fractions in place of endless decimals."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_write_value, value))})"
    if isinstance(value, float) and len(repr(value)) > 8:
        return str(Fraction(value).limit_denominator(100))
    return repr(value)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
