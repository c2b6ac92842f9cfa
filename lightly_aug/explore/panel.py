"""The panel of controls of the page."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from lightly_aug.explore.controls import Control, list_controls, set_field
from lightly_aug.explore.recipe import PRESETS, Kind, Recipe, choose, is_active
from lightly_aug.operations import Normalize
from lightly_aug.optional import extra

with extra("explore"):
    from nicegui import ui

__all__ = ["Panel"]

_MOST_VIEWS: Final = 12
_THIN: Final = "thumb-size=14px track-size=3px"


class Panel:
    """The controls of one recipe at a time.

    Args:
        recipes: One recipe, or two.
        changed: Called with the number and the recipe when it was changed.
    """

    def __init__(self, recipes: Sequence[Recipe], changed: Callable[[int, Recipe], None]) -> None:
        self.recipes = list(recipes)
        self._changed = changed
        self._side = 0
        self._kind = 0
        self._stack = ui.column().classes("stack")
        self.show(recipes)

    def show(self, recipes: Sequence[Recipe]) -> None:
        """Show other recipes.

        Args:
            recipes: One recipe, or two; of two the second is shown.
        """
        self.recipes = list(recipes)
        self._side = len(recipes) - 1
        self._build()

    @property
    def _recipe(self) -> Recipe:
        return self.recipes[self._side]

    def _set(self, recipe: Recipe, *, rebuild: bool = False) -> None:
        self.recipes[self._side] = recipe
        if rebuild:
            self._build()
        else:
            self._reset.set_enabled(recipe.changed)
        self._changed(self._side, recipe)

    def _build(self) -> None:
        recipe = self._recipe
        self._kind = min(self._kind, max(0, len(recipe.kinds) - 1))
        self._stack.clear()
        with self._stack:
            if len(self.recipes) > 1:
                _toggle({0: "A", 1: "B"}, self._side, self._turn_side).classes("sides")
            with ui.row().classes("control"):
                names = {name: preset.title for name, preset in PRESETS.items()}
                ui.select(names, value=recipe.preset, label="views of", on_change=self._choose).props(
                    "dense outlined options-dense"
                ).classes("preset").style("flex:1")
                self._reset = ui.button(icon="restart_alt", on_click=self._restore).props(
                    'flat round dense color=inherit aria-label="Reset"'
                )
                self._reset.tooltip("Reset all controls to this recipe").set_enabled(recipe.changed)
            if recipe.kinds:
                self._build_kind()
            else:
                self._build_fixed()
            ui.switch("Normalize", value=recipe.normalize is not None, on_change=self._normalize).props(
                "dense"
            ).classes("normalize").tooltip("Whether the code normalises the views; the page shows them before it")

    def _build_fixed(self) -> None:
        def resize(side: float) -> Recipe:
            normalize = self._recipe.normalize
            return replace(choose(self._recipe.preset, int(side)), normalize=normalize)

        ui.label(
            "Views of one image share parts of their draws, or are cut from one crop. They are shown as they are."
        ).classes("note")
        control = Control("size", "Side of the views in pixels.", self._recipe.size, 48, 320, 16, ())
        self._draw_control(control, "size", lambda value: self._set(resize(value)))

    def _build_kind(self) -> None:
        recipe, number = self._recipe, self._kind
        kinds = None
        if len(recipe.kinds) > 1:
            kinds = _toggle(_name_kinds(recipe.kinds), number, self._turn_kind).classes("kinds")

        def recount(value: float) -> None:
            kind = self._recipe.kinds[number]
            self._set(self._recipe.set_kind(number, replace(kind, count=int(value))))
            if kinds is not None:
                kinds.set_options(_name_kinds(self._recipe.kinds))

        count = Control("views", "Number of such views.", recipe.kinds[number].count, 1, _MOST_VIEWS, 1, ())
        self._draw_control(count, "views", recount)
        for place in range(len(recipe.kinds[number].items)):
            self._draw_card(number, place)

    def _draw_card(self, number: int, place: int) -> None:
        item = self._recipe.kinds[number].items[place]
        kind = type(item).__name__
        with ui.column().classes("card") as card:
            ui.html(f"<h3>{kind}</h3>", sanitize=False)

            def dim() -> None:
                on = is_active(self._recipe.kinds[number].items[place])
                card.classes(remove="off") if on else card.classes(add="off")

            def setter(name: str) -> Callable[[Any], None]:
                def change(value: Any) -> None:
                    item = self._recipe.kinds[number].items[place]
                    self._set(self._recipe.set_item(number, place, set_field(item, name, value)))
                    dim()

                return change

            for control in list_controls(item):
                self._draw_control(control, f"{kind}.{control.name}", setter(control.name))
            dim()

    def _draw_control(self, control: Control, key: str, change: Callable[[Any], None]) -> None:
        """Draw one control, which tests and style sheets find by its `data-field`."""
        with ui.row().classes("control").props(f"data-field={key}"):
            ui.label(control.name).classes("label").tooltip(control.help)
            if control.choices:
                names = {choice: str(choice) for choice in control.choices}
                ui.toggle(names, value=control.value, on_change=lambda e: change(e.value)).props(
                    "dense flat no-caps spread size=12px"
                )
                return

            def moved(event: Any) -> None:
                value = (event.value["min"], event.value["max"]) if isinstance(event.value, dict) else event.value
                shown.text = replace(control, value=value).text
                change(value)

            limits: dict[str, Any] = {"min": control.low, "max": control.high, "step": control.step}
            slider: ui.range | ui.slider
            if isinstance(control.value, tuple):
                low, high = control.value
                slider = ui.range(**limits, value={"min": low, "max": high}, on_change=moved)
            else:
                slider = ui.slider(**limits, value=control.value, on_change=moved)  # type: ignore[arg-type]
            slider.LOOPBACK = None  # no answer of the server moves a thumb back that has been moved on
            slider.props(f'{_THIN} aria-label="{key}"')
            shown = ui.label(control.text).classes("value")

    def _turn_side(self, event: Any) -> None:
        self._side = event.value
        self._build()

    def _turn_kind(self, event: Any) -> None:
        self._kind = event.value
        self._build()

    def _choose(self, event: Any) -> None:
        self._set(choose(event.value, self._recipe.size), rebuild=True)

    def _restore(self) -> None:
        self._set(choose(self._recipe.preset, self._recipe.size), rebuild=True)

    def _normalize(self, event: Any) -> None:
        usual = choose(self._recipe.preset, self._recipe.size).normalize or Normalize()
        self._set(replace(self._recipe, normalize=usual if event.value else None))


def _toggle(names: dict[int, str], value: int, change: Callable[[Any], None]) -> ui.toggle:
    return (
        ui.toggle(names, value=value, on_change=change)
        .props("dense no-caps spread unelevated size=12px")
        .style("width:100%")
    )


def _name_kinds(kinds: Sequence[Kind]) -> dict[int, str]:
    """Name the kinds of views by their places, such as "views 0–1"."""
    names, start = {}, 0
    for number, kind in enumerate(kinds):
        last = start + kind.count - 1
        names[number] = f"view {start}" if kind.count == 1 else f"views {start}–{last}"
        start += kind.count
    return names
