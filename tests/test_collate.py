"""Collate functions: the structure of samples and batches, the options, the recipes, and `Views` as an object."""

import copy
import io
import pickle
from collections import UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from helpers.cases import generators, noise, packed, recipes, seeds, sizes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor

from lightly_aug import (
    BaseCollateFunction,
    CenterCrop,
    Color,
    ColorCollateFunction,
    ColorJitter,
    Crop,
    ImageCollateFunction,
    ImageError,
    Indexed,
    MoCoCollateFunction,
    MultiViewCollateFunction,
    Normalize,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomJigsawPatch,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomSolarize,
    RandomVerticalFlip,
    Resize,
    Shape,
    ShapeCollateFunction,
    Shared,
    SimCLRCollateFunction,
    Texture,
    TextureCollateFunction,
    View,
    Views,
)
from lightly_aug.operations import Operation

IMAGES = [noise(9, 11, seed=1), noise(12, 8, seed=2), noise(6, 6, seed=3)]


def collate(samples: list[Any], *items: Any, **options: Any) -> Any:
    return MultiViewCollateFunction([View(*items or (Resize((6, 6)),))] * 2, seed=0, **options)(samples)


# --- samples ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):  # of a sample, and then of a batch: its label is an int, and then a tensor
    label: Any
    image: Any


Anonymous = namedtuple("Anonymous", ["photo", "label"])


@dataclass
class Record:
    label: Any
    image: Any


@dataclass(frozen=True)
class Frozen:
    photo: Any
    name: Any


def views_of(batch: Any) -> Views:
    assert isinstance(batch, Views)
    return batch


def assert_whole(views: Any) -> None:
    expected = collate(IMAGES)
    assert torch.equal(views_of(views)[1], expected[1])


def test_bare_images_become_views() -> None:
    assert_whole(collate(IMAGES))
    assert_whole(collate([Image.fromarray(image) for image in IMAGES]))
    assert_whole(collate([torch.from_numpy(image).permute(2, 0, 1) for image in IMAGES]))


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_tuples_and_lists_of_any_length_become_tuples(kind: type, length: int) -> None:
    batch = collate([kind([image, i, f"name{i}", 0.1, {"box": [1.0, 2.0]}][:length]) for i, image in enumerate(IMAGES)])
    assert type(batch) is tuple
    assert len(batch) == length
    assert_whole(batch[0])
    if length > 1:
        assert torch.equal(batch[1], torch.tensor([0, 1, 2]))
    if length > 2:
        assert list(batch[2]) == ["name0", "name1", "name2"]
    if length > 3:
        assert batch[3].dtype == torch.float64
        assert torch.equal(batch[4]["box"][1], torch.tensor([2.0] * 3, dtype=torch.float64))


def test_the_image_may_be_at_any_place_of_a_tuple() -> None:
    labels, views = collate([(i, image) for i, image in enumerate(IMAGES)], image=1)
    assert labels.tolist() == [0, 1, 2]
    assert_whole(views)


def test_mappings_keep_their_keys_in_order() -> None:
    batch = collate([{"id": f"{i}", "image": image, "y": 0.5} for i, image in enumerate(IMAGES)])
    assert list(batch) == ["id", "image", "y"]
    assert batch["id"] == ["0", "1", "2"]
    assert batch["y"].dtype == torch.float64
    assert_whole(batch["image"])


def test_the_image_of_a_mapping_may_have_any_key() -> None:
    batch = collate([{"pixel_values": image, "image": "not this"} for image in IMAGES], image="pixel_values")
    assert batch["image"] == ["not this"] * 3
    assert_whole(batch["pixel_values"])


@given(
    key=st.sampled_from(["image", "img", "jpg", "jpeg", "png", "webp"]),
    others=st.lists(st.sampled_from(["label", "cls", "__key__", "jpg.txt", "image_id", "IMG"]), unique=True),
    place=st.integers(0, 6),
)
def test_the_usual_keys_of_an_image_are_found(key: str, others: list[str], place: int) -> None:
    keys = [*others[:place], key, *others[place:]]
    batch = collate([{k: image if k == key else i for k in keys} for i, image in enumerate(IMAGES)])
    assert list(batch) == keys
    assert_whole(batch.pop(key))
    assert all(member.tolist() == [0, 1, 2] for member in batch.values())


def test_the_usual_keys_are_for_mappings_only_and_a_place_that_is_given_wins() -> None:
    usual = namedtuple("usual", ["jpg", "img"])
    assert_whole(collate([usual(image, 1) for image in IMAGES]).jpg)
    batch = collate([{"jpg": 1, "img": image, "image": 2} for image in IMAGES], image="img")
    assert batch["jpg"].tolist() == [1] * 3
    assert_whole(batch["img"])


def undecoded(image: Any, path: Path, *, as_bytes: bool, as_path: bool) -> dict[str, Any]:
    """An image of Hugging Face Datasets with `Image(decode=False)`; with both, the path leads nowhere."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    if not as_bytes:
        path.write_bytes(file.getvalue())
    return {"bytes": file.getvalue() if as_bytes else None, "path": str(path) if as_path else None}


@pytest.mark.parametrize("key", [None, "img", "photo"])
@pytest.mark.parametrize(("as_bytes", "as_path"), [(True, False), (False, True), (True, True)])
def test_undecoded_images_of_hugging_face(tmp_path: Path, key: str | None, as_bytes: bool, as_path: bool) -> None:
    images = [
        undecoded(image, tmp_path / f"{i}.png", as_bytes=as_bytes, as_path=as_path) for i, image in enumerate(IMAGES)
    ]
    if key is None:
        assert_whole(collate(images))
        assert_whole(collate([IMAGES[0], *images[1:]]))
        assert_whole(collate([UserDict(image) for image in images]))
        assert_whole(collate([(image, 0) for image in images])[0])
        assert all(image.keys() == {"bytes", "path"} for image in images)
    else:
        batch = collate([{"y": 1, key: image} for image in images], image=None if key == "img" else key)
        assert list(batch) == ["y", key]
        assert_whole(batch[key])


def test_a_place_in_an_undecoded_image_is_a_place_in_a_mapping(tmp_path: Path) -> None:
    images = [undecoded(image, tmp_path / "gone.png", as_bytes=True, as_path=True) for image in IMAGES]
    batch = collate(images, image="bytes")
    assert batch["path"] == [str(tmp_path / "gone.png")] * 3
    assert_whole(batch["bytes"])


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"bytes": b"broken", "path": "some.png"}, r"sample 0 \(index 0\), some\.png: not an image"),
        ({"bytes": b"broken", "path": None}, r"sample 0 \(index 0\): not an image"),
        ({"bytes": None, "path": "gone.png"}, r"sample 0 \(index 0\), gone\.png: cannot read it"),
    ],
)
def test_an_undecoded_image_that_is_damaged_is_named_by_its_path(image: dict[str, Any], says: str) -> None:
    for sample in (image, {"image": image}):
        with pytest.raises(ImageError, match=says):
            collate([Indexed([sample])[0]])


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (Image.fromarray(IMAGES[0]), "one image"),
        (IMAGES[0], r"one image of shape \(9, 11, 3\)"),
        (torch.zeros(3, 9, 11), r"one image of shape \(3, 9, 11\)"),
        (torch.zeros(9, 11), r"one image of shape \(9, 11\)"),
        ("some.png", "one image"),
        (Path("some.png"), "one image"),
        (b"some", "one image"),
        ({"bytes": None, "path": "some.png"}, "one image"),
    ],
)
def test_one_image_is_no_list_of_samples(image: Any, got: str) -> None:
    with pytest.raises(TypeError, match=rf"wants a list of samples, got {got}: write collate\(\[image\]\)"):
        collate(image)


@given(count=st.integers(1, 4), channels=st.integers(1, 4), size=sizes, seed=seeds)
def test_an_array_or_tensor_of_images_is_a_list_of_them(
    count: int, channels: int, size: tuple[int, int], seed: int
) -> None:
    images = np.stack([noise(*size, channels, seed=seed + i) for i in range(count)])
    expected = collate(list(images))
    samples: Any
    for samples in (images, torch.from_numpy(images).permute(0, 3, 1, 2)):
        assert torch.equal(collate(samples)[0], expected[0])


def test_named_tuples_and_dataclasses_keep_their_type() -> None:
    pair = collate([Pair(i, image) for i, image in enumerate(IMAGES)])
    assert isinstance(pair, Pair)
    assert pair.label.tolist() == [0, 1, 2]
    assert_whole(pair.image)

    anonymous = collate([Anonymous(image, i) for i, image in enumerate(IMAGES)])
    assert isinstance(anonymous, Anonymous)
    assert_whole(anonymous.photo)

    record = collate([Record(i, image) for i, image in enumerate(IMAGES)])
    assert isinstance(record, Record)
    assert record.label.tolist() == [0, 1, 2]
    assert_whole(record.image)

    frozen = collate([Frozen(image, "x") for image in IMAGES])
    assert isinstance(frozen, Frozen)
    assert frozen.name == ["x"] * 3
    assert_whole(frozen.photo)


def test_nested_targets_are_collated_as_by_default() -> None:
    target = {"boxes": torch.ones(2, 4), "area": 1.5, "tags": ("a", 3), "mask": np.zeros((2, 2), np.float32)}
    _, batch = collate([(image, target) for image in IMAGES])
    assert batch["boxes"].shape == (3, 2, 4)
    assert batch["area"].dtype == torch.float64
    assert list(batch["tags"][0]) == ["a"] * 3
    assert batch["mask"].dtype == torch.float32


def test_the_index_of_indexed_samples_is_removed(tmp_path: Path) -> None:
    dataset = Indexed([(image, f"{i}") for i, image in enumerate(IMAGES)])
    assert len(dataset) == 3
    views, names = collate([dataset[2], dataset[0]])
    assert views.index.tolist() == [2, 0]
    assert names == ["2", "0"]
    assert collate(IMAGES).index is None
    bare = Indexed([str(tmp_path / "gone.png")])
    with pytest.raises(ImageError, match=r"sample 0 \(index 0\), .*gone\.png: cannot read it"):
        collate([bare[0]])


class Broken:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        if index == 1:
            raise RuntimeError("no such row")
        raise IndexError(index)


def test_an_error_of_the_dataset_says_which_sample_raised_it() -> None:
    with pytest.raises(RuntimeError, match="no such row") as caught:
        Indexed(Broken())[1]
    assert caught.value.__notes__ == ["raised by sample 1 of the dataset"]
    with pytest.raises(IndexError):
        Indexed(Broken())[3]


X = IMAGES[0]


def test_labels_that_are_all_none_stay_none() -> None:
    views, label = collate([(X, None), (X, None)])
    assert len(views) == len(collate([X, X]))
    assert label is None
    assert collate([{"image": X, "label": None}])["label"] is None


@pytest.mark.parametrize(
    ("samples", "options", "says"),
    [
        ([], {}, "at least one sample, got none"),
        ([3], {}, "sample 0 is a int; wants an image, a tuple or list, a mapping, a named tuple or a dataclass"),
        ([X, 3], {}, "sample 1 has a int where an image is wanted"),
        ([(3, X)], {}, "sample 0 has a int where an image is wanted; image= names its place"),
        ([(X, 1), (None, 1)], {}, "sample 1 has a NoneType where an image is wanted"),
        ([{"photo": X}], {}, "sample 0 has no member 'image', it has 'photo'; image= names the image's place"),
        ([{"photo": X}], {"image": "img"}, "sample 0 has no member 'img', it has 'photo'"),
        ([{"jpg": X, "y": 1, "img": X}], {}, "sample 0 may have its image at 'img' or 'jpg'; image= names its place"),
        ([{"jpg": X}, {"png": X}], {}, "sample 1 has members 'png', sample 0 has 'jpg'"),
        ([X, {"bytes": None, "path": None}], {}, "sample 1 has an image whose bytes and path are both None"),
        ([{"img": {"bytes": None, "path": None}}], {}, "sample 0 has an image whose bytes and path are both None"),
        ([{"img": {"bytes": b"", "path": None, "x": 0}}], {}, "sample 0 has a dict where an image is wanted"),
        ([{"img": {"bytes": 3, "path": "a.png"}}], {}, r"sample 0, a\.png has a int where an image is wanted"),
        ([(X, 1)], {"image": "image"}, "sample 0 has no member 'image', it has 0, 1"),
        ([(X, 1)], {"image": 2}, "sample 0 has no member 2, it has 0, 1"),
        ([{"image": X, "y": 1}, {"image": X}], {}, "sample 1 has members 'image', sample 0 has 'image', 'y'"),
        ([(X, 1), (X,)], {}, "sample 1 has members 0, sample 0 has 0, 1"),
        ([(X, 1), X], {}, "sample 1 has members ndarray, sample 0 has 0, 1"),
        ([Pair(1, X), (1, X)], {}, "sample 1 has members 0, 1, sample 0 has 'label', 'image'"),
        ([()], {}, "sample 0 has no member 0"),
        ([(X, [1, 2]), (X, [1])], {}, r"member 1 of the samples \(list\) cannot be made into a batch"),
        ([{"image": X, "t": torch.ones(i)} for i in (1, 2)], {}, r"member 't' of the samples \(Tensor\) cannot"),
        ([(X, None), (X, 1)], {}, r"member 1 of the samples \(NoneType, int\) cannot be made into a batch"),
    ],
)
def test_samples_that_make_no_batch_are_named(samples: list[Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        collate(samples, **options)


@pytest.mark.parametrize(
    ("channels", "items", "says"),
    [
        (
            1,
            [Resize((4, 4)), ColorJitter(hue=0.1)],
            r"sample 0 has 1 channel, ColorJitter of view 0 needs 3: ColorJitter\(",
        ),
        (4, [Normalize()], r"sample 0 has 4 channels, Normalize of view 0 needs 3: Normalize\("),
        (4, [ColorJitter(saturation=0.1)], "sample 0 has 4 channels, ColorJitter of view 0 needs 3"),
        (2, [ColorJitter(contrast=0.1)], "sample 0 has 2 channels, ColorJitter of view 0 needs 1 or 3"),
        (13, [RandomGrayscale()], "sample 0 has 13 channels, RandomGrayscale of view 0 needs 1 or 3"),
        (3, [Normalize((0, 0), (1, 1))], "sample 0 has 3 channels, Normalize of view 0 needs 2"),
    ],
)
def test_a_wrong_number_of_channels_is_named(channels: int, items: list[Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        collate([noise(5, 5, channels)], *items)


def test_a_wrong_view_is_named_by_its_number() -> None:
    views = [View(), View(Normalize(0.5, 0.5)), View(RandomGrayscale())]
    with pytest.raises(ImageError, match="RandomGrayscale of view 2 needs 1 or 3"):
        MultiViewCollateFunction(views)([noise(5, 5, 5)])


def test_one_channel_fits_what_needs_no_colour() -> None:
    items = Shape(8), ColorJitter(0.4, 0.4), RandomGrayscale(), Texture(), Normalize(0.5, 0.5)
    assert collate([noise(9, 9, 1)] * 4, *items)[0].shape == (4, 1, 8, 8)


def test_views_of_different_sizes_are_named() -> None:
    with pytest.raises(ImageError, match=r"view 0 of sample 0 is 9x11 and of sample 1 12x8: end it in one size, with"):
        collate(IMAGES, RandomHorizontalFlip())
    with pytest.raises(ImageError, match=r"view 0 of sample 0 is 6x7 and of sample 1 9x6"):
        collate(IMAGES, Resize(6))


# --- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: MultiViewCollateFunction([]), ValueError, "views is empty"),
        (lambda: ImageCollateFunction(views=0), ValueError, "views is empty"),
        (lambda: MultiViewCollateFunction([Shape(3)]), TypeError, "sequence of View, got a Shape"),  # type: ignore[list-item]
        (lambda: SimCLRCollateFunction(render="now"), ValueError, "one of 'auto', 'late', 'worker', got 'now'"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction(engine="warp"), ValueError, "engine must be one of 'auto', .* got 'warp'"),
        (lambda: SimCLRCollateFunction(seed=1.5), TypeError, "float"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction(seed="1"), TypeError, "str"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction(background="blanc"), ValueError, "background must be a colour, .* got 'blanc'"),
        (lambda: SimCLRCollateFunction(background=(0, 0, 256)), ValueError, "background must be a colour"),
        (lambda: SimCLRCollateFunction(background=3), ValueError, "background must be a colour"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction(0), ValueError, "RandomResizedCrop: size .* 0"),
        (lambda: MoCoCollateFunction(version=4), ValueError, "version must be one of 1, 2, 3, got 4"),  # type: ignore[arg-type]
        (lambda: SimCLRCollateFunction().set_epoch(-1), ValueError, "epoch must be between 0 and .* got -1"),
    ],
)
def test_wrong_options_are_refused_at_once(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@given(seed=st.integers(-(2**63), 2**64 - 1), shapes=st.lists(sizes, min_size=1, max_size=3))
def test_the_same_seed_draws_the_same_views(seed: int, shapes: list[tuple[int, int]]) -> None:
    images = [noise(*shape) for shape in shapes]
    one, two, three = (SimCLRCollateFunction(8, seed=s)(images) for s in (seed, seed, seed ^ 1))
    assert torch.equal(one.table, two.table)
    assert not torch.equal(one.table, three.table)


def test_transparent_pixels_show_the_background() -> None:
    image = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    for options, value in (({}, 255), ({"background": "black"}, 0), ({"background": None}, 9)):
        function = MultiViewCollateFunction([View(CenterCrop(2))], seed=0, **options)
        assert (function([image]).images.pixels == value).all()
    assert "background=None" in repr(function)


def test_a_seed_may_be_a_numpy_integer() -> None:
    tables = [SimCLRCollateFunction(8, seed=kind(7))(IMAGES).table for kind in (int, np.int32, np.uint8, np.int64)]
    assert all(torch.equal(table, tables[0]) for table in tables)


def test_calls_without_a_loader_are_batches_of_one_epoch() -> None:
    function = SimCLRCollateFunction(8, seed=0)
    tables = [function(IMAGES).table for _ in range(3)]
    function.set_epoch(5)
    tables += [function(IMAGES).table for _ in range(3)]
    assert len({table.numpy().tobytes() for table in tables}) == 6
    function.set_epoch(4)
    function.set_epoch(5)
    assert torch.equal(function(IMAGES).table, tables[3])


def test_two_functions_with_one_seed_do_not_share_their_epoch() -> None:
    one = SimCLRCollateFunction(8, seed=0)
    two = copy.deepcopy(one)
    one.set_epoch(3)
    assert torch.equal(two(IMAGES).table, SimCLRCollateFunction(8, seed=0)(IMAGES).table)


@given(operations=recipes(), shapes=st.lists(sizes, min_size=1, max_size=4), seed=seeds)
def test_rendering_in_the_worker_is_rendering_late(
    operations: list[Operation], shapes: list[tuple[int, int]], seed: int
) -> None:
    images = [noise(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
    view = View(*operations)
    late, worker = (
        MultiViewCollateFunction([view, View(Resize((3, 4)))], seed=seed, render=render)(images)
        for render in ("late", "worker")
    )
    assert late.rendered is None
    assert late.images.pixels.numel() == sum(image.size for image in images)
    assert worker.rendered is not None
    assert worker.images.pixels.numel() == 0
    assert all(torch.equal(a, b) for a, b in zip(late.to(), worker.to(), strict=True))
    assert torch.equal(late.table, worker.table)
    assert all(torch.equal(a, b) for a, b in zip(late.matrices, worker.matrices, strict=True))


def test_auto_renders_where_the_accelerator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, render in ((True, "late"), (False, "worker")):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda available=available: available)
        assert SimCLRCollateFunction().render == render


def test_global_generators_are_neither_read_nor_advanced() -> None:
    before = generators()
    items = Shape(8, degrees=9, rot90=1), Color(), Texture(0.5, solarize=0.5), K.RandomErasing(p=0.5), Normalize()
    tables = []
    for _ in range(2):
        function = MultiViewCollateFunction([View(*items)] * 2, seed=3)
        views = function(IMAGES)
        views.to()
        tables.append(views.to()[0])
        assert generators() == before or tables[1:]
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
    assert torch.equal(*tables)


def test_the_default_seed_is_one_draw_of_torchs_generator() -> None:
    before = generators()
    one = SimCLRCollateFunction(8)
    after = generators()
    assert before != after
    two = SimCLRCollateFunction(8)
    assert one.seed != two.seed
    state = generators()
    one(IMAGES), two(IMAGES)
    assert generators() == state
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = SimCLRCollateFunction(8)
        torch.manual_seed(3)
        again = SimCLRCollateFunction(8)
        torch.manual_seed(3)
        torch.empty((), dtype=torch.int64).random_()
        state = generators()
        torch.manual_seed(3)
        assert SimCLRCollateFunction(8).seed == first.seed == again.seed
        assert generators() == state


# --- the recipes ------------------------------------------------------------------------------------------------

IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FLIP, BLUR = RandomHorizontalFlip(0.5), RandomGaussianBlur((0.1, 2.0), 0.5)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (  # appendix B.9 of the paper, CIFAR-10
            SimCLRCollateFunction(32, strength=0.5, blur=0),
            [
                RandomResizedCrop(32, (0.08, 1), (3 / 4, 4 / 3), "bicubic"),
                *(FLIP, ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8), RandomGrayscale(0.2)),
            ],
        ),
        (ShapeCollateFunction(64), [RandomResizedCrop(64), FLIP, IMAGENET]),
        (
            ShapeCollateFunction((6, 6), scale=(0.5, 1), hflip=0, vflip=0.5, rot90=1, degrees=9, normalize=None),
            [RandomResizedCrop(6, (0.5, 1)), RandomVerticalFlip(0.5), RandomRotation90(1), RandomRotation((-9, 9))],
        ),
        (TextureCollateFunction(64), [Resize(64), CenterCrop(64), BLUR, RandomSolarize(0.5, 0.2), IMAGENET]),
        (
            ColorCollateFunction(8, normalize=None),
            [Resize(8), CenterCrop(8), ColorJitter(0.8, 0.8, 0.8, 0.2, 0.8), RandomGrayscale(0.2)],
        ),
        (
            ImageCollateFunction(32, rot90=0.3, solarize=0.1, degrees=(1, 2), jitter=0, normalize=None),
            [
                *(RandomResizedCrop(32, (0.15, 1)), FLIP, RandomRotation90(0.3), RandomRotation((1, 2))),
                *(RandomGrayscale(0.2), BLUR, RandomSolarize(0.5, 0.1)),
            ],
        ),
    ],
)
def test_presets_make_the_operations_they_name(function: BaseCollateFunction, expected: list[Operation]) -> None:
    assert len(function.views) == 2
    assert function.views[0] == function.views[1] == View(*expected)


def test_recipes_happen_as_often_as_the_papers_say() -> None:
    images, count = [noise(30, 40)] * 3000, 3000
    for draws in SimCLRCollateFunction(8, seed=0, render="late")(images).draws:
        for column, p in (
            ("RandomHorizontalFlip.applied", 0.5),
            ("ColorJitter.applied", 0.8),
            ("RandomGrayscale.applied", 0.2),
            ("RandomGaussianBlur.sigma", 0.5),
        ):
            assert stats.binomtest(int((draws[column] > 0).sum()), count, p).pvalue > 1e-4
        hue = draws["ColorJitter.hue"][draws["ColorJitter.applied"] > 0]
        assert stats.kstest(hue.numpy(), "uniform", (-0.2, 0.4)).pvalue > 1e-4
        area = draws["RandomResizedCrop.height"] * draws["RandomResizedCrop.width"] / 1200
        assert 0.07 < area.min() < 0.12
        assert 0.9 < area.max() <= 1


def test_one_invariance_varies_alone() -> None:
    options: dict[str, Any] = {"seed": 0, "normalize": None}
    gray = [noise(30, 40, seed=i, channels=1).repeat(3, axis=2) for i in range(20)]
    flat = [np.full((30, 40, 3), 20 * i / 255, np.float32) for i in range(12)]

    shape = ShapeCollateFunction(16, hflip=0, **options)(flat)
    assert torch.allclose(shape[0], torch.stack([torch.from_numpy(x[:16, :16]).permute(2, 0, 1) for x in flat]))
    assert not torch.equal(*shape.matrices)

    color = ColorCollateFunction(16, **options)(gray)
    assert torch.equal(*color.matrices)
    assert not torch.equal(*color)

    texture = TextureCollateFunction(16, solarize=0, **options)(flat)
    assert torch.equal(*texture.matrices)
    one, other = texture
    assert torch.allclose(one, other, atol=1e-6)


def test_centred_views_cover_the_shorter_side() -> None:
    image = noise(20, 33)
    (view, _) = TextureCollateFunction(10, blur=0, solarize=0, normalize=None, seed=0)([image])
    expected = packed([Resize((10, 16)), CenterCrop(10)], [image])[0]
    assert torch.allclose(view, expected)


class SatelliteCollateFunction(BaseCollateFunction):
    def __init__(self, size: int = 64, **options: Any) -> None:
        view = View(Shape(size, scale=(0.5, 1.0), vflip=0.5, rot90=1.0), Texture(blur=0.5))
        super().__init__([view, view], **options)


def test_a_subclass_of_five_lines_works() -> None:
    x0, x1 = SatelliteCollateFunction(12, seed=0, mode=None)([noise(20, 22, 13), noise(30, 18, 13)])
    assert x0.shape == x1.shape == (2, 13, 12, 12)
    assert "SatelliteCollateFunction(2 views, seed=" in repr(SatelliteCollateFunction())


def test_many_views_of_several_sizes() -> None:
    views = MultiViewCollateFunction([View(Shape(16))] * 2 + [View(Shape(8, scale=(0.05, 0.2)))] * 6, seed=0)(IMAGES)
    assert [tuple(view.shape) for view in views] == [(3, 3, 16, 16)] * 2 + [(3, 3, 8, 8)] * 6
    assert len({view.numpy().tobytes() for view in views}) == 8


# --- views as an object -----------------------------------------------------------------------------------------


@pytest.fixture(params=["late", "worker"])
def views(request: pytest.FixtureRequest) -> Views:
    function = MultiViewCollateFunction([View(Shape(s), Color()) for s in (8, 6, 5)], seed=0, render=request.param)
    return views_of(function(IMAGES))


def equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_views_are_a_sequence(views: Views) -> None:
    every = views.to()
    assert len(views) == len(every) == 3
    assert views.batch_size == 3
    assert equal(list(views), every)
    x0, x1, x2 = views
    assert equal([x0, x1, x2], every)
    assert equal([views[i] for i in (0, -1, -3)], [every[i] for i in (0, -1, -3)])
    for part in (slice(None), slice(1, None), slice(None, None, -1), slice(-2, None), slice(5, 9), slice(0, 3, 2)):
        assert equal(views[part], every[part])
    for outside in (3, -4):
        with pytest.raises(IndexError):
            views[outside]


def test_to_takes_device_dtype_and_memory_format(views: Views) -> None:
    every = views.to()
    assert equal(views.to("cpu"), every)
    assert equal(views.to(torch.device("cpu"), non_blocking=False), every)
    assert equal(views.to("cpu", torch.float16), [view.half() for view in every])
    for view in views.to(dtype=torch.bfloat16, memory_format=torch.channels_last):
        assert view.dtype == torch.bfloat16
        assert view.is_contiguous(memory_format=torch.channels_last)
    for dtype in (torch.uint8, torch.int64, torch.bool):
        with pytest.raises(ValueError, match=f"views are floating, got dtype={dtype}"):
            views.to(dtype=dtype)


def test_views_are_pickled_and_copied_whole(views: Views) -> None:
    for again in (pickle.loads(pickle.dumps(views)), copy.deepcopy(views), copy.copy(views)):
        assert equal(again.to(), views.to())
        assert repr(again) == repr(views)
        assert equal(again.matrices, views.matrices)
        assert [list(draws) for draws in again.draws] == [list(draws) for draws in views.draws]


def test_draws_are_the_table_by_name(views: Views) -> None:
    for i, draws in enumerate(views.draws):
        assert tuple(draws) == views.views[i].columns
        torch.testing.assert_close(torch.stack(list(draws.values()), dim=1), views.table[i, :, : len(draws)])


EVERYTHING: list[Any] = [
    *(RandomResizedCrop(9, (0.1, 0.9), (0.5, 2), "bicubic", False), RandomHorizontalFlip(0.11)),
    *(RandomVerticalFlip(0.12), RandomRotation90(0.13), RandomRotation((3, 4), 0.14), Resize(9), CenterCrop((7, 8))),
    *(Crop((5, 6), -1, 2), RandomJigsawPatch((2, 3), 3, 2)),
    *(ColorJitter(0.1, 0.2, (0.3, 0.4), 0.5, 0.15), RandomGrayscale(0.16)),
    *(RandomGaussianBlur((0.5, 0.6), 0.17, "zeros"), RandomSolarize((0.6, 0.7), 0.18), RandomEqualize(0.19)),
    *(K.RandomPlasmaShadow(p=0.19), Normalize((1, 2, 3), 0.8)),
]


@pytest.mark.parametrize("of_views", [True, False])
def test_repr_shows_every_argument_and_the_plan(of_views: bool) -> None:
    function = MultiViewCollateFunction(
        [View(*EVERYTHING), View(dtype=torch.float16)], seed=42, image="x", render="late"
    )
    text = repr(function([{"x": X}])["x"]) if of_views else repr(function)
    for words in (
        "RandomResizedCrop(size=(9, 9), scale=(0.1, 0.9), ratio=(0.5, 2), interpolation='bicubic', antialias=False) → ",
        "RandomHorizontalFlip(p=0.11) → RandomVerticalFlip(p=0.12) → RandomRotation90(p=0.13) → ",
        "RandomRotation(degrees=(3, 4), p=0.14) → Resize(size=9, interpolation='bilinear', antialias=True) → ",
        "CenterCrop(size=(7, 8)) → ",
        "Crop(size=(5, 6), top=-1, left=2) → RandomJigsawPatch(size=(2, 3), number=3, grid=2) → ",
        "ColorJitter(brightness=0.1, contrast=0.2, saturation=(0.3, 0.4), hue=0.5, p=0.15, ",
        "convention='torchvision') → RandomGrayscale(p=0.16) → ",
        "RandomGaussianBlur(sigma=(0.5, 0.6), p=0.17, border='zeros') → ",
        "RandomSolarize(threshold=(0.6, 0.7), p=0.18) → RandomEqualize(p=0.19) → RandomPlasmaShadow(",
        "Normalize(mean=(1.0, 2.0, 3.0), std=(0.8,)))",
        "  1: View(dtype=torch.float16)",
    ):
        assert words in text
    if of_views:
        assert text.startswith("Views(2 views of 1 image, 3 channels, packed, 0.0 MB)\n  0: View(")
    else:
        options = "seed=42, render='late', engine='auto', mode='RGB', image='x'"
        assert text.startswith(f"MultiViewCollateFunction(2 views, {options})\n  0: View(")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_collate_functions_are_pickled_and_copied_whole(again: Callable[[Any], Any]) -> None:
    for function in (
        *(SimCLRCollateFunction(8), MoCoCollateFunction(8), ImageCollateFunction(8), ShapeCollateFunction(8)),
        MultiViewCollateFunction([View(*EVERYTHING)], image="x"),
    ):
        twin = again(function)
        assert repr(twin) == repr(function)
        samples = [{"x": X}] if function.image else IMAGES
        batches = [f(samples)["x"] if function.image else f(samples) for f in (function, twin)]
        assert torch.equal(batches[0].table, batches[1].table)
        assert equal(batches[0].to(), batches[1].to())


def test_views_with_equal_operations_are_equal() -> None:
    assert View(Shape(8)) == View(RandomResizedCrop(8), RandomHorizontalFlip())
    assert len({View(Shape(8)), View(Shape(8)), View(Shape(9)), View(Shape(8), dtype=torch.float16)}) == 3
    shared = View(Shared("a", Shape(8))), View(Shared("a", RandomResizedCrop(8), RandomHorizontalFlip()))
    assert shared[0] == shared[1] != View(Shape(8))
    assert View(*shared[0].items) == shared[0]
    assert len({*shared, View(Shape(8)), View(Shared("b", Shape(8))), View(Shared("a", Shape(9)))}) == 4
    assert View() != 3


def test_views_are_the_same_under_autocast() -> None:
    """Autocast is usually on when a training loop renders its views."""
    images = [noise(40, 30, seed=i) for i in range(8)]
    for name in ("late", "worker"):
        collate = ImageCollateFunction(16, degrees=20, seed=0, render=name)
        plain = list(collate(images))
        collate.set_epoch(0)
        collate = ImageCollateFunction(16, degrees=20, seed=0, render=name)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = list(collate(images))
        assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_rendering_leaves_nothing_in_a_kornia_module() -> None:
    module = K.RandomGaussianNoise(p=1.0)
    size = len(pickle.dumps(module))
    collate = MultiViewCollateFunction([View(module)], seed=0, render="worker")
    collate([noise(64, 64)])
    assert len(pickle.dumps(module)) == size


def test_a_grid_of_views_changes_no_later_draw() -> None:
    images = [noise(20, 20, seed=i) for i in range(2)]
    looked_at, left_alone = (SimCLRCollateFunction(8, seed=0, render="late") for _ in range(2))
    looked_at.show(images)
    assert torch.equal(looked_at(images).table, left_alone(images).table)


@pytest.mark.parametrize("views", [View(), (View() for _ in range(0)), [], [View(), None]])
def test_views_must_be_views_and_at_least_one(views: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="views"):
        MultiViewCollateFunction(views)


def test_a_generator_of_views_is_all_of_them() -> None:
    assert len(MultiViewCollateFunction(View(Shape(8)) for _ in range(2)).views) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Shape(8, hflip=3), "Shape: RandomHorizontalFlip: p must lie in"),
        (lambda: Texture(sigma=(-1, 2)), "Texture: RandomGaussianBlur: sigma"),
        (lambda: Color(hue=0.7), "Color: ColorJitter: hue"),
        (lambda: SimCLRCollateFunction(8, mode="rgb"), "mode must be one of None, '1', 'L', .*, got 'rgb'"),
        (lambda: View(CenterCrop((4, 8)), RandomRotation90()), "RandomRotation90 turns a view of 4x8"),
        (lambda: View(Crop((4, 8), 0, 0), RandomRotation90()), "RandomRotation90 turns a view of 4x8"),
        (lambda: Shared(RandomHorizontalFlip()), "name, .* must be a string, got RandomHorizontalFlip"),  # type: ignore[arg-type]
        (lambda: Shared("a"), "Shared: 'a' has no items"),
        (lambda: Shared("a", 3), "View: got .*int, wants .*Shared"),  # type: ignore[arg-type]
        (lambda: Shared("a", Shared("b", FLIP)), "View: got .*Shared"),  # type: ignore[arg-type]
        (lambda: View(Shared("a", FLIP), BLUR, Shared("a", FLIP)), "'a' is shared twice in one view"),
        (
            lambda: MultiViewCollateFunction([View(), View(Shared("a", FLIP)), View(FLIP), View(Shared("a", BLUR))]),
            r"'a' is shared by views 1 and 3, but draws 1 numbers in view 1 and 2 in view 3: .* View 1: View\(Shared\("
            r"'a', RandomHorizontalFlip\(p=0.5\)\)\); view 3: View\(Shared\('a', RandomGaussianBlur",
        ),
        (lambda: Indexed(Indexed([])), "Indexed already"),
        (lambda: View(Normalize(), RandomSolarize()), "move it in front of Normalize"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(make: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        make()


def test_quarter_turns_before_a_crop_need_no_square() -> None:
    collate = MultiViewCollateFunction(
        [View(CenterCrop((12, 20)), RandomRotation90(1.0), RandomResizedCrop(8))], seed=0
    )
    assert collate([noise(30, 30, seed=i) for i in range(8)])[0].shape == (8, 3, 8, 8)


def test_kornias_policies_run_in_a_view() -> None:
    collate = MultiViewCollateFunction([View(K.auto.TrivialAugment())], seed=0)
    (view,) = collate([noise(16, 16, seed=i) for i in range(4)])
    assert view.shape == (4, 3, 16, 16)


def test_to_takes_a_dtype_alone() -> None:
    views = SimCLRCollateFunction(8, seed=0, render="late")([noise(9, 9)])
    assert views.to(torch.bfloat16)[0].dtype == torch.bfloat16


def test_sizes_and_statistics_may_be_lists_or_of_numpy() -> None:
    side: Any = np.int64(8)
    statistics: Any = np.array([0.5] * 3)
    size: Any = [8, 9]
    scale: Any = [0.2, 1.0]
    assert Shape(side) == Shape(8)
    assert View(Normalize(statistics, statistics)) == View(Normalize((0.5,) * 3, (0.5,) * 3))
    listed, paired = View(RandomResizedCrop(size, scale=scale)), View(RandomResizedCrop((8, 9), scale=(0.2, 1.0)))
    assert listed == paired
    assert hash(listed) == hash(paired)
