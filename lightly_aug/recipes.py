"""The views of the papers, as data.

Crops are those of torchvision, blurs true Gaussians of .1 to 2 pixels and the jitter torchvision's, unless said
otherwise; `docs/operations.md` tells where the authors' code differs in these.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, Literal

from torch import nn

from lightly_aug.collate import BaseCollateFunction
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import (
    CenterCrop,
    ColorJitter,
    Convention,
    Crop,
    Interpolation,
    Normalize,
    Operation,
    RandomEqualize,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomSolarize,
    Resize,
)
from lightly_aug.view import Item, Shared, View

__all__ = [
    "AMDIMCollateFunction",
    "BYOLCollateFunction",
    "BarlowTwinsCollateFunction",
    "CPCCollateFunction",
    "ColorCollateFunction",
    "DINOCollateFunction",
    "ImageCollateFunction",
    "LooCCollateFunction",
    "MoCoCollateFunction",
    "NNCLRCollateFunction",
    "PAWSCollateFunction",
    "PIRLCollateFunction",
    "ShapeCollateFunction",
    "SimCLRCollateFunction",
    "SimSiamCollateFunction",
    "SwaVCollateFunction",
    "TextureCollateFunction",
]

Size = int | tuple[int, int]
Range = tuple[float, float]


class SimCLRCollateFunction(BaseCollateFunction):
    """Two views as in SimCLR, versions 1 and 2 (Chen et al. 2020, arXiv 2002.05709 and 2006.10029).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.8, .8, .8, .2) x strength with probability .8, grayscale
    .2, blur .5; the paper does not normalise. For CIFAR it takes `strength=0.5, blur=0`.

    Args:
        size: side of the views, or (height, width), in pixels.
        strength: of the colour jitter.
        blur: probability of a Gaussian blur.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        strength: float = 1.0,
        blur: float = 0.5,
        normalize: Normalize | None = None,
        **options: Any,
    ) -> None:
        s = strength
        view = View(
            Shape(size, interpolation="bicubic"),
            Color(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s),
            Texture(blur),
            normalize,
        )
        super().__init__([view, view], **options)


class MoCoCollateFunction(BaseCollateFunction):
    """Two views as in MoCo, versions 1 to 3 (He, Chen et al. 2019 to 2021, arXiv 1911.05722, 2003.04297, 2104.02057).

    All crop bilinearly. Version 1: .2 to 1 of the image, grayscale .2, then always jitter (.4, .4, .4, .4), flip.
    Version 2: .2 to 1, jitter (.4, .4, .4, .1) with probability .8, grayscale .2, blur .5, flip. Version 3: .08 to 1
    (.2 to 1 in its recipe for ResNet-50), jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first view is
    always blurred, the second with probability .1 and solarized with .2; flip.

    Args:
        size: side of the views, or (height, width), in pixels.
        version: 1, 2 or 3.
        scale: area of the crop as a share of the image; by default the version's.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: there is no such version.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        version: Literal[1, 2, 3] = 2,
        scale: Range | None = None,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        crop = RandomResizedCrop(size, scale or ((0.08, 1.0) if version == 3 else (0.2, 1.0)))
        flip = RandomHorizontalFlip()
        if version == 1:
            views = [View(crop, RandomGrayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4), flip, normalize)] * 2
        elif version == 2:
            views = [View(crop, Color(0.4, 0.4, 0.4, 0.1), Texture(), flip, normalize)] * 2
        elif version == 3:
            textures = Texture(1.0), Texture(0.1, solarize=0.2)
            views = [View(crop, Color(0.4, 0.4, 0.2, 0.1), texture, flip, normalize) for texture in textures]
        else:
            raise ValueError(f"version must be 1, 2 or 3, got {version!r}")
        super().__init__(views, **options)


class BYOLCollateFunction(BaseCollateFunction):
    """Two views as in BYOL (Grill et al. 2020, arXiv 2006.07733).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first
    view is always blurred, the second with probability .1 and solarized with .2. The authors normalise inside of the
    network.

    Args:
        size: side of the views, or (height, width), in pixels.
        convention: "tensorflow" for the jitter of the authors' code and a blur that sees zeros around the view, which
            only the reference engine does; "torchvision" for what others reproduce it with.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        convention: Convention = "torchvision",
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        super().__init__(_byol(size, normalize, convention), **options)


class SimSiamCollateFunction(BaseCollateFunction):
    """Two views as in SimSiam (Chen and He 2020, arXiv 2011.10566), which are those of MoCo 2.

    Bilinear crop of .2 to 1 of the image, jitter (.4, .4, .4, .1) with probability .8, grayscale .2, blur .5, flip.

    Args:
        size: side of the views, or (height, width), in pixels.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Any) -> None:
        crop, flip = RandomResizedCrop(size, (0.2, 1.0)), RandomHorizontalFlip()
        super().__init__([View(crop, Color(0.4, 0.4, 0.4, 0.1), Texture(), flip, normalize)] * 2, **options)


class BarlowTwinsCollateFunction(BaseCollateFunction):
    """Two views as in Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first
    view is always blurred, the second with probability .1 and solarized with .2.

    Args:
        size: side of the views, or (height, width), in pixels.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Any) -> None:
        super().__init__(_byol(size, normalize), **options)


class NNCLRCollateFunction(BaseCollateFunction):
    """Two views for NNCLR (Dwibedi et al. 2021, arXiv 2104.14548), which are those of BYOL.

    The authors published no code. This is what an independent implementation trains it with; that the paper's text
    names SimCLR's views (`SimCLRCollateFunction`) is recalled, not verified against it. Bicubic crop of .08 to 1 of the
    image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first view is always blurred, the
    second with probability .1 and solarized with .2.

    Args:
        size: side of the views, or (height, width), in pixels.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Any) -> None:
        super().__init__(_byol(size, normalize), **options)


class SwaVCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in SwAV (Caron et al. 2020, arXiv 2006.09882), the large ones first.

    Bilinear crops of .14 to 1 of the image and of .05 to .14, flip, jitter (.8, .8, .8, .2) with probability .8,
    grayscale .2, blur .5. Without small views the authors crop .08 to 1. They divide by (.228, .224, .225), a slip in
    the first digit: `normalize=Normalize(std=(0.228, 0.224, 0.225))`.

    Args:
        size: side of the large views, or (height, width), in pixels.
        local_size: of the small ones, likewise.
        local_views: how many small ones.
        scale: area of the crop of a large one as a share of the image.
        local_scale: of a small one, likewise.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is no number of views.
    """

    def __init__(
        self,
        size: Size = 224,
        local_size: Size = 96,
        local_views: int = 6,
        *,
        scale: Range = (0.14, 1.0),
        local_scale: Range = (0.05, 0.14),
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        rest = Color(0.8, 0.8, 0.8, 0.2), Texture(), normalize
        large, small = View(Shape(size, scale), *rest), View(Shape(local_size, local_scale), *rest)
        super().__init__([large] * 2 + [small] * _count("local_views", local_views), **options)


class DINOCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in DINO (Caron et al. 2021, arXiv 2104.14294), the large ones first.

    Bicubic crops of .4 to 1 of the image and of .05 to .4 (for ResNet-50 .14 to 1 and .05 to .14), flip, jitter
    (.4, .4, .2, .1) with probability .8, grayscale .2; the first large view is always blurred, the second with
    probability .1 and solarized with .2, the small ones are blurred with .5.

    Args:
        size: side of the large views, or (height, width), in pixels.
        local_size: of the small ones, likewise.
        local_views: how many small ones.
        scale: area of the crop of a large one as a share of the image.
        local_scale: of a small one, likewise.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is no number of views.
    """

    def __init__(
        self,
        size: Size = 224,
        local_size: Size = 96,
        local_views: int = 8,
        *,
        scale: Range = (0.4, 1.0),
        local_scale: Range = (0.05, 0.4),
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        large = Shape(size, scale, interpolation="bicubic")
        small = Shape(local_size, local_scale, interpolation="bicubic")
        color = Color(0.4, 0.4, 0.2, 0.1)
        views = [View(large, color, texture, normalize) for texture in (Texture(1.0), Texture(0.1, solarize=0.2))]
        views += [View(small, color, Texture(0.5), normalize)] * _count("local_views", local_views)
        super().__init__(views, **options)


class PIRLCollateFunction(BaseCollateFunction):
    """The image and its jigsaw as in PIRL (Misra and van der Maaten 2019, arXiv 1912.01991): 1 + grid**2 views.

    View 0 crops .08 to 1 of the image. The patches come from another crop, of .6 to 1, that is cut into 3 x 3 cells;
    they lie anywhere in their cells and come in random order. Then each by itself: always jitter (.4, .4, .4, .2),
    grayscale .2, flip. After the jitter the authors take a photometric step (posterize, sharpness, solarize or
    autocontrast, probability .66), which is left out; Kornia has such::

        posterize, sharpness = K.RandomPosterize((4, 8), p=1.0), K.RandomSharpness(0.9, p=1.0)
        one = K.ImageSequential(posterize, sharpness, K.RandomAutoContrast(p=1.0), random_apply=1)
        PIRLCollateFunction(photometric=one)

    Args:
        size: side of the image's view, or (height, width), in pixels.
        patch: of the patches, likewise.
        jigsaw: of the crop that they are cut from, likewise.
        grid: cells along either side.
        photometric: what to do after the jitter.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: a patch is larger than a cell.
    """

    def __init__(
        self,
        size: Size = 224,
        patch: Size = 64,
        jigsaw: Size = 255,
        grid: int = 3,
        *,
        photometric: Operation | nn.Module | None = None,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        source, patches = RandomResizedCrop(jigsaw, (0.6, 1.0)), RandomJigsawPatch(patch, 0, grid)
        assert isinstance(source.size, tuple)
        assert isinstance(patches.size, tuple)
        cell = source.size[0] // grid, source.size[1] // grid
        if patches.size[0] > cell[0] or patches.size[1] > cell[1]:
            raise ValueError(
                f"patch must fit into a cell, which is {cell[0]}x{cell[1]} (jigsaw {source.size[0]}x{source.size[1]} "
                f"// grid {grid}), got {patches.size[0]}x{patches.size[1]}"
            )
        rest = (
            *(ColorJitter(0.4, 0.4, 0.4, 0.2), photometric),
            *(RandomGrayscale(0.2), RandomHorizontalFlip(), normalize),
        )
        views = [View(RandomResizedCrop(size), *rest)]
        views += [
            View(Shared("jigsaw", source, RandomJigsawPatch(patch, number, grid)), *rest) for number in range(grid**2)
        ]
        super().__init__(views, **options)


class PAWSCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in PAWS (Assran et al. 2021, arXiv 2104.13963), the large ones first.

    ImageNet: as SwAV, bilinear crops of .14 to 1 of the image and of .05 to .14, flip, jitter (.8, .8, .8, .2) with
    probability .8, grayscale .2, blur .5. CIFAR: crops of .75 to 1 and of .3 to .75, flip, jitter (.4, .4, .4, .1) with
    probability .8, solarize .2 from a threshold that is drawn from (0, 1), equalize .2 (by the reference engine).

    Args:
        size: side of the large views, or (height, width), in pixels; by default 224, for CIFAR 32.
        local_size: of the small ones, likewise; by default 96, for CIFAR 18.
        local_views: how many small ones.
        recipe: "imagenet" or "cifar".
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is no number of views; there is no such recipe.
    """

    def __init__(
        self,
        size: Size | None = None,
        local_size: Size | None = None,
        local_views: int = 6,
        *,
        recipe: Literal["imagenet", "cifar"] = "imagenet",
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        rest: tuple[Item | None, ...]
        if recipe == "imagenet":
            sizes, scales = (224, 96), ((0.14, 1.0), (0.05, 0.14))
            rest = Color(0.8, 0.8, 0.8, 0.2), Texture(), normalize
        elif recipe == "cifar":
            sizes, scales = (32, 18), ((0.75, 1.0), (0.3, 0.75))
            solarize = RandomSolarize((0.0, 1.0), 0.2)
            rest = Color(0.4, 0.4, 0.4, 0.1, grayscale=0), solarize, RandomEqualize(0.2), normalize
        else:
            raise ValueError(f"recipe must be 'imagenet' or 'cifar', got {recipe!r}")
        large = View(Shape(sizes[0] if size is None else size, scales[0]), *rest)
        small = View(Shape(sizes[1] if local_size is None else local_size, scales[1]), *rest)
        super().__init__([large] * 2 + [small] * _count("local_views", local_views), **options)


class AMDIMCollateFunction(BaseCollateFunction):
    """Two views as in AMDIM (Bachman et al. 2019, arXiv 1906.00910).

    One flip for both views; then each by itself a bicubic crop of .3 to 1 of the image with a ratio of .7 to 1.4,
    jitter (.4, .4, .4, .1) with probability .8, grayscale .25.

    Args:
        size: side of the views, or (height, width), in pixels.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(self, size: Size = 128, *, normalize: Normalize | None = Normalize(), **options: Any) -> None:
        crop = RandomResizedCrop(size, (0.3, 1.0), (0.7, 1.4), "bicubic")
        color = Color(0.4, 0.4, 0.4, 0.1, grayscale=0.25)
        super().__init__([View(Shared("flip", RandomHorizontalFlip()), crop, color, normalize)] * 2, **options)


class CPCCollateFunction(BaseCollateFunction):
    """Overlapping patches as in CPC 2 (Hénaff et al. 2019, arXiv 1905.09272): grid**2 views, row by row from the top.

    All are cut from one crop of the image. Then each by itself: flip .5, jitter (.4, .4, .4, .1) with probability .8,
    grayscale .25. The paper's two primitives of AutoAugment, its elastic deformation and its shear are left out. The
    scale of the crop is our choice: less of an image leaves its patches little to tell apart.

    Args:
        size: side of the crop in pixels: the patch and a whole number of strides.
        patch: side of the patches.
        stride: from one patch to the next.
        scale: area of the crop as a share of the image.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Attributes:
        grid: patches along either side, (size - patch) // stride + 1.

    Raises:
        ValueError: the patches do not fit the size, or one of the three is no length.
    """

    def __init__(
        self,
        size: int = 256,
        patch: int = 64,
        stride: int = 32,
        *,
        scale: Range = (0.3, 1.0),
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        size, patch, stride = _count("size", size, 1), _count("patch", patch, 1), _count("stride", stride, 1)
        if patch > size or (size - patch) % stride:
            raise ValueError(
                f"size must be the patch and a whole number of strides, got size {size}, patch {patch}, stride {stride}"
            )
        crop, flip = Shared("crop", RandomResizedCrop(size, scale)), RandomHorizontalFlip()
        color = Color(0.4, 0.4, 0.4, 0.1, grayscale=0.25)
        places = range(0, size - patch + 1, stride)
        views = [View(crop, Crop(patch, top, left), flip, color, normalize) for top in places for left in places]
        super().__init__(views, **options)
        self.grid = len(places)


class LooCCollateFunction(BaseCollateFunction):
    """The query and its keys as in LooC (Xiao et al. 2020, arXiv 2008.05659): of n groups n + 2 views, q, k_0 … k_n.

    Each group of augmentations is an invariance that one head of the network does without. Key k_i, with i from 1 to
    n, is augmented by group i as the query is, number by number, and by all others independently; k_0 by all
    independently. In the paper the groups are rotation, colour and texture; crop and flip come before, in every view::

        rotation, crop = RandomRotation90(1.0), Shape(224)
        LooCCollateFunction(groups={"rotation": rotation, "color": Color()}, base=crop)

    Args:
        size: side of the views, or (height, width), in pixels, where `groups` is None.
        groups: by name what they do, an item of a `View` or some, in the order in which they do it. By default
            Shape(size), Color() and Texture(), of which the names are shape, color and texture.
        base: what all views begin with independently, an item or some.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.

    Raises:
        ValueError: no groups, or one without items.
    """

    def __init__(
        self,
        size: Size = 224,
        groups: Mapping[str, Item | Iterable[Item]] | None = None,
        base: Item | Iterable[Item] = (),
        *,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        if groups is None:
            groups = {"shape": Shape(size), "color": Color(), "texture": Texture()}
        if not groups:
            raise ValueError("groups is empty, at least one is needed")
        items = {name: _items(group) for name, group in groups.items()}
        empty = [name for name, group in items.items() if not group]
        if empty:
            raise ValueError(f"groups: {', '.join(map(repr, empty))} has no items")
        first = _items(base)

        def view(*shared: str) -> View:
            rest: list[Item | Shared] = []
            for name, group in items.items():
                rest += [Shared(name, *group)] if name in shared else group
            return View(*first, *rest, normalize)

        super().__init__([view(*items), view(), *(view(name) for name in items)], **options)


class ImageCollateFunction(BaseCollateFunction):
    """The general one: every range and probability is an argument. Two alike views, unless `views` says otherwise.

    Args:
        size: side of the views, or (height, width), in pixels.
        views: how many views.
        scale: area of the crop as a share of the image.
        ratio: aspect ratio of the crop.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: probability of a random number of quarter turns.
        degrees: range of a free rotation in degrees, 0 for none.
        brightness: range of the factor, or b for (1 - b, 1 + b).
        contrast: likewise.
        saturation: likewise.
        hue: range of the shift in turns, or h for (-h, h).
        jitter: probability of the four.
        grayscale: probability of dropping the colours.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation, in pixels of the view.
        solarize: probability of a solarization.
        interpolation: "bilinear" or "bicubic".
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 64,
        *,
        views: int = 2,
        scale: tuple[float, float] = (0.15, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        hflip: float = 0.5,
        vflip: float = 0.0,
        rot90: float = 0.0,
        degrees: float | tuple[float, float] = 0.0,
        brightness: float | tuple[float, float] = 0.7,
        contrast: float | tuple[float, float] = 0.7,
        saturation: float | tuple[float, float] = 0.7,
        hue: float | tuple[float, float] = 0.2,
        jitter: float = 0.8,
        grayscale: float = 0.2,
        blur: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarize: float = 0.0,
        interpolation: Interpolation = "bilinear",
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        view = View(
            Shape(size, scale, ratio, hflip, vflip, rot90, degrees, interpolation),
            Color(brightness, contrast, saturation, hue, jitter, grayscale),
            Texture(blur, sigma, solarize),
            normalize,
        )
        super().__init__([view] * views, **options)


class ShapeCollateFunction(BaseCollateFunction):
    """Two views that differ in shape alone: crop, flips, rotations. Colour and texture stay to be told apart by.

    Args:
        size: side of the views, or (height, width), in pixels.
        scale: area of the crop as a share of the image.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        rot90: probability of a random number of quarter turns.
        degrees: range of a free rotation in degrees, 0 for none.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 224,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        hflip: float = 0.5,
        vflip: float = 0.0,
        rot90: float = 0.0,
        degrees: float | tuple[float, float] = 0.0,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        shape = Shape(size, scale, hflip=hflip, vflip=vflip, rot90=rot90, degrees=degrees)
        super().__init__([View(shape, normalize)] * 2, **options)


class TextureCollateFunction(BaseCollateFunction):
    """Two views that differ in texture alone: blur, solarize. Both are the centre of the image.

    Args:
        size: side of the views in pixels.
        blur: probability of a Gaussian blur.
        sigma: range of its standard deviation, in pixels of the view.
        solarize: probability of a solarization.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        blur: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarize: float = 0.2,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        view = View(Resize(size), CenterCrop(size), Texture(blur, sigma, solarize), normalize)
        super().__init__([view] * 2, **options)


class ColorCollateFunction(BaseCollateFunction):
    """Two views that differ in light and colour alone: jitter, grayscale. Both are the centre of the image.

    Args:
        size: side of the views in pixels.
        brightness: range of the factor, or b for (1 - b, 1 + b).
        contrast: likewise.
        saturation: likewise.
        hue: range of the shift in turns, or h for (-h, h).
        jitter: probability of the four.
        grayscale: probability of dropping the colours.
        normalize: how to normalise, None for values in [0, 1].
        **options: as in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        brightness: float | tuple[float, float] = 0.8,
        contrast: float | tuple[float, float] = 0.8,
        saturation: float | tuple[float, float] = 0.8,
        hue: float | tuple[float, float] = 0.2,
        jitter: float = 0.8,
        grayscale: float = 0.2,
        normalize: Normalize | None = Normalize(),
        **options: Any,
    ) -> None:
        color = Color(brightness, contrast, saturation, hue, jitter, grayscale)
        super().__init__([View(Resize(size), CenterCrop(size), color, normalize)] * 2, **options)


def _byol(size: Size, normalize: Normalize | None, convention: Convention = "torchvision") -> list[View]:
    """The two sides of BYOL, which others took over."""
    shape = Shape(size, interpolation="bicubic")
    color = Color(0.4, 0.4, 0.2, 0.1, convention=convention)
    border: Literal["reflect", "zeros"] = "zeros" if convention == "tensorflow" else "reflect"
    textures = Texture(1.0, border=border), Texture(0.1, solarize=0.2, border=border)
    return [View(shape, color, texture, normalize) for texture in textures]


def _count(name: str, value: int, least: int = 0) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return int(value)


def _items(items: Item | Iterable[Item]) -> list[Item]:
    # Kornia's sequences can be iterated, too
    return list(items) if isinstance(items, Iterable) and not isinstance(items, nn.Module) else [items]
