"""Collate functions with the views of the papers, and with views that differ in one invariance.

Unless a docstring says otherwise, crops and jitter are torchvision's and blurs are true Gaussians with a sigma of .1 to
2 pixels. `docs/operations.md` says where the authors' code differs in these.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Unpack

from torch import nn

from lightly_aug.checks import check_choice, check_integer
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
from lightly_aug.options import Options
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

_CIFAR = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""The normalisation of CIFAR in PAWS' code."""


class SimCLRCollateFunction(BaseCollateFunction):
    """Two views as in SimCLR v1 and v2 (Chen et al. 2020, arXiv 2002.05709 and 2006.10029).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.8, .8, .8, .2) x strength with probability .8, grayscale
    .2, blur .5. The paper does not normalise; for CIFAR it uses `strength=0.5, blur=0`. The authors' code draws one
    sigma for all blurred images of a batch, here each image has its own.

    Args:
        size: Side of the views, or (height, width), in pixels.
        strength: Strength of the colour jitter, 0 to 2.5.
        blur: Probability of a Gaussian blur.
        convention: "tensorflow" uses the jitter of v1 in the authors' code and a blur that sees zeros around
            the view; only the reference engine renders them. "torchvision" is what reimplementations in PyTorch use.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        strength: float = 1.0,
        blur: float = 0.5,
        convention: Convention = "torchvision",
        normalize: Normalize | None = None,
        **options: Unpack[Options],
    ) -> None:
        if not 0 <= strength <= 2.5:
            raise ValueError(f"{type(self).__name__}: strength must lie in [0, 2.5], got {strength!r}")
        s = strength
        view = View(
            Shape(size, interpolation="bicubic"),
            Color(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, convention=convention),
            Texture(blur, border=_border(convention)),
            normalize,
        )
        super().__init__([view, view], **options)


class MoCoCollateFunction(BaseCollateFunction):
    """Two views as in MoCo v1 to v3 (He, Chen et al. 2019 to 2021, arXiv 1911.05722, 2003.04297, 2104.02057).

    All versions crop bilinearly. v1: .2 to 1 of the image, grayscale .2, then always jitter (.4, .4, .4, .4),
    flip. v2: .2 to 1, jitter (.4, .4, .4, .1) with probability .8, grayscale .2, blur .5, flip. v3: .08
    to 1 (.2 to 1 in its recipe for ResNet-50), jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first
    view is always blurred, the second is blurred with probability .1 and solarized with .2; flip.

    Args:
        size: Side of the views, or (height, width), in pixels.
        version: 1, 2 or 3.
        scale: Area of the crop as a share of the image; by default the version's.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: There is no such version.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        version: Literal[1, 2, 3] = 2,
        scale: Range | None = None,
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        check_choice(self, (1, 2, 3), version=version)
        crop = RandomResizedCrop(size, scale or ((0.08, 1.0) if version == 3 else (0.2, 1.0)))
        flip = RandomHorizontalFlip()
        if version == 1:
            views = [View(crop, RandomGrayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4), flip, normalize)] * 2
        elif version == 2:
            views = [View(crop, Color(0.4, 0.4, 0.4, 0.1), Texture(), flip, normalize)] * 2
        else:
            textures = Texture(1.0), Texture(0.1, solarize=0.2)
            views = [View(crop, Color(0.4, 0.4, 0.2, 0.1), texture, flip, normalize) for texture in textures]
        super().__init__(views, **options)


class BYOLCollateFunction(BaseCollateFunction):
    """Two views as in BYOL (Grill et al. 2020, arXiv 2006.07733).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first
    view is always blurred, the second is blurred with probability .1 and solarized with .2. The authors normalise
    inside the network.

    Args:
        size: Side of the views, or (height, width), in pixels.
        convention: "tensorflow" uses the jitter of the authors' code and a blur that sees zeros around the view; only
            the reference engine renders them. "torchvision" is what reimplementations in PyTorch use.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: Size = 224,
        *,
        convention: Convention = "torchvision",
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(_byol(size, normalize, convention), **options)


class SimSiamCollateFunction(BaseCollateFunction):
    """Two views as in SimSiam (Chen and He 2020, arXiv 2011.10566), which are those of MoCo v2.

    Bilinear crop of .2 to 1 of the image, jitter (.4, .4, .4, .1) with probability .8, grayscale .2, blur .5, flip.

    Args:
        size: Side of the views, or (height, width), in pixels.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Unpack[Options]
    ) -> None:
        crop, flip = RandomResizedCrop(size, (0.2, 1.0)), RandomHorizontalFlip()
        super().__init__([View(crop, Color(0.4, 0.4, 0.4, 0.1), Texture(), flip, normalize)] * 2, **options)


class BarlowTwinsCollateFunction(BaseCollateFunction):
    """Two views as in Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230).

    Bicubic crop of .08 to 1 of the image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first
    view is always blurred, the second is blurred with probability .1 and solarized with .2.

    Args:
        size: Side of the views, or (height, width), in pixels.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Unpack[Options]
    ) -> None:
        super().__init__(_byol(size, normalize), **options)


class NNCLRCollateFunction(BaseCollateFunction):
    """Two views for NNCLR (Dwibedi et al. 2021, arXiv 2104.14548), which are those of BYOL.

    The authors published no code. These are the views that an independent implementation trains with; that the text of
    the paper names SimCLR's views (`SimCLRCollateFunction`) is recalled and was not verified. Bicubic crop of .08 to 1
    of the image, flip, jitter (.4, .4, .2, .1) with probability .8, grayscale .2; the first view is always blurred, the
    second is blurred with probability .1 and solarized with .2.

    Args:
        size: Side of the views, or (height, width), in pixels.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self, size: Size = 224, *, normalize: Normalize | None = Normalize(), **options: Unpack[Options]
    ) -> None:
        super().__init__(_byol(size, normalize), **options)


class SwaVCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in SwAV (Caron et al. 2020, arXiv 2006.09882), the large ones first.

    Bilinear crops of .14 to 1 of the image and of .05 to .14, flip, jitter (.8, .8, .8, .2) with probability .8,
    grayscale .2, blur .5. Without small views the authors crop .08 to 1. Their standard deviation is
    (.228, .224, .225), a slip in the first number: `normalize=Normalize(std=(0.228, 0.224, 0.225))` reproduces it.

    Args:
        size: Side of the large views, or (height, width), in pixels.
        local_size: Side of the small views, or (height, width), in pixels.
        local_views: Number of small views.
        scale: Area of the crop of a large view as a share of the image.
        local_scale: Area of the crop of a small view as a share of the image.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is not an integer, or is below 0.
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
        **options: Unpack[Options],
    ) -> None:
        check_integer(self, least=0, local_views=local_views)
        rest = Color(0.8, 0.8, 0.8, 0.2), Texture(), normalize
        large, small = View(Shape(size, scale), *rest), View(Shape(local_size, local_scale), *rest)
        super().__init__([large] * 2 + [small] * local_views, **options)


class DINOCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in DINO (Caron et al. 2021, arXiv 2104.14294), the large ones first.

    Bicubic crops of .4 to 1 of the image and of .05 to .4 (for ResNet-50 .14 to 1 and .05 to .14), flip, jitter
    (.4, .4, .2, .1) with probability .8, grayscale .2; the first large view is always blurred, the second is blurred
    with probability .1 and solarized with .2, the small views are blurred with probability .5. Without small views the
    authors recommend `scale=(0.14, 1.0)`.

    Args:
        size: Side of the large views, or (height, width), in pixels.
        local_size: Side of the small views, or (height, width), in pixels.
        local_views: Number of small views.
        scale: Area of the crop of a large view as a share of the image.
        local_scale: Area of the crop of a small view as a share of the image.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is not an integer, or is below 0.
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
        **options: Unpack[Options],
    ) -> None:
        check_integer(self, least=0, local_views=local_views)
        large = Shape(size, scale, interpolation="bicubic")
        small = Shape(local_size, local_scale, interpolation="bicubic")
        color = Color(0.4, 0.4, 0.2, 0.1)
        views = [View(large, color, texture, normalize) for texture in (Texture(1.0), Texture(0.1, solarize=0.2))]
        views += [View(small, color, Texture(0.5), normalize)] * local_views
        super().__init__(views, **options)


class PIRLCollateFunction(BaseCollateFunction):
    """The image and its jigsaw as in PIRL (Misra and van der Maaten 2019, arXiv 1912.01991): 1 + grid**2 views.

    View 0 crops .08 to 1 of the image. The patches come from another crop, of .6 to 1, which is cut into 3 x 3 cells;
    each patch is anywhere in its cell (the authors' code never takes the last row and column of places), and the cells
    are in random order. Then, independently for each view, what the recipe says.

    Recipe "paper": always jitter (.4, .4, .4, .2), grayscale .2, flip. After the jitter the authors' code has a
    photometric step, which is left out here: with probability .66 it does four things one after the other, posterize to
    4 to 8 bits, change the sharpness by a factor of .1 to 1.9, solarize at any threshold, and stretch the contrast. The
    example adds it; Kornia draws 4 and 8 bits half as often as the others, and makes a constant channel black.

    Recipe "blur", of the authors' later models with MLP heads: flip, jitter (.8, .8, .8, .2) with probability .8,
    grayscale .2, blur .5.

    Args:
        size: Side of the view of the image, or (height, width), in pixels.
        patch: Side of the patches, or (height, width), in pixels.
        jigsaw: Side of the crop that the patches are cut from, or (height, width), in pixels.
        grid: Cells along either side.
        recipe: "paper" or "blur".
        photometric: A further operation or Kornia module after the jitter.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: A patch is larger than a cell, or there is no such recipe.

    Example:
        >>> import kornia.augmentation as K
        >>> import torch
        >>> class Photometric(K.ImageSequential):
        ...     def forward(self, images):
        ...         chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.66
        ...         return torch.where(chosen, super().forward(images), images)
        >>> photometric = Photometric(
        ...     K.RandomPosterize((4.0, 8.0), p=1.0),
        ...     K.RandomSharpness((0.1, 1.9), p=1.0),
        ...     K.RandomSolarize((0.0, 1.0), (0.0, 0.0), p=1.0),
        ...     K.RandomAutoContrast(p=1.0),
        ... )
        >>> collate = PIRLCollateFunction(photometric=photometric)
    """

    def __init__(
        self,
        size: Size = 224,
        patch: Size = 64,
        jigsaw: Size = 255,
        grid: int = 3,
        *,
        recipe: Literal["paper", "blur"] = "paper",
        photometric: Operation | nn.Module | None = None,
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        check_choice(self, ("paper", "blur"), recipe=recipe)
        source, patches = RandomResizedCrop(jigsaw, (0.6, 1.0)), RandomJigsawPatch(patch, 0, grid)
        assert isinstance(source.size, tuple)
        assert isinstance(patches.size, tuple)
        cell = source.size[0] // grid, source.size[1] // grid
        if patches.size[0] > cell[0] or patches.size[1] > cell[1]:
            raise ValueError(
                f"{type(self).__name__}: patch must fit into a cell, which is {cell[0]}x{cell[1]} "
                f"(jigsaw {source.size[0]}x{source.size[1]} // grid {grid}), got {patches.size[0]}x{patches.size[1]}"
            )
        flip, gray = RandomHorizontalFlip(), RandomGrayscale(0.2)
        rest: tuple[Item | None, ...]
        if recipe == "paper":
            rest = ColorJitter(0.4, 0.4, 0.4, 0.2), photometric, gray, flip, normalize
        else:
            rest = flip, ColorJitter(0.8, 0.8, 0.8, 0.2, 0.8), photometric, gray, Texture(), normalize
        views = [View(RandomResizedCrop(size), *rest)]
        views += [
            View(Shared("jigsaw", source, RandomJigsawPatch(patch, number, grid)), *rest) for number in range(grid**2)
        ]
        super().__init__(views, **options)


class PAWSCollateFunction(BaseCollateFunction):
    """Two large views and some small ones as in PAWS (Assran et al. 2021, arXiv 2104.13963), the large ones first.

    ImageNet: SwAV's views, with bilinear crops of .14 to 1 of the image and of .05 to .14, flip, jitter
    (.8, .8, .8, .2) with probability .8, grayscale .2, blur .5. CIFAR: crops of .75 to 1 and of .3 to .75, flip, jitter
    (.4, .4, .4, .1) with probability .8, solarize .2 with a threshold drawn from (0, 1), equalize .2 (which the
    reference engine does). Without small views, crops of .08 to 1, for CIFAR of .5 to 1.

    Args:
        size: Side of the large views, or (height, width), in pixels; by default 224, for CIFAR 32.
        local_size: Side of the small views, or (height, width), in pixels; by default 96, for CIFAR 18.
        local_views: Number of small views.
        recipe: "imagenet" or "cifar".
        scale: Area of the crop of a large view as a share of the image; by default the recipe's.
        local_scale: Area of the crop of a small view as a share of the image; by default the recipe's.
        normalize: The normalisation, by default that of ImageNet or CIFAR-10; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: `local_views` is not an integer, or is below 0; or there is no such recipe.
    """

    def __init__(
        self,
        size: Size | None = None,
        local_size: Size | None = None,
        local_views: int = 6,
        *,
        recipe: Literal["imagenet", "cifar"] = "imagenet",
        scale: Range | None = None,
        local_scale: Range | None = None,
        normalize: Normalize | Literal["recipe"] | None = "recipe",
        **options: Unpack[Options],
    ) -> None:
        check_choice(self, ("imagenet", "cifar"), recipe=recipe)
        check_integer(self, least=0, local_views=local_views)
        rest: tuple[Item, ...]
        if recipe == "imagenet":
            sizes, scales, alone, norm = (224, 96), ((0.14, 1.0), (0.05, 0.14)), (0.08, 1.0), Normalize()
            rest = Color(0.8, 0.8, 0.8, 0.2), Texture()
        else:
            sizes, scales, alone, norm = (32, 18), ((0.75, 1.0), (0.3, 0.75)), (0.5, 1.0), _CIFAR
            rest = Color(0.4, 0.4, 0.4, 0.1, grayscale=0), RandomSolarize((0.0, 1.0), 0.2), RandomEqualize(0.2)
        scale = scale or (scales[0] if local_views else alone)
        end = norm if normalize == "recipe" else normalize
        large = View(Shape(sizes[0] if size is None else size, scale), *rest, end)
        small = View(Shape(sizes[1] if local_size is None else local_size, local_scale or scales[1]), *rest, end)
        super().__init__([large] * 2 + [small] * local_views, **options)


class AMDIMCollateFunction(BaseCollateFunction):
    """Two views as in AMDIM (Bachman et al. 2019, arXiv 1906.00910).

    Both views share one flip. Then, independently for each view: a bicubic crop of .3 to 1 of the image with a ratio of
    .7 to 1.4, jitter (.4, .4, .4, .1) with probability .8, grayscale .25. This is the paper's recipe for ImageNet at
    128 pixels. Its recipes for CIFAR (a translation with reflected borders in place of the crop) and for STL-10 (64
    pixels), both with a hue of .2 and with their own means and deviations, are not here.

    Args:
        size: Side of the views, or (height, width), in pixels.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self, size: Size = 128, *, normalize: Normalize | None = Normalize(), **options: Unpack[Options]
    ) -> None:
        crop = RandomResizedCrop(size, (0.3, 1.0), (0.7, 1.4), "bicubic")
        color = Color(0.4, 0.4, 0.4, 0.1, grayscale=0.25)
        super().__init__([View(Shared("flip", RandomHorizontalFlip()), crop, color, normalize)] * 2, **options)


class CPCCollateFunction(BaseCollateFunction):
    """Overlapping patches as in CPC 2 (Hénaff et al. 2019, arXiv 1905.09272): grid**2 views, row by row from the top.

    All patches are cut from one crop of the image. Then, independently for each patch: flip .5, jitter
    (.4, .4, .4, .1) with probability .8, grayscale .25. These numbers are AMDIM's, which an independent implementation
    of CPC takes, too. The paper's two primitives of AutoAugment, its elastic deformation, its shear and its change of
    the colour histogram are left out. The scale of the crop is our choice: patches of a smaller part of the image are
    hard to distinguish.

    Args:
        size: Side of the crop in pixels: one patch plus a whole number of strides.
        patch: Side of the patches in pixels.
        stride: Distance from one patch to the next in pixels.
        scale: Area of the crop as a share of the image.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Attributes:
        grid: Patches along either side, (size - patch) // stride + 1.

    Raises:
        ValueError: The patches do not fit the size, or one of the three is not an integer >= 1.
    """

    def __init__(
        self,
        size: int = 256,
        patch: int = 64,
        stride: int = 32,
        *,
        scale: Range = (0.3, 1.0),
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        check_integer(self, least=1, size=size, patch=patch, stride=stride)
        if patch > size or (size - patch) % stride:
            raise ValueError(
                f"{type(self).__name__}: size must be the patch plus a whole number of strides, got size {size}, "
                f"patch {patch}, stride {stride}"
            )
        crop, flip = Shared("crop", RandomResizedCrop(size, scale)), RandomHorizontalFlip()
        color = Color(0.4, 0.4, 0.4, 0.1, grayscale=0.25)
        places = range(0, size - patch + 1, stride)
        views = [View(crop, Crop(patch, top, left), flip, color, normalize) for top in places for left in places]
        super().__init__(views, **options)
        self.grid = len(places)


class LooCCollateFunction(BaseCollateFunction):
    """The query and its keys as in LooC (Xiao et al. 2020, arXiv 2008.05659): for n groups n + 2 views, q, k_0 … k_n.

    Each group of augmentations is an invariance that one head of the network does not learn. In key k_i, with i from 1
    to n, group i uses the same random numbers as in the query, and all other groups are independent; in k_0 all groups
    are independent. The default crop, .08 to 1 of the image, is ours: the authors published no code, and MoCo, on which
    the paper builds, crops .2 to 1. In the paper the groups are rotation, colour and texture; every view begins with
    crop and flip::

        rotation, crop = RandomRotation90(1.0), Shape(224)
        LooCCollateFunction(groups={"rotation": rotation, "color": Color()}, base=crop)

    Args:
        size: Side of the views, or (height, width), in pixels; unused if `groups` is given.
        groups: The groups by name, each one item of a `View` or several, in the order in which they are applied. By
            default Shape(size), Color() and Texture(), with the names shape, color and texture.
        base: One item or several that all views begin with, independently of each other.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.

    Raises:
        ValueError: There are no groups, or one has no items.
    """

    def __init__(
        self,
        size: Size = 224,
        groups: Mapping[str, Item | Iterable[Item]] | None = None,
        base: Item | Iterable[Item] = (),
        *,
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        if groups is None:
            groups = {"shape": Shape(size), "color": Color(), "texture": Texture()}
        if not groups:
            raise ValueError(f"{type(self).__name__}: groups is empty, at least one is needed")
        items = {name: _items(group) for name, group in groups.items()}
        empty = [name for name, group in items.items() if not group]
        if empty:
            names = ", ".join(map(repr, empty))
            raise ValueError(f"{type(self).__name__}: groups must have items each, got none in {names}")
        first = _items(base)

        def view(*shared: str) -> View:
            rest: list[Item | Shared] = []
            for name, group in items.items():
                rest += [Shared(name, *group)] if name in shared else group
            return View(*first, *rest, normalize)

        super().__init__([view(*items), view(), *(view(name) for name in items)], **options)


class ImageCollateFunction(BaseCollateFunction):
    """Views that differ in shape, colour and texture, with every range and probability as an argument.

    Args:
        size: Side of the views, or (height, width), in pixels.
        views: Number of views, all with the same ranges.
        scale: Area of the crop as a share of the image.
        ratio: Aspect ratio of the crop.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        rot90: Probability of a random number of quarter turns.
        degrees: Range of a free rotation in degrees, 0 for none.
        brightness: Range of the factor; one number b means (max(0, 1 - b), 1 + b).
        contrast: Range of the factor, in the same form.
        saturation: Range of the factor, in the same form.
        hue: Range of the shift in turns; one number h means (-h, h).
        jitter: Probability that these four change.
        grayscale: Probability of dropping the colours.
        blur: Probability of a Gaussian blur.
        sigma: Range of the standard deviation of the blur, in pixels of the view.
        solarize: Probability of a solarization.
        interpolation: "bilinear" or "bicubic".
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
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
        **options: Unpack[Options],
    ) -> None:
        view = View(
            Shape(size, scale, ratio, hflip, vflip, rot90, degrees, interpolation),
            Color(brightness, contrast, saturation, hue, jitter, grayscale),
            Texture(blur, sigma, solarize),
            normalize,
        )
        super().__init__([view] * views, **options)


class ShapeCollateFunction(BaseCollateFunction):
    """Two views that differ only in shape: crop, flips, rotations. The network can still use colour and texture.

    Args:
        size: Side of the views, or (height, width), in pixels.
        scale: Area of the crop as a share of the image.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        rot90: Probability of a random number of quarter turns.
        degrees: Range of a free rotation in degrees, 0 for none.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
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
        **options: Unpack[Options],
    ) -> None:
        shape = Shape(size, scale, hflip=hflip, vflip=vflip, rot90=rot90, degrees=degrees)
        super().__init__([View(shape, normalize)] * 2, **options)


class TextureCollateFunction(BaseCollateFunction):
    """Two views that differ only in texture: blur, solarize. Both show the centre of the image.

    Args:
        size: Side of the views in pixels.
        blur: Probability of a Gaussian blur.
        sigma: Range of the standard deviation of the blur, in pixels of the view.
        solarize: Probability of a solarization.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        blur: float = 0.5,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarize: float = 0.2,
        normalize: Normalize | None = Normalize(),
        **options: Unpack[Options],
    ) -> None:
        view = View(Resize(size), CenterCrop(size), Texture(blur, sigma, solarize), normalize)
        super().__init__([view] * 2, **options)


class ColorCollateFunction(BaseCollateFunction):
    """Two views that differ only in light and colour: jitter, grayscale. Both show the centre of the image.

    Args:
        size: Side of the views in pixels.
        brightness: Range of the factor; one number b means (max(0, 1 - b), 1 + b).
        contrast: Range of the factor, in the same form.
        saturation: Range of the factor, in the same form.
        hue: Range of the shift in turns; one number h means (-h, h).
        jitter: Probability that these four change.
        grayscale: Probability of dropping the colours.
        normalize: The normalisation; None leaves values in [0, 1].
        **options: As in `BaseCollateFunction`.
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
        **options: Unpack[Options],
    ) -> None:
        color = Color(brightness, contrast, saturation, hue, jitter, grayscale)
        super().__init__([View(Resize(size), CenterCrop(size), color, normalize)] * 2, **options)


def _byol(size: Size, normalize: Normalize | None, convention: Convention = "torchvision") -> list[View]:
    """Build the two views of BYOL, which other methods use, too."""
    shape = Shape(size, interpolation="bicubic")
    color = Color(0.4, 0.4, 0.2, 0.1, convention=convention)
    border = _border(convention)
    textures = Texture(1.0, border=border), Texture(0.1, solarize=0.2, border=border)
    return [View(shape, color, texture, normalize) for texture in textures]


def _border(convention: Convention) -> Literal["reflect", "zeros"]:
    return "zeros" if convention == "tensorflow" else "reflect"


def _items(items: Item | Iterable[Item]) -> list[Item]:
    # a sequence of Kornia is one item, although it can be iterated
    return list(items) if isinstance(items, Iterable) and not isinstance(items, nn.Module) else [items]
