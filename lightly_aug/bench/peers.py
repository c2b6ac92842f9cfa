"""This library and its rivals: the views of a `ViewSpec` built with each of them.

Every rival gets the images in the form that it takes best; the conversions that it needs are part of its time.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any, Final

import kornia.augmentation as K
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from lightly_aug.bench.timing import Contender
from lightly_aug.bench.workloads import MEAN, SIGMA, STD, WORKLOADS, ViewSpec, build_view
from lightly_aug.collate import MultiViewCollateFunction
from lightly_aug.engines import load

__all__ = ["albumentations_view", "batch_transform", "contenders", "dali_view"]

Images = Sequence[Image.Image]
Specs = Sequence[ViewSpec]
Run = Callable[[], list[Tensor]]


def contenders(
    images: Sequence[Image.Image], specs: Sequence[ViewSpec] = WORKLOADS["simclr"], *, only: Sequence[str] = ()
) -> tuple[list[Contender], dict[str, str]]:
    """Prepare everything that can make these views on this machine, ours first.

    Args:
        images: A batch of images of one size.
        specs: The views.
        only: Names of the contenders to prepare; by default all.

    Returns:
        The contenders, and for those that cannot be measured, by name, the reason.
    """
    found, skipped = [], {}
    for name, (make, remarks) in _MAKERS.items():
        if only and name not in only:
            continue
        try:
            found.append(Contender(name, make(images, specs), len(images), remarks))
        except ImportError as error:
            skipped[name] = str(error).splitlines()[0]
    return found, skipped


def batch_transform(
    library: str, spec: ViewSpec, device: torch.device | str = "cpu", order: Sequence[int] | None = None
) -> Callable[[Tensor], Tensor]:
    """Build one view of a batch `(n, 3, h, w)` with a library that works on batches.

    Args:
        library: "kornia", "torchtransform" or "torchvision", which draws once for the whole batch; all but
            torchvision take values in [0, 1].
        spec: The view.
        device: Where it runs.
        order: `order` of Kornia's jitter; `torch.compile` needs a fixed one.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    if library == "torchvision":
        return _compose(_torchvision(spec))
    return (_kornia(spec, order) if library == "kornia" else _torchtransform(spec)).to(device)


def _kernel(spec: ViewSpec) -> int:
    """The size of a blur's kernel: a tenth of the view's side as in SimCLR's paper, odd."""
    return spec.size // 20 * 2 + 1


def _arrays(images: Images) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(image) for image in images]


def _tensors(images: Images) -> list[Tensor]:
    """Tensors `(3, h, w)` that are channels-last in memory, which torchvision resizes fastest."""
    return [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in _arrays(images)]


def _one_by_one(samples: Sequence[Any], transforms: Sequence[Callable[[Any], Tensor]]) -> Run:
    return lambda: [torch.stack([transform(sample) for sample in samples]) for transform in transforms]


def _at_once(images: Images, transforms: Sequence[Callable[[Tensor], Tensor]], *, unit: bool) -> Run:
    """Apply transforms to the whole batch, converted to floats in [0, 1] if `unit`."""
    batch = torch.stack(_tensors(images))

    def run() -> list[Tensor]:
        x = batch.float().div_(255) if unit else batch
        return [transform(x) for transform in transforms]

    return run


def _make_ours(images: Images, specs: Specs, engine: str) -> Run:
    load(engine)
    collate = MultiViewCollateFunction([build_view(spec) for spec in specs], seed=0, render="worker", engine=engine)
    arrays = _arrays(images)
    return lambda: list(collate(arrays))


def _make_lightly(images: Images, specs: Specs) -> Run:
    simclr, dino = map(import_module, ("lightly.transforms.simclr_transform", "lightly.transforms.dino_transform"))

    def build(spec: ViewSpec) -> Callable[[Image.Image], Tensor]:
        jitter = dict(zip(("cj_bright", "cj_contrast", "cj_sat", "cj_hue"), spec.jitter, strict=True))
        how = {"cj_strength": 1.0, **jitter, "gaussian_blur": spec.blur, "sigmas": SIGMA}
        made: Callable[[Image.Image], Tensor]
        if spec.scale[1] == 1 and not spec.solarize:  # as in SimCLRTransform
            made = simclr.SimCLRViewTransform(input_size=spec.size, min_scale=spec.scale[0], **how)
        else:  # as in DINOTransform
            made = dino.DINOViewTransform(spec.size, spec.scale, solarization_prob=spec.solarize, **how)
        return made

    return _one_by_one(images, [build(spec) for spec in specs])


def _torchvision(spec: ViewSpec, kernel: int = 0) -> list[nn.Module]:
    blur, jitter = v2.GaussianBlur(kernel or _kernel(spec), SIGMA), v2.ColorJitter(*spec.jitter)
    return [
        v2.RandomResizedCrop(spec.size, spec.scale, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([blur], p=spec.blur),
        *([v2.RandomSolarize(128, p=spec.solarize)] if spec.solarize else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]


def _compose(steps: Sequence[nn.Module]) -> Callable[[Any], Tensor]:
    made: Callable[[Any], Tensor] = v2.Compose(steps)
    return made


def _make_torchvision(images: Images, specs: Specs, *, kernel: int = 0) -> Run:
    return _one_by_one(_tensors(images), [_compose(_torchvision(spec, kernel)) for spec in specs])


def _make_torchvision_pil(images: Images, specs: Specs) -> Run:
    made = [_torchvision(spec) for spec in specs]
    last = -2  # ToDtype, which takes only tensors
    return _one_by_one(images, [_compose([*steps[:last], v2.ToImage(), *steps[last:]]) for steps in made])


def _make_torchvision_batch(images: Images, specs: Specs) -> Run:
    return _at_once(images, [batch_transform("torchvision", spec) for spec in specs], unit=False)


def _kornia(spec: ViewSpec, order: Sequence[int] | None) -> nn.Module:
    return nn.Sequential(
        K.RandomResizedCrop((spec.size, spec.size), spec.scale, align_corners=False, cropping_mode="slice"),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*spec.jitter, p=0.8, order=order),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((_kernel(spec), _kernel(spec)), SIGMA, p=spec.blur),
        *([K.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=spec.solarize)] if spec.solarize else []),
        K.Normalize(MEAN, STD),
    )


def _torchtransform(spec: ViewSpec) -> nn.Module:
    tt = import_module("torchtransform")
    made: nn.Module = tt.Compose(
        tt.RandomResizedCrop(spec.size, spec.scale),
        tt.HorizontalFlip(0.5),
        tt.ColorJitter(*spec.jitter, p=0.8),
        tt.Grayscale(0.2),
        tt.GaussianBlur(SIGMA, p=spec.blur),
        *([tt.Solarize(0.5, p=spec.solarize)] if spec.solarize else []),
        tt.Normalize(MEAN, STD),
    )
    return made


def _make_batched(images: Images, specs: Specs, *, library: str) -> Run:
    return _at_once(images, [batch_transform(library, spec) for spec in specs], unit=True)


def albumentations_view(spec: ViewSpec) -> Callable[[npt.NDArray[np.uint8]], Tensor]:
    """Build one view of an array `(h, w, 3)` with Albumentations or AlbumentationsX.

    Args:
        spec: The view.

    Raises:
        ModuleNotFoundError: Neither is installed.
    """
    os.environ |= {
        "ALBUMENTATIONS_NO_TELEMETRY": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }  # albumentations reads them when it is imported
    A = import_module("albumentations")
    import_module("cv2").setNumThreads(0)
    *three, hue = spec.jitter
    ranges = [(max(0.0, 1 - value), 1 + value) for value in three]
    steps = [
        A.RandomResizedCrop((spec.size, spec.size), spec.scale),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(*ranges, (-hue, hue), p=0.8),
        A.ToGray(p=0.2),
        A.GaussianBlur((0, 0), SIGMA, p=spec.blur),
        *([A.Solarize((0.5, 0.5), p=spec.solarize)] if spec.solarize else []),
        A.Normalize(),
        A.ToTensorV2(),
    ]
    quiet = {"telemetry": False} if "telemetry" in signature(A.Compose).parameters else {}  # of AlbumentationsX
    compose: Callable[..., dict[str, Tensor]] = A.Compose(steps, **quiet)
    return lambda array: compose(image=array)["image"]


def _make_albumentations(images: Images, specs: Specs) -> Run:
    return _one_by_one(_arrays(images), [albumentations_view(spec) for spec in specs])


def _make_dali(images: Images, specs: Specs) -> Run:
    dali = import_module("nvidia.dali")
    arrays = _arrays(images)
    how = {"batch_size": len(arrays), "num_threads": 1, "device_id": None, "prefetch_queue_depth": 1}

    def views() -> tuple[Any, ...]:
        source = dali.fn.external_source(source=lambda: arrays, layout="HWC", dtype=dali.types.UINT8)
        return tuple(dali_view(dali, spec, source) for spec in specs)

    definition = dali.pipeline_def(**how, enable_conditionals=True, exec_pipelined=False, exec_async=False)
    pipeline = definition(views)()
    return lambda: [torch.from_numpy(np.array(out.as_array())) for out in pipeline.run()]


def dali_view(dali: Any, spec: ViewSpec, image: Any, dtype: str = "FLOAT") -> Any:
    """Build one view with DALI; to be called in a pipeline definition with conditionals.

    Args:
        dali: The module `nvidia.dali`.
        spec: The view.
        image: A node of the pipeline, uint8 `(h, w, 3)`.
        dtype: Name of the dtype of the result in `nvidia.dali.types`.
    """
    fn, types, flip, between = dali.fn, dali.types, dali.fn.random.coin_flip, dali.fn.random.uniform
    size, scale = (spec.size, spec.size), spec.scale
    x = fn.random_resized_crop(image, size=size, random_area=scale, random_aspect_ratio=(3 / 4, 4 / 3), antialias=True)
    if flip(probability=0.8, dtype=types.BOOL):
        (b, c, s), hue = ((max(0.0, 1 - v), 1 + v) for v in spec.jitter[:3]), 360 * spec.jitter[3]
        x = fn.color_twist(
            x,
            brightness=between(range=b),
            contrast=between(range=c),
            saturation=between(range=s),
            hue=between(range=(-hue, hue)),
        )
    if flip(probability=0.2, dtype=types.BOOL):
        x = fn.saturation(x, saturation=0.0)
    if flip(probability=spec.blur, dtype=types.BOOL):
        x = fn.gaussian_blur(x, sigma=between(range=SIGMA))
    if flip(probability=spec.solarize, dtype=types.BOOL):
        bright = fn.cast(x >= 128, dtype=types.UINT8)
        x = fn.cast(bright * (255 - x) + (1 - bright) * x, dtype=types.UINT8)
    mean, std = ([255 * v for v in numbers] for numbers in (MEAN, STD))
    mirror = flip(probability=0.5)
    return fn.crop_mirror_normalize(
        x, mirror=mirror, mean=mean, std=std, output_layout="CHW", dtype=getattr(types, dtype)
    )


_MAKERS: Final[dict[str, tuple[Callable[[Images, Specs], Run], str]]] = {
    "lightly_aug": (partial(_make_ours, engine="cpu"), ""),
    "lightly_aug, reference engine": (partial(_make_ours, engine="reference"), ""),
    "lightly": (_make_lightly, "Pillow's blur"),
    "torchvision v2": (_make_torchvision, "blur kernel a tenth of the view"),
    "torchvision v2, blur kernel 9": (partial(_make_torchvision, kernel=9), "blur cut off at 2 sigma"),
    "torchvision v2, PIL": (_make_torchvision_pil, "blur kernel a tenth of the view"),
    "torchvision v2, whole batch": (_make_torchvision_batch, "one draw a batch"),
    "kornia": (partial(_make_batched, library="kornia"), "no antialias, one order of the jitter a batch"),
    "torchtransform": (partial(_make_batched, library="torchtransform"), "approximate colour, coarse antialias"),
    "albumentations": (_make_albumentations, "no antialias, colour in 8 bits"),
    "dali": (_make_dali, "approximate colour"),
}
