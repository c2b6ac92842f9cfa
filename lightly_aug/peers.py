"""The work that the benchmarks measure, and everyone who can do it: ours, and the peers that are installed.

A batch of 8-bit photographs becomes stacked, normalised float32 views. Every peer gets the images in the form that it
takes best; the conversions that it needs are in its time.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple

import kornia.augmentation as K
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms import v2  # type: ignore[import-untyped]

from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.engines import load
from lightly_aug.invariances import Color, Shape, Texture
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra
from lightly_aug.view import View

__all__ = ["WORKLOADS", "Contender", "Crop", "contenders", "dali_view", "eager", "photographs", "view"]

Images = Sequence[Image.Image]
Crops = Sequence["Crop"]
Run = Callable[[], list[Tensor]]

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
SIGMA: Final = (0.1, 2.0)


class Crop(NamedTuple):
    """One view: a random resized crop, a flip, jitter with probability .8, grayscale .2, blur, solarize.

    Attributes:
        size: its side in pixels.
        scale: area of the crop as a share of the image.
        jitter: brightness, contrast, saturation, hue.
        blur: probability of a blur with a sigma of .1 to 2.
        solarize: probability of a solarization.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    blur: float = 0.5
    solarize: float = 0.0


_WEAK: Final = (0.4, 0.4, 0.2, 0.1)

WORKLOADS: Final = {
    "simclr": (Crop(),) * 2,
    "dino": (
        Crop(224, (0.4, 1.0), _WEAK, blur=1.0),
        Crop(224, (0.4, 1.0), _WEAK, blur=0.1, solarize=0.2),
        *(Crop(96, (0.05, 0.4), _WEAK),) * 8,
    ),
    "swav": (Crop(224, (0.14, 1.0)),) * 2 + (Crop(96, (0.05, 0.14)),) * 6,
}
"""The views of each method."""


class Contender(NamedTuple):
    """Something to measure.

    Attributes:
        name: what it is called in the tables.
        run: makes the views of one batch.
        images: how many images the batch has.
        remarks: in what its work differs.
    """

    name: str
    run: Callable[[], object]
    images: int
    remarks: str = ""


def photographs(count: int = 32, side: int = 256) -> list[Image.Image]:
    """Four photographs that scikit-image ships, cut square and resized, over and over."""
    with extra("demo"):
        data = import_module("skimage.data")
    whole = [Image.fromarray(photo()[..., :3]) for photo in (data.astronaut, data.coffee, data.chelsea, data.rocket)]
    fitted = [ImageOps.fit(photo, (side, side), Image.Resampling.BICUBIC) for photo in whole]
    return [fitted[i % len(fitted)] for i in range(count)]


def contenders(
    images: Sequence[Image.Image], crops: Sequence[Crop] = WORKLOADS["simclr"], *, only: Sequence[str] = ()
) -> tuple[list[Contender], dict[str, str]]:
    """Everything that can make these views here, ours first.

    Args:
        images: a batch of one size.
        crops: the views.
        only: names; all others are left out.

    Returns:
        What can be measured, and for the rest, by name, why it cannot.
    """
    found, skipped = [], {}
    for name, (make, remarks) in _MAKERS.items():
        if only and name not in only:
            continue
        try:
            found.append(Contender(name, make(images, crops), len(images), remarks))
        except ImportError as error:
            skipped[name] = str(error).splitlines()[0]
    return found, skipped


def view(crop: Crop, dtype: torch.dtype = torch.float32) -> View:
    """One view in our words."""
    texture = Texture(crop.blur, SIGMA, crop.solarize)
    return View(Shape(crop.size, crop.scale), Color(*crop.jitter), texture, Normalize(), dtype=dtype)


def eager(
    library: str, crop: Crop, device: torch.device | str = "cpu", order: Sequence[int] | None = None
) -> Callable[[Tensor], Tensor]:
    """One view of a batch (n, 3, h, w) in the words of a library that works on batches.

    Args:
        library: "kornia", "torchtransform" or "torchvision", which draws once for the whole batch; all but
            torchvision want values in [0, 1].
        crop: the view.
        device: where it runs.
        order: of Kornia's jitter, as its `order`; a fixed one is what `torch.compile` can deal with.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    if library == "torchvision":
        return _composed(_torchvision(crop))
    return (_kornia(crop, order) if library == "kornia" else _torchtransform(crop)).to(device)


def _kernel(crop: Crop) -> int:
    """As in SimCLR's paper a tenth of the view's side, odd."""
    return crop.size // 20 * 2 + 1


def _arrays(images: Images) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(image) for image in images]


def _tensors(images: Images) -> list[Tensor]:
    """(3, h, w) each, channels last in memory, from where torchvision resizes fastest."""
    return [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in _arrays(images)]


def _one_by_one(samples: Sequence[Any], transforms: Sequence[Callable[[Any], Tensor]]) -> Run:
    return lambda: [torch.stack([transform(sample) for sample in samples]) for transform in transforms]


def _at_once(images: Images, transforms: Sequence[Callable[[Tensor], Tensor]], *, unit: bool) -> Run:
    batch = torch.stack(_tensors(images))

    def run() -> list[Tensor]:
        x = batch.float().div_(255) if unit else batch
        return [transform(x) for transform in transforms]

    return run


def _ours(images: Images, crops: Crops, engine: str) -> Run:
    load(engine)
    collate = MultiViewCollateFunction([view(crop) for crop in crops], seed=0, render="worker", engine=engine)
    arrays = _arrays(images)
    return lambda: list(collate(arrays))


def _make_lightly(images: Images, crops: Crops) -> Run:
    simclr, dino = map(import_module, ("lightly.transforms.simclr_transform", "lightly.transforms.dino_transform"))

    def one(crop: Crop) -> Callable[[Image.Image], Tensor]:
        jitter = dict(zip(("cj_bright", "cj_contrast", "cj_sat", "cj_hue"), crop.jitter, strict=True))
        how = {"cj_strength": 1.0, **jitter, "gaussian_blur": crop.blur, "sigmas": SIGMA}
        made: Callable[[Image.Image], Tensor]
        if crop.scale[1] == 1 and not crop.solarize:  # what SimCLRTransform is made of
            made = simclr.SimCLRViewTransform(input_size=crop.size, min_scale=crop.scale[0], **how)
        else:  # what DINOTransform is made of
            made = dino.DINOViewTransform(crop.size, crop.scale, solarization_prob=crop.solarize, **how)
        return made

    return _one_by_one(images, [one(crop) for crop in crops])


def _torchvision(crop: Crop, kernel: int = 0) -> list[nn.Module]:
    blur, jitter = v2.GaussianBlur(kernel or _kernel(crop), SIGMA), v2.ColorJitter(*crop.jitter)
    return [
        v2.RandomResizedCrop(crop.size, crop.scale, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([blur], p=crop.blur),
        *([v2.RandomSolarize(128, p=crop.solarize)] if crop.solarize else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]


def _composed(steps: Sequence[nn.Module]) -> Callable[[Any], Tensor]:
    made: Callable[[Any], Tensor] = v2.Compose(steps)
    return made


def _make_torchvision(images: Images, crops: Crops, *, kernel: int = 0) -> Run:
    return _one_by_one(_tensors(images), [_composed(_torchvision(crop, kernel)) for crop in crops])


def _make_torchvision_pil(images: Images, crops: Crops) -> Run:
    made = [_torchvision(crop) for crop in crops]
    last = -2  # ToDtype takes tensors alone
    return _one_by_one(images, [_composed([*steps[:last], v2.ToImage(), *steps[last:]]) for steps in made])


def _make_torchvision_batch(images: Images, crops: Crops) -> Run:
    return _at_once(images, [eager("torchvision", crop) for crop in crops], unit=False)


def _kornia(crop: Crop, order: Sequence[int] | None) -> nn.Module:
    return nn.Sequential(
        K.RandomResizedCrop((crop.size, crop.size), crop.scale, align_corners=False, cropping_mode="slice"),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*crop.jitter, p=0.8, order=order),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((_kernel(crop), _kernel(crop)), SIGMA, p=crop.blur),
        *([K.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=crop.solarize)] if crop.solarize else []),
        K.Normalize(MEAN, STD),
    )


def _torchtransform(crop: Crop) -> nn.Module:
    tt = import_module("torchtransform")
    made: nn.Module = tt.Compose(
        tt.RandomResizedCrop(crop.size, crop.scale),
        tt.HorizontalFlip(0.5),
        tt.ColorJitter(*crop.jitter, p=0.8),
        tt.Grayscale(0.2),
        tt.GaussianBlur(SIGMA, p=crop.blur),
        *([tt.Solarize(0.5, p=crop.solarize)] if crop.solarize else []),
        tt.Normalize(MEAN, STD),
    )
    return made


def _make_eager(images: Images, crops: Crops, *, library: str) -> Run:
    return _at_once(images, [eager(library, crop) for crop in crops], unit=True)


def _make_albumentations(images: Images, crops: Crops) -> Run:
    os.environ |= {"ALBUMENTATIONS_NO_TELEMETRY": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}  # read when it is imported
    A = import_module("albumentations")
    import_module("cv2").setNumThreads(0)

    def one(crop: Crop) -> Callable[[npt.NDArray[np.uint8]], Tensor]:
        *three, hue = crop.jitter
        ranges = [(max(0.0, 1 - value), 1 + value) for value in three]
        steps = [
            A.RandomResizedCrop((crop.size, crop.size), crop.scale),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(*ranges, (-hue, hue), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur((0, 0), SIGMA, p=crop.blur),
            *([A.Solarize((0.5, 0.5), p=crop.solarize)] if crop.solarize else []),
            A.Normalize(),
            A.ToTensorV2(),
        ]
        compose: Callable[..., dict[str, Tensor]] = A.Compose(steps, telemetry=False)
        return lambda array: compose(image=array)["image"]

    return _one_by_one(_arrays(images), [one(crop) for crop in crops])


def _make_dali(images: Images, crops: Crops) -> Run:
    dali = import_module("nvidia.dali")
    arrays = _arrays(images)
    how = {"batch_size": len(arrays), "num_threads": 1, "device_id": None, "prefetch_queue_depth": 1}

    def views() -> tuple[Any, ...]:
        source = dali.fn.external_source(source=lambda: arrays, layout="HWC", dtype=dali.types.UINT8)
        return tuple(dali_view(dali, crop, source) for crop in crops)

    definition = dali.pipeline_def(**how, enable_conditionals=True, exec_pipelined=False, exec_async=False)
    pipeline = definition(views)()
    return lambda: [torch.from_numpy(np.array(out.as_array())) for out in pipeline.run()]


def dali_view(dali: Any, crop: Crop, image: Any, dtype: str = "FLOAT") -> Any:
    """One view in DALI's words; to be called in a pipeline definition with conditionals.

    Args:
        dali: the module `nvidia.dali`.
        crop: the view.
        image: a node of the pipeline, uint8 (h, w, 3).
        dtype: what the result is of, in DALI's words.
    """
    fn, types, flip, between = dali.fn, dali.types, dali.fn.random.coin_flip, dali.fn.random.uniform
    size, scale = (crop.size, crop.size), crop.scale
    x = fn.random_resized_crop(image, size=size, random_area=scale, random_aspect_ratio=(3 / 4, 4 / 3), antialias=True)
    if flip(probability=0.8, dtype=types.BOOL):
        (b, c, s), hue = ((max(0.0, 1 - v), 1 + v) for v in crop.jitter[:3]), 360 * crop.jitter[3]
        x = fn.color_twist(
            x,
            brightness=between(range=b),
            contrast=between(range=c),
            saturation=between(range=s),
            hue=between(range=(-hue, hue)),
        )
    if flip(probability=0.2, dtype=types.BOOL):
        x = fn.saturation(x, saturation=0.0)
    if flip(probability=crop.blur, dtype=types.BOOL):
        x = fn.gaussian_blur(x, sigma=between(range=SIGMA))
    if flip(probability=crop.solarize, dtype=types.BOOL):
        bright = fn.cast(x >= 128, dtype=types.UINT8)
        x = fn.cast(bright * (255 - x) + (1 - bright) * x, dtype=types.UINT8)
    mean, std = ([255 * v for v in numbers] for numbers in (MEAN, STD))
    mirror = flip(probability=0.5)
    return fn.crop_mirror_normalize(
        x, mirror=mirror, mean=mean, std=std, output_layout="CHW", dtype=getattr(types, dtype)
    )


_MAKERS: Final[dict[str, tuple[Callable[[Images, Crops], Run], str]]] = {
    "lightly_aug": (partial(_ours, engine="cpu"), ""),
    "lightly_aug, reference engine": (partial(_ours, engine="reference"), ""),
    "lightly": (_make_lightly, "Pillow's blur"),
    "torchvision v2": (_make_torchvision, "blur kernel a tenth of the view"),
    "torchvision v2, blur kernel 9": (partial(_make_torchvision, kernel=9), "blur cut off at 2 sigma"),
    "torchvision v2, PIL": (_make_torchvision_pil, "blur kernel a tenth of the view"),
    "torchvision v2, whole batch": (_make_torchvision_batch, "one draw a batch"),
    "kornia": (partial(_make_eager, library="kornia"), "no antialias, one order of the jitter a batch"),
    "torchtransform": (partial(_make_eager, library="torchtransform"), "approximate colour, coarse antialias"),
    "albumentationsx": (_make_albumentations, "no antialias, colour in 8 bits"),
    "dali": (_make_dali, "approximate colour"),
}
