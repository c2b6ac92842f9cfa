"""The page: its bar, its sheet of pictures and its code; one state for each tab of the browser."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lightly_aug.explore.latest import Latest
from lightly_aug.explore.markup import fill_cosines, write_failure, write_sheet
from lightly_aug.explore.panel import Panel
from lightly_aug.explore.recipe import Recipe
from lightly_aug.explore.source import write_code
from lightly_aug.explore.state import State, draw_sides, find_cosines
from lightly_aug.optional import extra
from lightly_aug.weights import Backbone

with extra("explore"):
    from nicegui import background_tasks, ui

__all__ = ["Tab"]

_STYLE: Final = Path(__file__).with_name("page.css")
_COUNTS: Final = [1, 2, 4, 6, 8, 12]
_SEEDS: Final = 2**31


class Tab:
    """One tab of the browser.

    Args:
        folder: Folder of the images.
        state: What it shows at first.
        backbone: A trained network that compares images with their views; None for none.
    """

    def __init__(self, folder: Path, state: State, backbone: Backbone | None) -> None:
        self.folder = folder
        self.state = state
        self.backbone = backbone
        self._latest = Latest(self._draw)
        ui.add_css(_STYLE)
        ui.colors(primary="#2f5bd0")
        self._dark = ui.dark_mode(None)
        with ui.left_drawer(bordered=False).props("width=330 breakpoint=900").classes("panel") as self._drawer:
            self._panel = Panel(state.recipes, self._set_recipe)
        self._draw_bar()
        with ui.element("main").classes("main"):
            self._sheet = ui.html(sanitize=False)  # `write_sheet` escapes all text
            self._codes = ui.element("div")
        self._show_codes()
        self.ask()

    def _draw_bar(self) -> None:
        with ui.header(elevated=False).classes("bar"):
            _button("menu", "Controls", self._drawer.toggle)
            ui.label("lightly_aug").classes("name")
            ui.label(self.folder.resolve().name).classes("where")
            ui.element("div").classes("gap")
            _button("chevron_left", "Previous images", lambda: self._set(self.state.turn(-1)))
            self._place = ui.label().classes("count")
            _button("chevron_right", "Next images", lambda: self._set(self.state.turn(1)))
            _button("shuffle", "Shuffle the images", lambda: self._set(self.state.shuffle()))
            counts = {count: f"{count} image{'s' * (count > 1)}" for count in _COUNTS}
            ui.select(counts, value=self.state.count, on_change=lambda e: self._set_count(e.value)).props(
                "dense borderless options-dense"
            ).classes("images")
            ui.element("div").classes("gap")
            self._seed = (
                ui.number("seed", value=self.state.seed, min=0, max=_SEEDS - 1, precision=0, on_change=self._set_seed)
                .props("dense borderless debounce=200")
                .classes("seed")
            )
            _button("casino", "New draws", lambda: self._seed.set_value((self.state.seed + 1) % _SEEDS))
            ui.switch("A | B", on_change=lambda e: self._compare(e.value)).props("dense").classes("compare").tooltip(
                "Compare two recipes"
            )
            _button("contrast", "Light or dark", self._switch_theme)

    async def _switch_theme(self) -> None:
        dark = await ui.run_javascript("document.body.classList.contains('body--dark')")
        self._dark.set_value(not dark)

    def _set(self, state: State) -> None:
        self.state = state
        self.ask()

    def _set_count(self, count: int) -> None:
        self._set(replace(self.state, count=count, start=self.state.start // count * count))

    def _set_seed(self, event: Any) -> None:
        if event.value is not None:  # while the field is empty
            self._set(replace(self.state, seed=min(max(int(event.value), 0), _SEEDS - 1)))
            self._show_codes()

    def _set_recipe(self, side: int, recipe: Recipe) -> None:
        self._set(self.state.set_recipe(side, recipe))
        self._show_codes()

    def _compare(self, two: bool) -> None:
        first = self.state.recipes[0]
        self._set(replace(self.state, recipes=(first, first) if two else (first,)))
        self._panel.show(self.state.recipes)
        self._show_codes()

    def _show_codes(self) -> None:
        codes = [write_code(recipe, self.state.seed) for recipe in self.state.recipes]
        shown = list(self._codes)
        if len(shown) == len(codes):
            for element, code in zip(shown, codes, strict=True):
                assert isinstance(element, ui.code)
                element.content = code
            return
        self._codes.clear()
        self._codes.classes(replace=f"codes sides-{len(codes)}")
        with self._codes:
            for code in codes:
                ui.code(code)

    def ask(self) -> None:
        """Draw the state soon."""
        first, last = self.state.start + 1, self.state.start + len(self.state.shown)
        self._place.text = (
            f"{first}–{last} of {len(self.state.files)}" if last > first else f"{first} of {len(self.state.files)}"
        )
        background_tasks.create(self._latest.ask(), name="draw")

    async def _draw(self) -> None:
        """Draw the state, or why it cannot be drawn, in a thread, so that the page answers meanwhile."""
        try:
            await self._draw_views()
        except Exception as error:  # views of an earlier state beside the code of this one would be wrong
            logging.getLogger(__name__).exception("lightly-aug explore: cannot draw %s", self.state.recipes)
            self._sheet.content = write_failure(error)

    async def _draw_views(self) -> None:
        damaged, sides = await asyncio.to_thread(draw_sides, self.folder, self.state)
        compared = self.backbone is not None
        self._sheet.content = await asyncio.to_thread(write_sheet, damaged, sides, cosines=compared)
        if self.backbone is not None and not self._latest.outdated:
            cosines = await asyncio.to_thread(find_cosines, self.backbone, sides)
            self._sheet.client.run_javascript(fill_cosines(cosines))


def _button(icon: str, text: str, click: Callable[[], Any]) -> None:
    ui.button(icon=icon, on_click=click).props(f'flat round dense color=inherit aria-label="{text}"').tooltip(text)
