"""Any image to pixels, and many into one buffer."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.cases import examples, noise, seeds, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, ImageOps

from lightly_aug import (
    ColorJitter,
    ImageError,
    MultiViewCollateFunction,
    RandomResizedCrop,
    RandomSolarize,
    ShapeCollateFunction,
    View,
)
from lightly_aug.images import image_files, is_image, pack, to_array

PHOTO = Image.fromarray(noise(7, 5, seed=3))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- PIL modes --------------------------------------------------------------------------------------------------

RAMP = np.arange(0, 65536, 2048, dtype=np.uint16).reshape(4, 8)


def of_mode(mode: str) -> Image.Image:
    """An image of a mode that `convert` cannot always make."""
    rgba = Image.fromarray(noise(4, 8, 4, seed=1))
    match mode:
        case "LAB":
            profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            made = ImageCms.applyTransform(rgba.convert("RGB"), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
            assert made is not None
            return made
        case "I;16" | "I;16L" | "I;16B" | "I;16N":
            order = ">u2" if mode == "I;16B" else "<u2"
            return Image.frombytes(mode, (8, 4), RAMP.astype(order).tobytes())
        case "I":
            return Image.fromarray(RAMP.astype(np.int32))
        case "F":
            return Image.fromarray(RAMP.astype(np.float32) / 65535)
        case "PA" | "La":
            return rgba.convert("LA").convert(mode)
        case _:
            return rgba.convert("RGB").convert(mode) if mode in ("YCbCr", "HSV", "CMYK", "RGBX") else rgba.convert(mode)


PLAIN = ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]
ALL = [*PLAIN, "La", "PA", "RGBa", "LAB", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"]


@pytest.mark.parametrize("mode", ALL)
@pytest.mark.parametrize(("to", "channels"), [("RGB", 3), ("L", 1), ("RGBA", 4), ("CMYK", 4)])
def test_every_mode_is_converted_to_the_mode_asked_for(mode: str, to: str, channels: int) -> None:
    array = to_array(of_mode(mode), to)
    assert array.shape == (4, 8, channels)
    assert array.dtype == np.uint8


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("to", ["RGB", "L"])
def test_plain_modes_are_converted_as_pillow_does(mode: str, to: str) -> None:
    image = of_mode(mode)
    np.testing.assert_array_equal(to_array(image, to, None, None).squeeze(), np.asarray(image.convert(to)).squeeze())


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [
        *(("1", 1, np.uint8), ("L", 1, np.uint8), ("LA", 2, np.uint8), ("La", 2, np.uint8), ("P", 3, np.uint8)),
        *(("PA", 4, np.uint8), ("RGB", 3, np.uint8), ("RGBA", 4, np.uint8), ("RGBa", 4, np.uint8)),
        *(("RGBX", 3, np.uint8), ("CMYK", 3, np.uint8), ("YCbCr", 3, np.uint8), ("HSV", 3, np.uint8)),
        *(("LAB", 3, np.uint8), ("I", 1, np.float32), ("F", 1, np.float32)),
        *((f"I;16{order}", 1, np.float32) for order in ("", "L", "B", "N")),
    ],
)
def test_mode_none_keeps_the_channels(mode: str, channels: int, dtype: type) -> None:
    array = to_array(of_mode(mode), None)
    assert array.shape == (4, 8, channels)
    assert array.dtype == dtype


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    np.testing.assert_allclose(to_array(of_mode(mode), None)[..., 0], RAMP / 65535, atol=1e-7)
    np.testing.assert_array_equal(to_array(of_mode(mode), "L")[..., 0], np.rint(RAMP / 257))
    rgb = to_array(of_mode(mode), "RGB")
    assert (rgb == rgb[..., :1]).all()


def test_a_sixteen_bit_file_keeps_its_range() -> None:
    np.testing.assert_allclose(to_array(encoded(Image.fromarray(RAMP)), None)[..., 0], RAMP / 65535, atol=1e-7)


def test_lab_is_converted_through_its_profile() -> None:
    rgb = Image.new("RGB", (4, 4), (200, 120, 40))
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(rgb, transform)
    np.testing.assert_allclose(to_array(lab, "RGB"), np.asarray(rgb), atol=3)


def test_premultiplied_alpha_is_divided_out() -> None:
    rgba = Image.new("RGBA", (2, 2), (200, 100, 50, 128))
    np.testing.assert_allclose(to_array(rgba.convert("RGBa"), None), np.asarray(rgba), atol=2)
    np.testing.assert_allclose(
        to_array(rgba.convert("RGBa"), "RGB", background=None), np.asarray(rgba)[..., :3], atol=2
    )


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255, 255])])
def test_a_transparent_palette_becomes_rgba_or_the_colours_asked_for(transparency: int | bytes) -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.putdata([0, 1, 2, 3])
    file = encoded(palette, transparency=transparency)
    reopened = Image.open(io.BytesIO(file))
    assert reopened.mode == "P"
    np.testing.assert_array_equal(to_array(file, None), np.asarray(reopened.convert("RGBA")))
    np.testing.assert_array_equal(to_array(file, "RGB", background=None)[0], np.arange(10, 130, 10).reshape(4, 3))
    np.testing.assert_array_equal(to_array(encoded(palette), None)[0], np.arange(10, 130, 10).reshape(4, 3))


# --- transparency -----------------------------------------------------------------------------------------------


def over(image: Image.Image, background: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """What is seen of an image in front of a background."""
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float64)
    alpha = rgba[..., 3:] / 255
    seen: npt.NDArray[np.float64] = alpha * rgba[..., :3] + (1 - alpha) * background
    return seen


@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4))),
    mode=st.sampled_from(["RGBA", "LA", "PA"]),
    background=st.tuples(*[st.integers(0, 255)] * 3),
    encode=st.booleans(),
)
def test_transparent_pixels_show_the_background(
    pixels: Any, mode: str, background: tuple[int, int, int], encode: bool
) -> None:
    image = Image.fromarray(pixels)
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "PA":
        image = image.convert("RGB").convert("P").convert("PA")
        image.putalpha(Image.fromarray(pixels).getchannel("A"))
    source = encoded(image) if encode and mode != "PA" else image
    np.testing.assert_allclose(to_array(source, "RGB", background=background), over(image, background), atol=1.01)
    if background == (255, 255, 255):
        np.testing.assert_array_equal(to_array(source), to_array(source, "RGB", background=background))
    kept = to_array(source, "RGBA", background=background)
    np.testing.assert_array_equal(kept, np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour_shows_the_background(mode: str) -> None:
    image = Image.new(mode, (3, 2), 0)
    image.putpixel((1, 1), (9, 99, 199) if mode == "RGB" else 99)
    file = encoded(image, transparency=(0, 0, 0) if mode == "RGB" else 0)
    seen = to_array(file, background="#ff8000")
    wanted = np.full((2, 3, 3), (255, 128, 0))
    wanted[1, 1] = np.asarray(image.convert("RGB"))[1, 1]
    np.testing.assert_array_equal(seen, wanted)


def test_what_lies_under_transparency_does_not_bleed_into_shrunken_images() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert to_array(image, "RGB", 2).min() == 255


# --- shrinking while reading ------------------------------------------------------------------------------------


def gradient(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


@pytest.mark.parametrize(
    ("decode", "size"), [(None, (600, 800)), (700, (600, 800)), (300, (300, 400)), (290, (300, 400))]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "image"])
def test_decode_shrinks_as_far_as_the_shorter_side_allows(kind: str, decode: int | None, size: tuple[int, int]) -> None:
    image = gradient(800, 600)
    array = to_array(image if kind == "image" else encoded(image, kind), "RGB", decode)
    assert array.shape == (*size, 3)
    wanted = np.asarray(image.resize(size[::-1], Image.Resampling.BOX))
    np.testing.assert_allclose(array, wanted, atol=3)
    assert image.size == (800, 600)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "F", "CMYK", "RGBA"])
def test_decode_shrinks_images_of_every_mode(mode: str) -> None:
    large = Image.fromarray(np.full((30, 50), 30000, dtype=np.uint16)) if mode == "I;16" else Image.new(mode, (50, 30))
    assert to_array(large, "RGB", 9).shape == (10, 17, 3)
    assert to_array(large, None, 9).shape[:2] == (10, 17)


def test_decode_counts_after_the_image_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert to_array(encoded(gradient(800, 400), "JPEG", exif=exif), "RGB", 100).shape == (200, 100, 3)


# --- EXIF -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(PHOTO, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    np.testing.assert_array_equal(to_array(file), expected)
    np.testing.assert_array_equal(to_array(Image.open(io.BytesIO(file))), expected)
    assert expected.shape == ((7, 5, 3) if orientation < 5 else (5, 7, 3))
    if kind == "PNG":  # lossless: against the pixels themselves
        x = np.asarray(PHOTO)
        upright = {1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1], 6: np.rot90(x, -1), 8: np.rot90(x)}
        upright |= {5: x.swapaxes(0, 1), 7: np.rot90(x, 2).swapaxes(0, 1)}
        np.testing.assert_array_equal(to_array(file), upright[orientation])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\x7f" * 40, b"\x01" * 9]
)
def test_images_with_damaged_exif_are_read(exif: bytes, kind: str) -> None:
    file, clean = encoded(PHOTO, kind, exif=exif), encoded(PHOTO, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(to_array(file), to_array(clean))


@given(junk=st.binary(max_size=60), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_images_with_any_bytes_as_exif_are_read(junk: bytes, kind: str) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01" + junk  # the orientation, and then anything
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert to_array(encoded(PHOTO, kind, exif=exif)).size == 7 * 5 * 3


# --- files and bytes --------------------------------------------------------------------------------------------


def test_paths_and_bytes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(encoded(PHOTO))
    for image in (file, str(file), file.read_bytes(), bytearray(file.read_bytes()), PHOTO):
        assert is_image(image)
        np.testing.assert_array_equal(to_array(image), np.asarray(PHOTO))


def test_the_first_frame_of_many_is_taken() -> None:
    frames = [Image.new("RGB", (3, 2), (shade, 0, 0)) for shade in (10, 200)]
    file = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.unique(to_array(file)[..., 0]).tolist() == [10]


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in image_files(folder)]


def test_image_files_are_found_sorted_without_hidden_ones(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a/x.PNG", "a/.hidden.png", ".cache/y.png", "c.tiff", "a-b/z.jfif", "a/.notes.txt")
    (tmp_path / "folder.png").mkdir()
    assert found(tmp_path) == ["a/x.PNG", "a-b/z.jfif", "b.jpg", "c.tiff"]
    with pytest.raises(NotADirectoryError, match="nowhere"):
        image_files(tmp_path / "nowhere")


def test_files_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a/x.svg", "y.SVG", "a/notes.txt", "LICENSE", "page.eps")
    wanted = "passed over files that are not images: 2 .svg, 1 .*, 1 .*, 1 .*"
    with pytest.warns(UserWarning, match=wanted) as caught:
        assert found(tmp_path) == ["b.jpg"]
    assert "without suffix" in str(caught[0].message)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a/x.jpg", "elsewhere/y.jpg")
    (tmp_path / "photos/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/a/back").symlink_to(tmp_path / "photos")
    assert found(tmp_path / "photos") == ["a/x.jpg", "b/y.jpg"]


def test_a_file_that_pillow_would_hand_to_another_program_is_refused() -> None:
    with pytest.raises(ImageError, match="it looks like EPS, which is not decoded"):
        to_array(encoded(Image.new("RGB", (3, 2)), "EPS"))


WHOLE = encoded(Image.fromarray(noise(40, 30)), "JPEG")


def collated(images: list[Any], **options: Any) -> Any:
    return MultiViewCollateFunction([View()], seed=0, **options)(images)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (WHOLE[: len(WHOLE) // 2], "cannot read it: .*truncated"),
        (encoded(PHOTO)[:60], "cannot read it"),
        (b"these are no pixels", "not an image in a format that Pillow reads"),
        (b"", "not an image in a format that Pillow reads"),
    ],
)
def test_bad_files_are_named_with_their_sample(tmp_path: Path, content: bytes, says: str) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    good.write_bytes(encoded(PHOTO))
    bad.write_bytes(content)
    for file in (bad, str(bad)):
        with pytest.raises(ImageError, match=rf"sample 1, .*bad\.jpg: {says}"):
            collated([good, file])
    with pytest.raises(ImageError, match=rf"sample 0: {says}"):
        collated([content])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"sample 0, .*gone\.png: cannot read it: .*No such file"):
        collated([tmp_path / "gone.png"])


def test_a_bad_pil_image_is_named_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "half.jpg"
    file.write_bytes(WHOLE[: len(WHOLE) // 2])
    with Image.open(file) as image, pytest.raises(ImageError, match=r"sample 0, .*half\.jpg: cannot read it"):
        collated([image])


@settings(max_examples=examples(quick=50, full=200))
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    share=st.floats(0.02, 1),
)
def test_damaged_files_raise_image_error_and_nothing_else(
    kind: str, changes: list[tuple[float, int]], share: float
) -> None:
    file = bytearray(encoded(PHOTO, kind))
    for place, value in changes:
        file[int(place * len(file))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            assert to_array(bytes(file[: max(1, int(share * len(file)))])).dtype == np.uint8


# --- tensors and arrays -----------------------------------------------------------------------------------------


@given(size=sizes, channels=st.sampled_from([1, 3, 4, 13]), seed=seeds)
def test_tensors_are_chw_and_arrays_hwc(size: tuple[int, int], channels: int, seed: int) -> None:
    array = noise(*size, channels, seed)
    np.testing.assert_array_equal(to_array(array), array)
    np.testing.assert_array_equal(to_array(torch.from_numpy(array.transpose(2, 0, 1).copy())), array)
    np.testing.assert_array_equal(to_array(array[..., 0]), array[..., :1])
    np.testing.assert_array_equal(to_array(torch.from_numpy(array[..., 0].copy())), array[..., :1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_tensors_become_float32(dtype: torch.dtype) -> None:
    x = torch.rand(3, 4, 5, dtype=dtype, requires_grad=True)
    array = to_array(x)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, x.detach().float().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
def test_floating_arrays_become_float32(dtype: str) -> None:
    x = noise(4, 5, dtype=np.float32).astype(dtype)
    assert to_array(x).dtype == np.float32
    np.testing.assert_array_equal(to_array(x), x.astype(np.float32))


def test_views_of_memory_need_not_be_contiguous_nor_writable() -> None:
    x = noise(8, 10)
    frozen = x.copy()
    frozen.setflags(write=False)
    wide = torch.from_numpy(x).permute(2, 0, 1)
    images = [x[::-1, ::-2], x.transpose(1, 0, 2), frozen, np.broadcast_to(x[:1], (4, 10, 3)), np.asfortranarray(x)]
    tensors = [wide[:, 1:5, ::3], wide.transpose(1, 2), wide.flip(0)[:, :4].expand(3, 4, 10)]
    views = MultiViewCollateFunction([View()], seed=0, render="late")
    for image in images:
        np.testing.assert_array_equal(views([image]).images.pixels.view(image.shape), image)
    for tensor in tensors:
        h, w = tensor.shape[1:]
        assert torch.equal(views([tensor]).images.pixels.view(h, w, 3), tensor.permute(1, 2, 0))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((3, 4, 3), np.int64), "dtype int64 has no known range"),
        (np.zeros((3, 40, 40), np.uint8), r"looks like \(channels, h, w\)"),
        (np.zeros((3, 4, 3), bool), "dtype bool has no known range"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), r"dtype torch\.int64 has no known range"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), r"dtype torch\.bool has no known range"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\) is not that of one image"),
        (torch.zeros(3, 4, 0), r"shape \(3, 4, 0\) is not that of one image"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\) is not that of one image"),
        (torch.zeros(7), r"shape \(7,\) is not that of one image"),
        (np.array(3.0), r"shape \(\) is not that of one image"),
        (Image.new("RGB", (0, 4)), "shape|cannot read it"),
    ],
)
def test_an_object_that_is_no_image_is_named_with_its_sample(image: Any, says: str) -> None:
    with pytest.raises(ImageError, match=f"sample 1: .*({says})"):
        collated([PHOTO, image])


def test_a_type_that_is_no_image_says_what_is() -> None:
    assert not is_image(3.5)
    with pytest.raises(ImageError, match="a float is not an image; wants a PIL image, tensor, array, path or bytes"):
        to_array(3.5)


# --- packing ----------------------------------------------------------------------------------------------------


@given(
    shapes=st.lists(sizes, min_size=1, max_size=6),
    channels=st.sampled_from([1, 2, 3, 4, 13]),
    floating=st.lists(st.booleans(), min_size=6, max_size=6),
    seed=seeds,
)
def test_packed_images_are_read_back_unchanged(
    shapes: list[tuple[int, int]], channels: int, floating: list[bool], seed: int
) -> None:
    arrays = [
        noise(*shape, channels, seed + i, np.float32 if floating[i] else np.uint8) for i, shape in enumerate(shapes)
    ]
    packed = pack(arrays, [str(i) for i in range(len(arrays))])
    pixels = packed.pixels
    assert packed.channels == channels
    assert packed.raw.tolist() == [not real for real in floating[: len(arrays)]]
    assert pixels.dtype == (torch.float32 if any(floating[: len(arrays)]) else torch.uint8)
    assert len(pixels) == sum(array.size for array in arrays)
    for i, (array, (offset, height, width)) in enumerate(zip(arrays, packed.shapes.tolist(), strict=True)):
        out: npt.NDArray[Any] = pixels[offset : offset + array.size].view(height, width, channels).numpy()
        mixed = array.dtype == np.uint8 and pixels.dtype == torch.float32
        np.testing.assert_array_equal(out, array / np.float32(255) if mixed else array)
        assert torch.equal(packed[i].permute(1, 2, 0), torch.from_numpy(out))


def test_bytes_and_floats_in_one_batch_are_both_in_the_unit_range() -> None:
    x = noise(4, 5)
    views = collated([x, torch.from_numpy(x).permute(2, 0, 1) / 255])[0]
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=1e-7)


def test_different_channels_name_both_samples() -> None:
    with pytest.raises(
        ImageError, match=r"sample 2 has 1 channels and sample 0 has 3: .*one number of channels.*mode="
    ):
        collated([noise(4, 4), noise(5, 4), noise(4, 4, 1)])


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf"), 255.0])
def test_floats_out_of_range_are_named_where_a_colour_needs_them_in_it(value: float) -> None:
    wild = noise(4, 4, dtype=np.float32)
    wild[1, 2, 0] = value
    for operation in (ColorJitter(0.1), RandomSolarize()):
        collate = MultiViewCollateFunction([View(), View(operation)], seed=0)
        with pytest.raises(
            ImageError, match=rf"sample 1: float values from .*, {type(operation).__name__} needs .* \[0, 1\]"
        ):
            collate([PHOTO.resize((4, 4)), wild])
    if np.isfinite(value):
        assert collated([wild])[0].shape == (1, 3, 4, 4)


@pytest.mark.parametrize("of", [lambda a: a, torch.from_numpy])
def test_16_bit_arrays_and_tensors_are_scaled_as_files_are(of: Any) -> None:
    np.testing.assert_allclose(to_array(of(RAMP))[..., 0], RAMP / 65535, rtol=1e-6)


def test_float_images_are_rounded_to_8_bits_or_refused() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    array = to_array(Image.fromarray(values), "RGB")
    assert (array == np.rint(values * 255)[..., None]).all()
    with pytest.raises(ImageError, match=r"values from 0 to 3 .*mode=None"):
        to_array(Image.fromarray(values * 3), "L")
    assert to_array(Image.fromarray(values * 3), None).max() == 3


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(3, 8, 8).to_sparse(),
        torch.empty(3, 8, 8, device="meta"),
    ],
    ids=["sparse", "meta"],
)
def test_tensors_without_plain_numbers_are_named(tensor: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"sample 1: a tensor on .* has no pixels to read"):
        ShapeCollateFunction(8, seed=0)([torch.rand(3, 8, 8), tensor])


def test_a_tensor_with_the_negative_bit_is_read() -> None:
    imaginary = torch.complex(torch.zeros(3, 4, 5), torch.rand(3, 4, 5)).conj().imag
    assert imaginary.is_neg()
    assert np.array_equal(to_array(imaginary), np.moveaxis(imaginary.resolve_neg().numpy(), 0, -1))


def test_a_masked_array_is_refused() -> None:
    with pytest.raises(ImageError, match=r"masked array .* image.filled\(0\)"):
        to_array(np.ma.masked_less(np.random.default_rng(0).random((8, 8, 3)), 0.5))


def test_both_orders_of_bytes_are_16_bits() -> None:
    array = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    assert np.array_equal(to_array(array.astype(">u2")), to_array(array.astype("<u2")))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_floats_that_are_not_finite_are_named_whatever_the_view(value: float) -> None:
    image = np.full((8, 8, 3), 0.5)
    image[3, 4, 1] = value
    with pytest.raises(ImageError, match=r"sample 1: float values from .* not finite in float32"):
        MultiViewCollateFunction([View(RandomResizedCrop(8))], seed=0)([np.full((8, 8, 3), 7.0), image])


def test_names_of_files_cannot_move_the_cursor(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\nb\u202e.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\\x1b\[31m\\nb\\u202e\.png") as caught:
        ShapeCollateFunction(8, seed=0)([str(path) for path in tmp_path.iterdir()])
    assert "\x1b" not in str(caught.value)


@given(
    st.sampled_from(["L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"]), st.integers(1, 700), st.integers(1, 700), seeds
)
def test_pixels_of_any_size_are_those_of_pillow(mode: str, height: int, width: int, seed: int) -> None:
    """Large images are copied in strips."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert("L" if mode == "LA" else mode).convert(mode)
    array = to_array(image, mode, background=None)
    np.testing.assert_array_equal(array, np.asarray(image).reshape(height, width, -1))
