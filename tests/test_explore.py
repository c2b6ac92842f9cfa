"""The page of `lightly-aug explore`: its code gives the views that it shows, and nothing else can read the images."""

import asyncio
import base64
import http.client
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightly_aug import Color, Normalize, RandomEqualize, Shape, Texture
from lightly_aug.cli import main
from lightly_aug.explore import PRESETS, Recipe, choose, render, write_code
from lightly_aug.explore.album import Damaged, Picture, read_pictures
from lightly_aug.explore.controls import list_controls, set_field
from lightly_aug.explore.latest import Latest
from lightly_aug.explore.markup import Side, fill_cosines, write_failure, write_sheet
from lightly_aug.explore.rendering import compare
from lightly_aug.explore.state import State, draw_sides, find_cosines
from lightly_aug.models import resnet
from lightly_aug.photographs import photographs
from lightly_aug.weights import BACKBONE, Backbone, save_backbone

FIXED = {"amdim", "cpc", "looc", "pirl"}


def execute(code: str) -> Any:
    """Run the code as a program of its own, and return its collate function."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names["collate"]


def noise(*sizes: tuple[int, int]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def write_folder(place: Path) -> Path:
    """Write photographs as lossless files, one in a subfolder, and one that is damaged."""
    (place / "more").mkdir(parents=True)
    sides = (500, 420), (150, 100), (100, 150), (40, 300)  # the first is shrunk while it is read
    chosen = [image.convert("RGB").resize(side) for image, side in zip(photographs(4), sides, strict=True)]
    for number, image in enumerate(chosen):
        image.save(place / ("more" if number == 3 else ".") / f"{number}.png")
    (place / "+<i>bad.png").write_bytes((place / "0.png").read_bytes()[:200])
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


# --- recipes and their code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_code_of_a_preset_makes_its_views(preset: str, size: int) -> None:
    recipe = choose(preset, size)
    assert bool(recipe.kinds) == (preset not in FIXED)
    assert not recipe.changed
    wanted = PRESETS[preset].views(size, seed=5, render="late")
    made = execute(write_code(recipe, seed=5))
    assert (made.views, made.seed) == (wanted.views, 5)
    shown = [tuple(step for step in view.operations if not isinstance(step, Normalize)) for view in wanted.views]
    assert [view.operations for view in recipe.views] == shown


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any recipe that the controls can set."""
    recipe = choose(draw(st.sampled_from(sorted(PRESETS))), draw(st.sampled_from([48, 64])))
    for number, kind in enumerate(recipe.kinds):
        items = list(kind.items)
        for place in draw(st.lists(st.sampled_from(range(len(items))), max_size=3)):
            control = draw(st.sampled_from(list_controls(items[place])))
            numbers = st.floats(control.low, min(control.high, 64 if control.name == "size" else control.high))
            value: Any = draw(st.sampled_from(control.choices) if control.choices else numbers)
            if isinstance(control.value, tuple):
                value = tuple(sorted((value, draw(numbers))))
            items[place] = set_field(items[place], control.name, value)
        recipe = recipe.set_kind(number, replace(kind, items=tuple(items), count=draw(st.integers(1, 3))))
    return replace(recipe, normalize=draw(st.sampled_from([None, Normalize(), recipe.normalize])))


@given(recipes(), st.integers(0, 2**31 - 1))
def test_any_recipe_shows_what_its_code_makes(recipe: Recipe, seed: int) -> None:
    images = noise((70, 90), (65, 64))
    shown = render(recipe, seed, images)
    made = execute(write_code(recipe, seed))(images)
    drawn = [view.captions(table) for view, table in zip(made.views, made.table.double().numpy(), strict=True)]
    assert len(shown[0]) == len(made.views)
    for number, view in enumerate(made.to("cpu")):
        pixels = np.stack([row[number].pixels for row in shown]).astype(np.float64)
        found = view.permute(0, 2, 3, 1).double().numpy()
        if recipe.normalize is None:
            np.testing.assert_array_equal(pixels, np.rint(view.permute(0, 2, 3, 1).numpy() * np.float32(255)))
        else:
            mean, std = np.array(recipe.normalize.mean), np.array(recipe.normalize.std)
            np.testing.assert_allclose(pixels, 255 * (found * std + mean), atol=0.501)
        assert [row[number].caption for row in shown] == [", ".join(words) for words in drawn[number]]


def test_code_leaves_out_defaults_and_what_cannot_happen() -> None:
    recipe = choose("byol", 96)
    kind = recipe.kinds[0]
    items = (Shape(96), Color(hue=0.25), Texture(blur=0.0), RandomEqualize(0.0))
    recipe = replace(recipe, kinds=(replace(kind, items=items, count=2),), normalize=None)
    assert recipe.changed
    assert write_code(recipe, seed=3) == (
        "# BYOL, changed\n"
        "from lightly_aug import (\n    Color,\n    MultiViewCollateFunction,\n    Shape,\n    View,\n)\n\n"
        "view = View(\n    Shape(size=96),\n    Color(hue=0.25),\n)\n"
        "collate = MultiViewCollateFunction(\n    [view] * 2, decode=192, seed=3\n)"
    )


def test_code_is_formatted() -> None:
    codes = [write_code(choose(preset, 96), seed=2**31 - 1) for preset in PRESETS]
    for number, code in enumerate(codes):
        form = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "62", "-"]
        done = subprocess.run(form, input=code, capture_output=True, text=True, check=True)
        assert done.stdout == code + "\n", list(PRESETS)[number]


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - FIXED))
def test_there_is_a_control_for_every_field_and_operation(preset: str) -> None:
    for kind in choose(preset, 64).kinds:
        kinds = {type(item).__name__ for item in kind.items}
        assert {"Color", "Texture", "RandomEqualize"} <= kinds
        assert kinds & {"Shape", "CenterCrop"}
        for item in kind.items:
            controls = list_controls(item)
            assert [control.name for control in controls] == [field.name for field in fields(item) if field.init]  # type: ignore[arg-type]
            for control in controls:
                assert control.help.endswith(".")
                ends = control.choices or (control.low, control.high)
                for end in ends:  # both ends of every slider are valid
                    value: Any = (end, end) if isinstance(control.value, tuple) else end
                    set_field(item, control.name, value)


def test_a_region_is_the_crop_that_was_drawn() -> None:
    recipe = choose("simclr", 48)
    images = noise((80, 120), (60, 50), (50, 90))
    views = execute(write_code(recipe, 4))(images)
    for i in range(2):
        draws = views.draws[i]
        for row, drawn in enumerate(render(recipe, 4, images)):
            top, left, h, w = (
                float(draws[f"RandomResizedCrop.{name}"][row]) for name in ("top", "left", "height", "width")
            )
            low, high = drawn[i].region.min(0), drawn[i].region.max(0)
            np.testing.assert_allclose([*low, *high], [left, top, left + w, top + h], atol=1e-9)
            flipped = bool(draws["RandomHorizontalFlip.applied"][row])
            assert (drawn[i].region[0, 0] > left) == flipped  # the first corner is that of the view


def test_cosines_are_those_of_the_features() -> None:
    torch.manual_seed(0)
    metadata = {"backbone": None, "size": 32, "normalize": None, "mode": "RGB", "background": "white"}
    backbone = Backbone(resnet("resnet10", stem="cifar"), metadata, render="late").eval().freeze()
    images = noise((40, 50), (64, 33))
    shown = render(choose("simclr", 48), 0, images)
    for image, row, cosines in zip(images, shown, compare(backbone, images, shown), strict=True):
        own = backbone(image)[0].double().numpy()
        for view, cosine in zip(row, cosines, strict=True):
            other = backbone(view.pixels)[0].double().numpy()
            assert cosine == pytest.approx(own @ other / np.linalg.norm(own) / np.linalg.norm(other), abs=1e-5)


# --- images -----------------------------------------------------------------------------------------------------


def test_damaged_changed_and_vanished_files(folder: Path) -> None:
    files = sorted(folder.glob("*.png"))
    bad, _, second, *_ = read_pictures(folder, files, decode=64)
    assert isinstance(bad, Damaged)
    assert bad.name == "+<i>bad.png"
    assert "cannot read" in bad.reason
    assert isinstance(second, Picture)
    assert read_pictures(folder, files, decode=64)[2] is second
    np.testing.assert_array_equal(second.pixels, np.asarray(Image.open(files[2])))
    Image.new("RGB", (80, 70), "red").save(files[2])
    changed = read_pictures(folder, files, decode=64)[2]
    assert isinstance(changed, Picture)
    assert changed.pixels.shape == (70, 80, 3)
    shutil.rmtree(folder)
    assert all(isinstance(each, Damaged) for each in read_pictures(folder, files, decode=64))
    damaged, sides = draw_sides(folder, State(tuple(files), (choose("simclr", 48),)))
    assert "No such file" in write_sheet(damaged, sides)


def test_files_are_read_as_the_code_reads_them(folder: Path) -> None:
    files = sorted(folder.rglob("?.png"))
    recipes = tuple(replace(choose(preset, size), normalize=None) for preset, size in (("byol", 64), ("looc", 48)))
    damaged, sides = draw_sides(folder, State(tuple(files), recipes, seed=7))
    assert damaged == [None] * 4
    for recipe, side in zip(recipes, sides, strict=True):
        shown = [view.pixels for row in side.views for view in row]
        assert equal(shown, made_views(write_code(recipe, 7), files))
        assert side.pictures[0].pixels.shape[0] < 420


def test_a_sheet_shows_two_recipes_and_escapes_names(folder: Path) -> None:
    state = State(tuple(sorted(folder.rglob("*.png"))), (choose("simclr", 48), choose("cpc", 64)), count=5)
    damaged, sides = draw_sides(folder, state)
    text = write_sheet(damaged, sides)
    assert "+&lt;i&gt;bad.png" in text
    assert "+<i>bad.png" not in text
    assert text.count('<figure class="view"') == 4 * (2 + 49)
    assert text.count('<figure class="original"') == 4 * 2
    assert text.count("<polygon points") == 4 * (2 + 49)
    assert "<i>A</i> SimCLR v1" in text
    assert "<i>B</i> CPC v2" in text
    assert "cosine" not in text


def test_a_very_narrow_image_is_seen_and_an_error_is_escaped() -> None:
    recipe = choose("simclr", 48)
    for shape in ((1, 1), (2, 3000), (3000, 2)):
        pixels = np.zeros((*shape, 3), np.uint8)
        side = Side("one", [Picture("a.png", pixels, b"")], render(recipe, 0, [pixels]))
        assert "0px" not in re.findall(r"(?:width|height):(\d+px)", write_sheet([None], [side]))
    assert "MemoryError: &lt;b&gt;" in write_failure(MemoryError("<b>"))


def test_cosines_have_places_in_the_sheet(folder: Path) -> None:
    """In the order of the page: the means of both recipes, and then, image by image, those of the views."""
    metadata = {"backbone": None, "size": 32, "normalize": None, "mode": "RGB", "background": "white"}
    backbone = Backbone(resnet("resnet10", stem="cifar"), metadata, render="late").eval().freeze()
    recipes = choose("simclr", 48), choose("shape", 64)
    damaged, sides = draw_sides(folder, State(tuple(sorted(folder.glob("*.png"))), recipes))
    first, second = np.array(find_cosines(backbone, sides))
    assert first.shape == second.shape == (3, 2)
    sheet = write_sheet(damaged, sides, cosines=True)
    assert sheet.count('class="cosine"') == 2 + 12
    texts = json.loads(fill_cosines([first.tolist(), second.tolist()]).partition("= ")[2].removesuffix("[i])"))
    expected = [f"cosine {first.mean():.2f}", f"cosine {second.mean():.2f}"]
    for own, other in zip(first, second, strict=True):
        expected += [f"{cosine:.2f}" for cosine in (*own, *other)]
    assert texts == expected
    assert '["", ""]' in fill_cosines([[], []])  # all images are damaged


def test_turning_pages_and_shuffling() -> None:
    files = tuple(Path(str(i)) for i in range(10))
    state = State(files, (choose("simclr", 48),), count=4)
    assert [state.turn(i).shown for i in (0, 1, 2, 3, -1)] == [
        files[:4], files[4:8], files[8:], files[:4], files[8:],
    ]  # fmt: skip
    shuffled = state.turn(1).shuffle()
    assert shuffled.start == 0
    assert sorted(shuffled.files) == sorted(files)
    assert any(state.shuffle().files != files for _ in range(9))


def test_of_a_burst_only_the_last_is_drawn() -> None:
    wanted, done = 0, []

    async def draw() -> None:
        began = wanted
        await asyncio.sleep(0.02)
        done.append(began)

    async def burst() -> None:
        nonlocal wanted
        latest = Latest(draw)
        first = asyncio.create_task(latest.ask())
        await asyncio.sleep(0.005)
        for wanted in range(1, 9):  # noqa: B007  # read by draw
            await latest.ask()
            assert latest.outdated
        await first
        assert not latest.outdated
        wanted = 9
        await latest.ask()  # at rest again

    asyncio.run(burst())
    assert done == [0, 8, 9]


# --- the server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "host", "origin", "passes"),
    [
        ("http", "127.0.0.1:8080", None, True),
        ("http", "localhost:9000", "http://localhost:9000", True),
        ("http", "evil.example:8080", None, False),
        ("http", "127.0.0.1.evil.example:8080", None, False),
        ("http", "", None, False),
        ("http", "127.0.0.1:8080", "http://evil.example", False),
        ("websocket", "127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("websocket", "127.0.0.1:8080", "http://127.0.0.1:9999", False),
        ("websocket", "127.0.0.1:8080", "null", False),
        ("websocket", "evil.example", "http://evil.example", False),
        ("lifespan", "", None, True),
    ],
)
def test_only_this_machine_and_this_page_get_an_answer(kind: str, host: str, origin: str | None, passes: bool) -> None:
    from lightly_aug.explore.server import LocalOnly

    reached, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    scope: dict[str, Any] = {"type": kind} if kind == "lifespan" else {"type": kind, "headers": headers}
    asyncio.run(LocalOnly(app)(scope, receive, send))
    assert bool(reached) == passes
    if kind == "http":
        assert sent[0]["status"] == (200 if passes else 403)
    if passes and kind == "http":
        policy = dict(sent[0]["headers"])[b"content-security-policy"].decode()
        assert "default-src 'none'" in policy
        assert "http" not in policy


@pytest.mark.parametrize(
    ("site", "destination", "passes"),
    [
        ("none", "document", True),
        ("same-origin", "script", True),
        ("cross-site", "document", True),  # a link on another site
        ("cross-site", "image", False),
        ("cross-site", "iframe", False),
        ("same-site", "script", False),  # another port of this machine
    ],
)
def test_other_sites_cannot_embed_the_page(site: str, destination: str, passes: bool) -> None:
    from lightly_aug.explore.server import LocalOnly

    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        return {"type": "http.request"}

    headers = {"host": "localhost:8080", "sec-fetch-site": site, "sec-fetch-dest": destination}
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(LocalOnly(app)(scope, receive, send))
    assert bool(reached) == passes


def test_the_port_is_local_and_may_be_taken() -> None:
    from lightly_aug.explore.server import listen

    with listen(None) as any_port, listen(None) as other:
        host, port = any_port.getsockname()
        assert host == other.getsockname()[0] == "127.0.0.1"
        assert port != other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"--port must be a free port of this machine, got {port}: .*in use"):
            listen(port)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def test_help_and_errors_before_the_server_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, "explore", "--help")
    assert code == 0
    assert "Example: lightly-aug explore" in " ".join(out.replace("│", "").split())
    for option in ("--size", "--backbone", "--port", "--open", "--no-open"):
        assert option in out
    assert run(capsys, "explore", tmp_path)[2] == (
        f"Error: {tmp_path} must hold images (jpg, png, tif, webp, bmp, gif), got none\n"
    )
    assert run(capsys, "explore", tmp_path / "no")[::2] == (2, f"Error: no folder {tmp_path / 'no'}\n")
    monkeypatch.setitem(sys.modules, "nicegui", None)
    code, _, err = run(capsys, "explore", tmp_path)
    assert (code, "pip install 'lightly-aug[explore]'" in err) == (2, True)


def test_a_shell_completes_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LIGHTLY_AUG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "lightly-aug explo")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run(capsys)[1].split() == ["explore"]


# --- the page in a browser --------------------------------------------------------------------------------------


class Served(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    folder: Path


@contextmanager
def serve(folder: Path, *options: Any) -> Iterator[Served]:
    """The command in a process of its own."""
    render(choose("simclr", 48), 0, noise((9, 9)))  # so that the engine is compiled
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "lightly_aug", "explore", folder, "--size", "64", "--no-open", "--port", port]
    process = subprocess.Popen(
        list(map(str, [*words, *options])), cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://127.0.0.1:{port} shows 5 images of {folder}; Ctrl-C ends it\n"
        yield Served(process, port, folder)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command; the last test ends it."""
    with serve(write_folder(tmp_path_factory.mktemp("explore") / "photos")) as started:
        yield started


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_server_gives_images_to_nobody_else(served: Served) -> None:
    port, name = served.port, served.folder.name
    assert get(port, "/")[0] == 200
    assert get(port, "/", Host="evil.example")[0] == 403
    assert get(port, "/", Origin="http://evil.example")[0] == 403
    socket_path = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert get(port, socket_path, Origin="http://evil.example")[0] == 403
    pixels = (served.folder / "0.png").read_bytes()
    for path in (
        f"/../{name}/0.png", f"/{name}/0.png", "/0.png", "/..%2f0.png", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
        f"/_nicegui/../../{name}/0.png", str(served.folder / "0.png"), "/docs", "/openapi.json",
    ):  # fmt: skip
        status, body = get(port, path)
        assert status == 404, path
        assert pixels not in body
    assert {path.name for path in served.folder.parent.iterdir()} == {name}  # nothing is written


def find_chromium(playwright: Any) -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    paths = [shutil.which(name) for name in names] + [playwright.chromium.executable_path]
    found: str | None = next((path for path in paths if path and Path(path).exists()), None)
    if found is None:
        pytest.skip(f"needs a browser: one of {', '.join(names)}, or `playwright install chromium`")
    return found


def launch(playwright: Any) -> Any:
    flags = "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update disable-sync"
    return playwright.chromium.launch(
        executable_path=find_chromium(playwright), args=[f"--{flag}" for flag in (*flags.split(), "no-first-run")]
    )


def shown_views(page: Any) -> list[np.ndarray[Any, Any]]:
    sources = page.locator(".view img").evaluate_all("images => images.map(image => image.src)")
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))) for source in sources]


def shown_code(page: Any) -> str:
    text: str = page.locator(".nicegui-code pre").first.inner_text()
    return text.strip()


def made_views(code: str, files: list[Path]) -> list[np.ndarray[Any, Any]]:
    """The views that the code makes of files, image by image, in 8 bits."""
    views = [view.permute(0, 2, 3, 1).numpy() for view in execute(code)(files).to("cpu")]
    return [np.rint(view[row] * np.float32(255)).astype(np.uint8) for row in range(len(files)) for view in views]


def equal(found: list[Any], wanted: list[Any]) -> bool:
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


def wait(page: Any, check: Any, what: str) -> None:
    for _ in range(400):
        if check():
            return
        page.wait_for_timeout(50)
    raise AssertionError(what)


def agree(page: Any, files: list[Path]) -> bool:
    return equal(shown_views(page), made_views(shown_code(page), files))


def move_sliders(page: Any, files: list[Path]) -> None:
    """A burst of slider events changes the views, and the code with them; then the recipe is reset."""
    before, code = shown_views(page), shown_code(page)
    page.locator('[data-field="Shape.degrees"] [tabindex]').focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    wait(page, lambda: "degrees=30" in shown_code(page), "the code has no rotation")
    wait(page, lambda: not equal(shown_views(page), before), "the views did not change")
    wait(page, lambda: agree(page, files), "the code makes other views than those shown")
    page.get_by_label("Reset").click()
    wait(page, lambda: shown_code(page) == code and equal(shown_views(page), before), "not reset")


def drag_range(page: Any, files: list[Path]) -> None:
    """A thumb that is dragged over the other one takes its place, and both reach their ends."""
    code = shown_code(page)
    box = page.locator('[data-field="Shape.scale"] .q-slider__track').bounding_box()
    left, right, y = box["x"], box["x"] + box["width"], box["y"] + box["height"] / 2
    for path in ([left + 8, right + 40], [right, left - 40]):
        page.mouse.move(path[0], y)
        page.mouse.down()
        page.mouse.move(path[1], y, steps=8)
        page.mouse.up()
        page.wait_for_timeout(200)  # a double click is no drag
    wait(page, lambda: "scale=(0.01, 1.0)" in shown_code(page), f"not dragged over each other: {shown_code(page)}")
    wait(page, lambda: agree(page, files), "the code makes other views than those shown")
    page.get_by_label("Reset").click()
    wait(page, lambda: shown_code(page) == code, "not reset")


def set_other_controls(page: Any, files: list[Path]) -> None:
    """A choice and a switch change code and views, and a card whose operations cannot happen is dimmed."""
    code = shown_code(page)
    page.locator('[data-field="Shape.interpolation"]').get_by_text("bilinear").click()
    assert 'interpolation="bicubic"' in code
    wait(page, lambda: "interpolation" not in shown_code(page) and agree(page, files), "not bilinear, the default")
    off = page.locator(".card.off h3")
    assert off.all_inner_texts() == ["RandomEqualize"]
    page.locator('[data-field="Texture.blur"] [tabindex]').focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    wait(page, lambda: off.all_inner_texts() == ["Texture", "RandomEqualize"], "the card is not dimmed")
    wait(page, lambda: "Texture" not in shown_code(page) and agree(page, files), "blur that cannot happen")
    assert page.locator('[data-field="Texture.blur"] .value').inner_text() == "0"
    page.get_by_label("Reset").click()
    wait(page, lambda: shown_code(page) == code and off.count() == 1, "not reset")


def turn_pages(page: Any, files: list[Path]) -> None:
    """Of five images four are shown first, then two; the damaged one is before all others."""

    def shows(place: str, some: list[Path]) -> None:
        wait(page, lambda: page.locator(".count").inner_text() == place, f"not {place}")
        wait(page, lambda: agree(page, some), f"other views than those of {place}")

    shows("1–4 of 5", files[:3])
    page.locator(".images").click()
    page.get_by_role("option", name="2 images", exact=True).click()
    for button, place, some in (
        ("Next", "3–4 of 5", files[1:3]), ("Previous", "1–2 of 5", files[:1]), ("Previous", "5 of 5", files[3:]),
    ):  # fmt: skip
        page.get_by_label(f"{button} images").click()
        shows(place, some)
    orders = set()
    for _ in range(6):  # one of 20 pairs of images each time
        page.get_by_label("Next images").click()
        page.get_by_label("Shuffle the images").click()
        wait(page, lambda: page.locator(".count").inner_text() == "1–2 of 5", "not at the beginning")
        page.wait_for_timeout(200)
        orders.add(tuple(page.locator(".line").all_inner_texts()))
    assert len(orders) > 1


def switch_theme(page: Any) -> None:
    dark = page.evaluate("document.body.classList.contains('body--dark')")
    for wanted in (not dark, dark):
        page.get_by_label("Light or dark").click()
        wait(page, lambda w=wanted: page.evaluate("document.body.classList.contains('body--dark')") == w, "same theme")


def set_seed(page: Any, files: list[Path]) -> None:
    field = page.get_by_label("seed")
    for typed, seed in (("7", 7), (str(2**40), 2**31 - 1), ("0", 0)):
        field.fill(typed)
        wait(page, lambda s=seed: f"seed={s}" in shown_code(page) and agree(page, files), f"not the seed {seed}")


def compare_recipes(page: Any) -> None:
    """B is a copy of A, and changes alone, while its controls are shown; then A does."""
    page.get_by_text("A | B").click()
    codes = page.locator(".nicegui-code pre")
    wait(page, lambda: codes.count() == 2, "no second recipe")
    assert codes.nth(0).inner_text() == codes.nth(1).inner_text()
    shown = page.locator('[data-field="Color.grayscale"] .value')
    for name, side in (("B", 1), ("A", 0)):
        page.locator(".sides").get_by_text(name, exact=True).click()
        wait(page, lambda: shown.inner_text() == "0.2", f"not the controls of {name}")
        before = codes.all_inner_texts()
        page.locator('[data-field="Color.grayscale"] [tabindex]').focus()
        page.keyboard.press("ArrowRight")
        wait(page, lambda s=side: "grayscale=0.25" in codes.nth(s).inner_text(), f"{name} did not change")
        assert codes.nth(1 - side).inner_text() == before[1 - side]
    page.get_by_text("A | B").click()
    wait(page, lambda: codes.count() == 1, "two recipes are left")
    page.get_by_label("Reset").click()


def choose_images_and_draws(page: Any, files: list[Path]) -> None:
    page.locator(".images").click()
    page.get_by_role("option", name="6 images").click()
    page.get_by_label("New draws").click()
    wait(page, lambda: "seed=1" in shown_code(page) and agree(page, files), "the seed is not that of the views")


def choose_preset(page: Any, files: list[Path], title: str, count: int) -> None:
    page.locator(".preset").click()
    page.get_by_role("option", name=title).click()
    wait(page, lambda: shown_code(page).startswith(f"# {title}"), f"no code of {title}")
    wait(page, lambda: len(shown_views(page)) == len(files) * count, f"no views of {title}")
    page.locator(".normalize").click()  # off: the code then makes the pixels that are shown
    wait(page, lambda: agree(page, files), f"the code makes other views than those shown of {title}")


def test_a_sheet_with_cosines_is_sent_once(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    network, arguments = resnet("resnet10", stem="cifar"), {"stem": "cifar"}
    save_backbone(network, tmp_path / "run" / BACKBONE, arch="resnet10", arguments=arguments, size=32, normalize=None)
    folder = write_folder(tmp_path / "photos")
    sheets: list[int] = []

    def receive(frame: Any) -> None:
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        sheets.extend([len(text)] * ("data:image/webp" in text))

    with serve(folder, "--backbone", tmp_path / "run") as started, sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.on("websocket", lambda opened: opened.on("framereceived", receive))
        page.goto(f"http://127.0.0.1:{started.port}/")

        def texts() -> list[str]:
            found: list[str] = page.locator(".cosine").all_inner_texts()
            return found

        wait(page, lambda: len(texts()) == 1 + 3 * 2 and all(texts()), "no cosines")
        mean, *cosines = texts()
        assert float(mean.removeprefix("cosine ")) == pytest.approx(np.mean([*map(float, cosines)]), abs=0.01)
        page.wait_for_timeout(500)  # a second sheet would come
        assert len(sheets) == 1
        page.get_by_label("New draws").click()
        wait(page, lambda: all(texts()) and texts()[1:] != cosines, "no cosines of the new draws")
        assert len(sheets) == 2
        browser.close()


def test_the_page_in_a_browser(served: Served) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    files = [served.folder / name for name in ("0.png", "1.png", "2.png", "more/3.png")]
    asked: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda opened: asked.append(opened.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{served.port}/")

        # the damaged image is first: it has a line, and three others are shown
        wait(page, lambda: len(shown_views(page)) == 3 * 2, "no views")
        assert page.locator(".damaged").inner_text().startswith("+<i>bad.png")
        assert agree(page, files[:3])

        move_sliders(page, files[:3])
        drag_range(page, files[:3])
        set_other_controls(page, files[:3])
        set_seed(page, files[:3])
        switch_theme(page)
        compare_recipes(page)
        turn_pages(page, files)
        page.reload()  # to the order of the files
        wait(page, lambda: agree(page, files[:3]), "no views after a reload")
        choose_images_and_draws(page, files)
        choose_preset(page, files, "SwAV", 8)  # its controls are those of its two kinds of views
        page.locator('[data-field="views"] [tabindex]').focus()
        page.keyboard.press("ArrowRight")
        wait(page, lambda: "views 3–8" in page.locator(".kinds").inner_text(), "the kinds have stale names")
        choose_preset(page, files, "CPC v2", 49)  # has no controls

        # two recipes side by side, in one tab only
        page.get_by_text("A | B").click()
        wait(page, lambda: page.locator(".nicegui-code").count() == 2, "no second recipe")
        other = browser.new_page()
        other.goto(f"http://127.0.0.1:{served.port}/")
        wait(other, lambda: len(shown_views(other)) == 3 * 2, "another tab has the state of this one")

        # the folder vanishes, and Ctrl-C ends the command while tabs are open
        shutil.rmtree(served.folder)
        other.get_by_label("Next images").click()
        wait(other, lambda: other.locator(".damaged").count() == 1, "the page does not survive its folder")
        assert errors == []
        served.process.send_signal(signal.SIGINT)
        out, err = served.process.communicate(timeout=20)
        browser.close()
    err = "".join(line for line in err.splitlines() if "compiling the CPU engine" not in line)  # on a slow machine
    assert (served.process.returncode, out.strip(), err) == (0, "Stopped.", "")
    assert asked
    assert {re.sub(r"^(http|ws)://([^/]*)/.*", r"\2", url) for url in asked if not url.startswith("data:")} == {
        f"127.0.0.1:{served.port}"
    }
