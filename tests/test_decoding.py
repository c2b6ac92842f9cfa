"""JPEG files come out as Pillow decodes them; formats and sizes that are refused."""

import io
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from helpers.cases import examples, noise, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lightly_aug import ImageError, ShapeCollateFunction, images
from lightly_aug.choices import MAX_PIXELS
from lightly_aug.decoding import FORMATS, decode_jpeg, image_suffixes, open_image
from lightly_aug.images import to_array

Made = npt.NDArray[np.uint8]


def by_pillow(file: bytes, mode: str | None, decode: int | None) -> npt.NDArray[Any]:
    """What Pillow alone makes of a JPEG file."""
    image: Image.Image = Image.open(io.BytesIO(file))
    if decode is not None:
        image.draft(None, (decode, decode))
    image = ImageOps.exif_transpose(image)
    image = image.convert(mode or {"L": "L"}.get(image.mode, "RGB"))
    if decode is not None and min(image.size) // decode > 1:
        image = image.reduce(min(image.size) // decode)
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int, width: int, seed: int = 0, *, rough: bool = False) -> Image.Image:
    """Noise, or something as smooth as photographs are."""
    if rough:
        return Image.fromarray(noise(height, width, seed=seed))
    small = Image.fromarray(noise(height // 6 + 1, width // 6 + 1, seed=seed))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@st.composite
def jpegs(draw: st.DrawFn, largest: int = 40) -> bytes:
    """JPEG files of every kind that Pillow writes."""
    side = st.integers(1, largest)
    image = photo(draw(side), draw(side), draw(seeds), rough=draw(st.booleans()))
    kind = draw(st.sampled_from(["RGB", "RGB", "RGB", "L", "CMYK", "kept"]))
    options: dict[str, Any] = {
        "quality": draw(st.integers(1, 100)),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        "restart_marker_blocks": draw(st.integers(0, 4)),
    }
    if kind == "kept":  # RGB in the file, which a marker of Adobe tells
        options |= {"keep_rgb": True, "subsampling": 0}
    elif kind != "L":
        options["subsampling"] = draw(st.integers(0, 2))
    orientation = draw(st.none() | st.integers(0, 9))
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    return encoded(image if kind == "kept" else image.convert(kind), **options)


MODES = st.sampled_from(["RGB", "RGB", None, "L", "CMYK", "RGBA"])


@settings(max_examples=examples(quick=150, full=1000))
@given(file=jpegs(), mode=MODES, decode=st.none() | st.integers(1, 50))
def test_jpeg_files_have_the_pixels_of_pillow(file: bytes, mode: str | None, decode: int | None) -> None:
    np.testing.assert_array_equal(to_array(file, mode, decode), by_pillow(file, mode, decode))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
@pytest.mark.parametrize("shape", [(64, 48), (97, 131), (15, 200), (33, 8)])
def test_every_subsampling_has_the_pixels_of_pillow(subsampling: str, shape: tuple[int, int]) -> None:
    pixels = np.asarray(photo(*shape))
    if subsampling == "Gray":
        file = simplejpeg.encode_jpeg(pixels[..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray")
    else:
        file = simplejpeg.encode_jpeg(pixels, colorsubsampling=subsampling)
    for decode in (None, 40, 20, 10, 4):
        for mode in ("RGB", "L", None):
            np.testing.assert_array_equal(to_array(file, mode, decode), by_pillow(file, mode, decode))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_and_shrinking_have_the_pixels_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(photo(300, 203), exif=exif)
    for decode in (None, 150, 101, 60, 30):
        np.testing.assert_array_equal(to_array(file, "RGB", decode), by_pillow(file, "RGB", decode))


def test_the_first_image_of_a_file_with_several_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(photo(60, 40), "MPO", save_all=True, append_images=[photo(60, 40, seed=1)], exif=exif)
    assert Image.open(io.BytesIO(file)).format == "MPO"
    np.testing.assert_array_equal(to_array(file), by_pillow(file, "RGB", None))


def opened(file: bytes, decode: int | None = None) -> Made | None:
    image = open_image(io.BytesIO(file))
    if decode is not None:
        image.draft(None, (decode, decode))
    return decode_jpeg(image, file, "RGB")


def test_what_the_fast_decoder_takes_and_what_it_leaves_to_pillow() -> None:
    image = photo(64, 48)
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True, "subsampling": 0}):
        assert opened(encoded(image, **options)) is not None
    assert opened(encoded(image.convert("L"))) is not None
    scaled = opened(encoded(image), 20)
    assert scaled is not None
    assert scaled.shape == (32, 24, 3)
    assert opened(encoded(image.convert("CMYK"))) is None
    assert opened(encoded(photo(7, 7))) is None
    assert opened(encoded(image)[:-2]) is None
    assert opened(encoded(image)[:-50]) is None


@settings(max_examples=examples(quick=300, full=3000))
@given(
    file=jpegs(),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    inserted=st.binary(max_size=5),
    share=st.just(1.0) | st.floats(0.02, 1),
    decode=st.none() | st.integers(1, 50),
)
def test_damaged_files_give_the_pixels_or_the_error_of_pillow(
    file: bytes, changes: list[tuple[float, int]], inserted: bytes, share: float, decode: int | None
) -> None:
    damaged = bytearray(file)
    for place, value in changes:
        damaged[int(place * len(file))] = value
    middle = int(share * len(damaged) / 2)
    damaged[middle:middle] = inserted
    damaged = damaged[: max(1, int(share * len(damaged)))]
    outcomes: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            try:
                outcomes.append(to_array(damaged, "RGB", decode))
            except ImageError as error:
                outcomes.append(np.array(str(error)))
            patch.setattr(images, "decode_jpeg", lambda *_: None)
    np.testing.assert_array_equal(outcomes[0], outcomes[1])


@pytest.mark.parametrize("scans", range(1, 8))
def test_a_progressive_file_that_ends_early_has_the_pixels_of_pillow(scans: int) -> None:
    file = encoded(photo(80, 60), progressive=True)
    starts = [i for i in range(len(file)) if file[i : i + 2] == b"\xff\xda"]
    assert len(starts) > 7
    cut = file[: starts[scans]] + b"\xff\xd9"  # closed properly: no decoder finds anything wrong
    np.testing.assert_array_equal(to_array(cut), by_pillow(cut, "RGB", None))


def test_paths_bytes_and_bytearrays_give_the_same(tmp_path: Path) -> None:
    file = encoded(photo(50, 70))
    path = tmp_path / "photo.jpg"
    path.write_bytes(file)
    for source in (path, str(path), bytearray(file)):
        np.testing.assert_array_equal(to_array(source), by_pillow(file, "RGB", None))


# --- formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "MPO"])
def test_every_format_is_read(kind: str, tmp_path: Path) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    image = photo(32, 32)
    path, file = tmp_path / "image", encoded(image, kind)
    path.write_bytes(file)
    array = to_array(path)
    np.testing.assert_array_equal(array, to_array(file))
    np.testing.assert_array_equal(array, np.asarray(Image.open(io.BytesIO(file), formats=[kind]).convert("RGB")))
    np.testing.assert_allclose(array, np.asarray(image), atol=60)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (encoded(Image.new("RGB", (3, 2)), "EPS"), "EPS"),
        (encoded(Image.new("RGB", (3, 2)), "SGI"), "SGI"),
        (encoded(Image.new("RGB", (3, 2)), "PCX"), "PCX"),
        (encoded(Image.new("RGB", (3, 2)), "ICO"), "ICO"),
        (b"8BPS" + bytes(40), "PSD"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    ],
)
def test_a_file_of_another_format_of_pillow_is_refused_by_name(file: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=rf"it looks like {kind}, which is not decoded.*convert it with"):
        to_array(file)


def test_suffixes_are_those_of_the_formats() -> None:
    suffixes = image_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".gif", ".bmp", ".pgm", ".jp2", ".mpo", ".tga"} <= suffixes
    assert not {".eps", ".psd", ".h5", ".svg", ".pdf", ".mpg", ".fits"} & suffixes


def test_a_format_that_this_pillow_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    factory, _ = Image.OPEN["WEBP"]
    monkeypatch.setitem(Image.OPEN, "WEBP", (factory, lambda _: "WEBP support not installed"))
    with pytest.raises(ImageError, match="not an image in a format that Pillow reads: WEBP support not installed"):
        to_array(encoded(photo(8, 8), "WEBP"))


# --- max_pixels -------------------------------------------------------------------------------------------------

LARGE = "100x60 are 6,000 pixels, max_pixels allows 5,999; pass a larger max_pixels, in commands --max-pixels"


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("MPO", "DIB")])
def test_the_size_is_checked_before_pixels_are_decoded(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    file = encoded(photo(60, 100), kind)
    assert to_array(file, max_pixels=6000).shape == (60, 100, 3)
    assert to_array(file, max_pixels=None).shape == (60, 100, 3)
    headers = [file] if kind in ("TIFF", "WEBP", "AVIF", "GIF", "JPEG2000") else [file, file[: len(file) * 3 // 4]]
    for each in headers:  # with pixels that are missing, decoding would be another error
        for decode in (None, 10):
            with pytest.raises(ImageError, match=LARGE):
                to_array(each, decode=decode, max_pixels=5999)


def test_images_of_pil_are_bounded_and_arrays_are_not() -> None:
    image = photo(60, 100)
    assert to_array(image, max_pixels=6000).shape == (60, 100, 3)
    with pytest.raises(ImageError, match=LARGE):
        to_array(image, max_pixels=5999)
    with pytest.raises(ImageError, match=LARGE):
        to_array(Image.open(io.BytesIO(encoded(image))), max_pixels=5999)
    assert to_array(np.asarray(image), max_pixels=1).shape == (60, 100, 3)


def test_the_bound_of_pillow_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # Pillow warns above 4,000 pixels and raises above 8,000
    for kind in ("JPEG", "PNG", "BMP", "GIF", "PPM", "JPEG2000", "TIFF"):
        assert to_array(encoded(photo(60, 100), kind)).shape == (60, 100, 3)
        if kind != "TIFF":
            assert to_array(encoded(photo(100, 100), kind)).shape == (100, 100, 3)
    assert Image.MAX_IMAGE_PIXELS == 4000


def test_where_a_plugin_of_pillow_has_a_bound_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("TIFF", "WEBP"):
        with pytest.raises(ImageError, match=r"exceeds limit .* Pillow's own bound: .*MAX_IMAGE_PIXELS = None"):
            to_array(encoded(photo(32, 32), kind))


def test_a_collate_function_names_the_sample_that_is_too_large() -> None:
    collate = ShapeCollateFunction(8, seed=0, max_pixels=5999)
    assert "max_pixels=5999" in repr(collate)
    assert "max_pixels" not in repr(ShapeCollateFunction(8, seed=0))
    good, large = encoded(photo(60, 99)), encoded(photo(60, 100))
    with pytest.raises(ImageError, match=f"^sample 1: {LARGE}"):
        collate([good, large])
    with pytest.warns(UserWarning, match=f"leaves out sample 1: {LARGE}"):
        assert len(ShapeCollateFunction(8, seed=0, max_pixels=5999, on_error="skip")([good, large])[0]) == 1
    assert len(ShapeCollateFunction(8, seed=0, max_pixels=None)([good, large])[0]) == 2


def test_the_default_is_the_bound_of_pillow() -> None:
    assert MAX_PIXELS == 1024**3 // 4 // 3
    header = encoded(Image.new("1", (1, 1)), "PNG")
    huge = header.replace((1).to_bytes(4) + (1).to_bytes(4), (9460).to_bytes(4) * 2, 1)  # 9,460² > MAX_PIXELS
    start = huge.index(b"IHDR")
    huge = huge[: start + 17] + zlib.crc32(huge[start : start + 17]).to_bytes(4) + huge[start + 21 :]
    with pytest.raises(ImageError, match="9460x9460 are 89,491,600 pixels, max_pixels allows 89,478,485"):
        to_array(huge)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "many"])
def test_other_bounds_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="ShapeCollateFunction: max_pixels must be an integer >= 1, got"):
        ShapeCollateFunction(8, max_pixels=value)


def test_the_page_of_operations_lists_the_formats() -> None:
    page = " ".join((Path(__file__).parents[1] / "docs/operations.md").read_text().split())
    listed = re.search(r"Files are read if they are (.*?), whatever", page)
    assert listed is not None
    names = set(re.findall(r"[A-Z]\w+(?: 2000)?", listed[1])) - {"PGM", "PBM", "PFM"}
    assert {name.upper().replace(" ", "") for name in names} == set(FORMATS)
    assert f"more than {MAX_PIXELS:,} pixels" in page


@pytest.mark.parametrize(
    ("asked", "bound"),
    [({}, MAX_PIXELS), ({"max_pixels": 5999}, 5999), ({"max_pixels": 0}, None), ({"max_pixels": None}, None)],
)
def test_a_run_passes_the_bound_to_all_its_loaders(tmp_path: Path, asked: dict[str, Any], bound: int | None) -> None:
    from lightly_aug.pretrain_options import PretrainOptions
    from lightly_aug.train.build import build_views
    from lightly_aug.train.data import evaluation_loaders, find_source, pair_batches

    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(photo(60, 100), "PNG"))
    source = find_source(tmp_path)
    collate = build_views(source, PretrainOptions(size=16, **asked))
    assert collate.max_pixels == bound
    options: dict[str, Any] = {"size": 16, "normalize": None, "decode": None, "max_pixels": collate.max_pixels}
    collates: list[Any] = [loader.collate_fn for loader in evaluation_loaders(source, **options)]
    assert [each.max_pixels for each in collates] == [bound, bound]
    if bound == 5999:
        with pytest.raises(ImageError, match=LARGE):
            pair_batches(source, **options)
