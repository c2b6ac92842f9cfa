"""Looking at batches and recipes: `show`, `plan`, and what notebooks show in place of a repr."""

import base64
import io
import re
import sys
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image
from torch.utils.data import DataLoader

from lightly_aug import (
    BaseCollateFunction,
    CenterCrop,
    ColorJitter,
    Indexed,
    LooCCollateFunction,
    MoCoCollateFunction,
    MultiViewCollateFunction,
    Normalize,
    Operation,
    RandomEqualize,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomSolarize,
    Resize,
    Shared,
    SimCLRCollateFunction,
    View,
)
from lightly_aug.batch import RenderedViews
from lightly_aug.engines import reference
from lightly_aug.photographs import photographs


def pixels(figure: Figure) -> list[Any]:
    """Row by row."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def captions(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def heads(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


# --- a batch ----------------------------------------------------------------------------------------------------


def test_a_batch_shows_its_first_samples_as_the_collate_function_does() -> None:
    collate, images = MoCoCollateFunction(16, seed=0, render="late"), photographs(3, 48)
    batch, grid = collate(images).show(2), collate.show(images[:2])
    assert captions(batch) == captions(grid)
    assert all(np.array_equal(a, b) for a, b in zip(pixels(batch), pixels(grid), strict=True))


def test_it_shows_the_whole_batch_if_that_is_smaller() -> None:
    assert len(SimCLRCollateFunction(8, seed=0, render="late")(photographs(2, 32)).show(9).axes) == 2 * 3


@pytest.mark.parametrize("change", [None, torch.bfloat16])
def test_rendered_views_stand_alone_and_lose_their_normalisation(change: torch.dtype | None) -> None:
    views = [View(RandomResizedCrop(16), Normalize()), View(Resize((16, 16)), Normalize(0.5, 0.25), Normalize(0.1, 2))]
    images = photographs(2, 48)
    late, worker = (MultiViewCollateFunction(views, seed=0, render=render)(images) for render in ("late", "worker"))
    expected = [image for i, image in enumerate(pixels(late.show())) if i % 3]
    tolerance = 1e-5 if change is None else 0.02
    for shown in (worker.show(), late.to("cpu", dtype=change).show()):
        assert heads(shown) == ["view 0", "view 1"]
        for one, other in zip(pixels(shown), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance)


def test_views_that_lost_their_batch_say_so_and_are_a_list_in_a_notebook() -> None:
    lost = RenderedViews([torch.rand(2, 3, 8, 8)])
    assert lost._repr_html_() is None
    with pytest.raises(AttributeError, match="lost their batch"):
        lost.show()


def test_what_depends_on_the_whole_batch_is_shown_as_the_batch_has_it() -> None:
    """Kornia draws for all images at once: for two of them it would draw other numbers."""
    collate = MultiViewCollateFunction([View(K.RandomGaussianNoise(p=0.5))], seed=0, render="late")
    batch = collate([torch.rand(3, 8, 8) for _ in range(6)])
    made = batch.to("cpu")[0]
    for shown, view in zip(pixels(batch.show(2))[1::2], made, strict=False):
        np.testing.assert_array_equal(shown, view.permute(1, 2, 0).clamp(0, 1).numpy())


def test_samples_are_drawn_with_all_their_images_and_each_view_is_outlined_in_its_own() -> None:
    views = [View(CenterCrop(8)), View(CenterCrop(4)), View(CenterCrop(6))]
    front, back = (np.full((16, 16 + 8 * i, 3), 200 * i, dtype=np.uint8) for i in range(2))
    collate = MultiViewCollateFunction(views, seed=0, image=("front", "back", "front"), render="late")
    figure = collate.show([{"front": front, "back": back, "label": 3}])
    assert heads(figure) == ["image 0", "image 1", "view 0", "view 1", "view 2"]
    assert captions(figure)[:2] == ["16 × 16", "24 × 16"]
    assert [int(image.flat[0]) for image in pixels(figure)[:2]] == [0, 200]
    first, second = (
        [p.get_xy()[:, 0].min() for p in axes.patches if isinstance(p, Polygon)] for axes in figure.axes[:2]
    )
    assert first == [3.5, 4.5]  # the middle 8 and 6 of 16 columns
    assert second == [9.5]  # the middle 4 of 24


@pytest.mark.parametrize("sample", [(photographs(1, 16)[0], 7), {"image": photographs(1, 16)[0], "label": 7}])
def test_samples_of_a_dataset_can_be_shown(sample: Any) -> None:
    collate = SimCLRCollateFunction(8, seed=0)
    shown, bare = collate.show([sample]), collate.show(photographs(1, 16))
    assert all(np.array_equal(a, b) for a, b in zip(pixels(shown), pixels(bare), strict=True))


def test_wrong_arguments_are_named() -> None:
    collate = SimCLRCollateFunction(8, seed=0)
    images = photographs(1, 16)
    with pytest.raises(ValueError, match="show: heads must be one for each of 2 views, got 1"):
        collate.show(images, heads=["only"])
    with pytest.raises(ValueError, match="SimCLRCollateFunction: draws must be an integer >= 1, got 0"):
        collate.show(images, draws=0)
    with pytest.raises(ValueError, match="Views: count must be an integer >= 1, got 0"):
        collate(images).show(0)


# --- in a notebook ----------------------------------------------------------------------------------------------


def embedded(text: str) -> Image.Image:
    (code,) = re.findall(r"src='data:image/png;base64,([^']+)'", text)
    return Image.open(io.BytesIO(base64.b64decode(code)))


def test_a_notebook_shows_recipes_with_every_argument() -> None:
    collate = LooCCollateFunction(size=16, seed=4)
    text = collate._repr_html_()
    assert text.startswith("<b>LooCCollateFunction</b>(5 views, seed=4")
    for view in collate.views:
        assert all(f"<b>{type(operation).__name__}</b>" in text for operation in view.operations)
    assert "size=(16, 16), scale=(0.08, 1.0), ratio=(0.75, 1.333)" in text
    assert "<code>p=0.5</code> <i>shared: shape</i>" in text
    assert re.findall(r"(views? [\d, ]+)<table>", text) == [f"view {i}" for i in range(5)]
    assert "views 0, 1<table>" in SimCLRCollateFunction(16, seed=0)._repr_html_()
    assert "by the reference engine" not in text
    assert "<b>View</b> of 6 operations" in collate.views[0]._repr_html_()


def test_a_notebook_says_which_operations_are_slow() -> None:
    collate = MultiViewCollateFunction([View(RandomEqualize(), RandomGrayscale())], seed=0)
    assert "RandomEqualize: by the reference engine" in collate._repr_html_()


def test_a_notebook_shows_a_small_grid_of_a_batch() -> None:
    batch = SimCLRCollateFunction(16, seed=0, render="late")(photographs(5, 32))
    assert batch._repr_html_().startswith("<b>Views</b>(2 views of 5 images, 3 channels")
    width, height = batch.show(2).get_size_inches()
    assert embedded(batch._repr_html_()).size == pytest.approx((80 * width, 80 * height), abs=1)
    rendered = batch.to("cpu")._repr_html_()
    assert rendered is not None
    assert embedded(rendered).size[0] < embedded(batch._repr_html_()).size[0]  # without the images


def test_a_notebook_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = SimCLRCollateFunction(16, seed=0, render="late")(photographs(1, 32))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = batch._repr_html_()
    assert "pip install 'lightly-aug[plot]'" in text
    assert "RandomResizedCrop" in text


def test_arguments_are_text_and_no_markup() -> None:
    class Odd(RandomGrayscale):
        def __repr__(self) -> str:
            return "Odd(<script>)"

    text = View(Shared("<b>", Odd(0.5)))._repr_html_()
    assert "&lt;script&gt;" in text
    assert "shared: &lt;b&gt;" in text


# --- the plan ---------------------------------------------------------------------------------------------------

OPERATIONS: list[Operation | torch.nn.Module] = [
    RandomResizedCrop(8),
    RandomHorizontalFlip(),
    RandomRotation(20),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    ColorJitter(0.4, 0.4, 0.4, 0.1, convention="tensorflow"),
    RandomGrayscale(),
    RandomEqualize(),
    RandomGaussianBlur(),
    RandomGaussianBlur(border="zeros"),
    RandomSolarize(),
    K.RandomGaussianNoise(p=1.0),
]


@given(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=5), st.booleans())
def test_the_plan_is_what_is_done(operations: list[Operation], alike: bool) -> None:
    collate = MultiViewCollateFunction([View(*operations, Resize((8, 8)))], seed=0, render="late", engine="cpu")
    batch = collate([torch.rand(3, 12, 10), torch.rand(3, 12, 10) if alike else torch.rand(3, 9, 14)])
    done = list[Operation]()
    render = reference.render

    def spy(images: Any, drawn: Any, own: tuple[Operation, ...], dtype: Any) -> Any:
        done.extend(own)
        return render(images, drawn, own, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "render", spy)
        batch.to("cpu")
    plan = collate.plan()
    mixed = "images of several sizes in one batch: all by the reference" in repr(plan)
    expected = collate.views[0].operations if mixed and not alike else plan.slow
    assert list(dict.fromkeys(done)) == list(dict.fromkeys(expected))


def test_the_reference_engine_does_everything() -> None:
    views = [View(RandomResizedCrop(8)), View(RandomResizedCrop(8), dtype=torch.float64)]
    reference_plan = MultiViewCollateFunction(views[:1], seed=0, engine="reference").plan()
    assert reference_plan.slow == views[0].operations
    assert repr(MultiViewCollateFunction(views, seed=0).plan()).splitlines() == [
        "Plan of 2 views",
        "  view 0: 1 pass",
        "    fused: RandomResizedCrop",
        "  view 1: 1 pass",
        "    reference: RandomResizedCrop",
    ]


def test_a_subclass_plans_and_shows_too() -> None:
    class Own(BaseCollateFunction):
        def __init__(self) -> None:
            super().__init__([View(RandomResizedCrop(8))] * 3, seed=0)

    assert repr(Own().plan()) == "Plan of 3 views\n  views 0, 1, 2: 1 pass\n    fused: RandomResizedCrop"
    assert len(Own().show(photographs(1, 16)).axes) == 4


@pytest.mark.parametrize("images", ["photos", Path("photos"), torch.rand(3, 8, 8), 3, DataLoader[int]([1])])  # type: ignore[arg-type]
def test_what_is_no_sequence_of_images_is_refused(images: Any) -> None:
    with pytest.raises(TypeError, match=r"show: images must be a sequence of .*, got a \w+: write show\("):
        SimCLRCollateFunction(8, seed=0).show(images)


def test_of_many_images_the_first_are_drawn() -> None:
    collate, images = SimCLRCollateFunction(8, seed=0), photographs(1, 16) * 20
    with pytest.warns(UserWarning, match="show: draws the first 16 of 20 images"):
        figure = collate.show(images)
    assert len(figure.axes) == 16 * 3
    assert len(collate.show(image for image in images).axes) == 16 * 3
    assert len(collate.show(Indexed(images[:2])).axes) == 2 * 3


def test_rendered_views_print_shapes_and_no_pixels() -> None:
    views = SimCLRCollateFunction(8, seed=0)(photographs(2, 16)).to("cpu")
    assert repr(views) == f"RenderedViews({', '.join(['(2, 3, 8, 8) torch.float32 on cpu'] * 2)})"


@pytest.mark.parametrize(
    ("count", "small", "width"), [(1, False, 40), (3, True, 90), (4, False, 60), (7, False, 90), (7, True, 20)]
)
def test_a_figure_is_a_page_wide_at_most_and_stays_legible(count: int, small: bool, width: int) -> None:
    view = View(RandomResizedCrop(16), ColorJitter(0.4, 0.4, 0.4, 0.1))
    views = [view, *[View(RandomResizedCrop(8)) if small and i % 2 else view for i in range(count - 1)]]
    collate = MultiViewCollateFunction(views, seed=0)
    images = [torch.rand(3, 40, width)]
    heads = [f"the view with the number {i}" for i in range(count)]
    figure = collate.show(images, heads=heads, title="of some width")
    inches = figure.get_size_inches()
    cells = [axes.get_position(original=True).bounds for axes in figure.axes]
    assert inches[0] <= 9.01
    assert all(height * inches[1] >= 0.9 for _, _, _, height in cells)
    ends = [left + own for left, _, own, _ in cells]
    assert all(end < left for end, (left, *_) in zip(ends, cells[1:], strict=False))
    assert ends[-1] < 1
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert max(box.y1 for box in boxes) <= figure.bbox.height


def test_figures_that_fit_a_page_are_not_shrunk() -> None:
    one = MultiViewCollateFunction([View(RandomResizedCrop(16))], seed=0).show([torch.rand(3, 40, 40)])
    assert [axes.get_position().height * one.get_size_inches()[1] for axes in one.figure.axes] == pytest.approx([2, 2])
