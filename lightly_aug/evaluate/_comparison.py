"""What several networks ignore, side by side: as a table, and as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from lightly_aug.evaluate._estimate import Estimate
from lightly_aug.evaluate._firing import Firing
from lightly_aug.evaluate._invariance import Curve, Invariance
from lightly_aug.evaluate._read_out import ReadOut
from lightly_aug.evaluate._use import Use

__all__ = ["InvarianceComparison", "compare_invariance"]

_WHOLE: Final = "all, as drawn"
"""Stands in the rows of groups in place of an operation."""


@dataclass(frozen=True)
class InvarianceComparison:
    """What several networks ignore, the result of `compare_invariance`.

    Attributes:
        networks: One for each network.
    """

    networks: tuple[Invariance, ...]

    def select(self, *names: str) -> "InvarianceComparison":
        """Return the scores of some groups and operations, for a smaller table or picture.

        Args:
            *names: Names of groups and operations.

        Raises:
            ValueError: A name is not among those that were measured.
        """
        known = {curve.name for n in self.networks for curve in (*n.groups, *n.operations)}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"select: names must be among {', '.join(sorted(known))}, got {unknown}")
        return InvarianceComparison(
            tuple(
                replace(
                    n,
                    groups=tuple(curve for curve in n.groups if curve.name in names),
                    operations=tuple(curve for curve in n.operations if curve.name in names),
                )
                for n in self.networks
            )
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Return the scores as a table of text: a head, then a row for each group, followed by its operations.

        A cell has the score and its 95 % interval; it is empty where a network was not measured.
        """
        curves = [{(c.group, c.name): c.score for c in (*n.groups, *n.operations)} for n in self.networks]
        names = [(c.group, c.name) for n in self.networks for c in (*n.groups, *n.operations)]
        groups = list(dict.fromkeys(group for group, _ in names))
        ordered = sorted(dict.fromkeys(names), key=lambda name: (groups.index(name[0]), name[0] != name[1]))
        table = [("group", "operation", *(network.name for network in self.networks))]
        for group, name in ordered:
            scores = (str(known[group, name]) if (group, name) in known else "" for known in curves)
            table.append((group, _WHOLE if group == name else name, *scores))
        return table

    def table(self) -> str:
        """Return the scores as Markdown, with groups in bold: 1 is full invariance, 0 as different as another image."""
        head, *rows = self.rows()
        body = [[f"**{cell}**" if cell else "" for cell in row] if row[1] == _WHOLE else row for row in rows]
        return _write_table([head, *body])

    def report(self) -> str:
        """Return everything as Markdown: the scores, the firing rates, what is read out, and what classes lose."""
        parts = ["## Invariance", self.table(), "## Firing rate (and that of random features)", self._firing()]
        parts += ["## What a linear model reads from the features", self._read_out()]
        if any(network.use for network in self.networks):
            parts += ["## What classes lose", self._use()]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> str:
        """Return everything as JSON, which `from_json` reads."""
        return json.dumps([asdict(network) for network in self.networks], allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "InvarianceComparison":
        """Read what `to_json` wrote.

        Args:
            text: The JSON.

        Raises:
            ValueError: It is something else.
        """
        try:
            return cls(tuple(_read(network) for network in json.loads(text)))
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"InvarianceComparison: text must be JSON of to_json, got one that fails: {error!r}"
            ) from None

    def _firing(self) -> str:
        found = [{c.name: c.firing for c in (*n.groups, *n.operations) if c.firing} for n in self.networks]
        return _by_name(self.networks, found, lambda firing: f"{firing.score:.1f} ({firing.noise:.1f})")

    def _read_out(self) -> str:
        found = [{item.column: item for items in n.read_out.values() for item in items} for n in self.networks]

        def write(item: ReadOut) -> str:
            return f"{item.measure} {item.estimate}" + (f", chance {item.chance:.2f}" if item.chance else "")

        return _by_name(self.networks, found, write)

    def _use(self) -> str:
        return "\n".join(f"- {network.name}: {use}" for network in self.networks for use in network.use.values())


def compare_invariance(networks: Sequence[Invariance]) -> InvarianceComparison:
    """Put what several networks ignore side by side.

    Args:
        networks: Results of `measure_invariance`, with different names. They should be of the same images, with the
            same seed, which draws the same changes.

    Raises:
        ValueError: There are none, or two have the same name.
    """
    names = [network.name for network in networks]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare_invariance: networks must have different names, got {names}")
    return InvarianceComparison(tuple(networks))


def _by_name(networks: Sequence[Invariance], found: Sequence[dict[str, Any]], write: Callable[[Any], str]) -> str:
    names = dict.fromkeys(name for known in found for name in known)
    rows = [[name, *(write(known[name]) if name in known else "" for known in found)] for name in names]
    return _write_table([["", *(network.name for network in networks)], *rows])


def _write_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))


def _read(plain: dict[str, Any]) -> Invariance:
    return Invariance(
        plain["name"],
        plain["images"],
        tuple(map(_read_curve, plain["operations"])),
        tuple(map(_read_curve, plain["groups"])),
        {group: tuple(map(_read_column, items)) for group, items in plain["read_out"].items()},
        {group: _read_use(*use) for group, use in plain["use"].items()},
    )


def _read_curve(plain: dict[str, Any]) -> Curve:
    return Curve(
        **plain
        | {
            "strengths": tuple(plain["strengths"]),
            "points": tuple(Estimate(*point) for point in plain["points"]),
            "score": Estimate(*plain["score"]),
            "layers": {name: Estimate(*value) for name, value in plain["layers"].items()},
            "classes": {name: Estimate(*value) for name, value in plain["classes"].items()},
            "images": tuple(plain["images"]),
            "firing": plain["firing"] and Firing(*plain["firing"]),
        }
    )


def _read_column(plain: Sequence[Any]) -> ReadOut:
    column, measure, value, chance, rows = plain
    return ReadOut(column, measure, Estimate(*value), chance, rows)


def _read_use(name: str, plain: Any, changed: Any, fall: Any, images: int, k: int) -> Use:
    return Use(name, Estimate(*plain), Estimate(*changed), Estimate(*fall), images, k)
