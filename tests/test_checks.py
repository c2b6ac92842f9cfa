"""How arguments are refused: what is taken, and the whole text of every error."""

from typing import Any

import numpy as np
import pytest

from lightly_aug.checks import (
    check_choice,
    check_color,
    check_integer,
    check_interval,
    check_least,
    check_positive,
    check_share,
)

NAN, INF = float("nan"), float("inf")


class Owner:
    """Names itself in errors."""


TAKEN: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = [
    (check_share, (), {}, [0, 1, 0.5, np.float32(1)]),
    (check_positive, (), {}, [1e-9, 1, INF]),
    (check_least, (2,), {}, [2, 3.5, INF]),
    (check_integer, (), {}, [-1, 0, 5, np.int64(3)]),
    (check_integer, (), {"least": 2}, [2, 3]),
    (check_color, (), {}, ["white", "#010203", (0, 128, 255), [0, 0, 0]]),
    (check_interval, (0, 1), {}, [(0, 1), (0.2, 0.2), [0, 0.5]]),
    (check_interval, (0, INF), {"open_low": True}, [(0.1, 1e30)]),
    (check_choice, (("a", 1, None),), {}, ["a", 1, None]),
]

REFUSED: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any], str]] = [
    (check_share, (), {}, [-0.1, 1.1, NAN, 2], "must lie in [0, 1], got {!r}"),
    (check_positive, (), {}, [0, -1, NAN], "must be above 0, got {!r}"),
    (check_least, (2,), {}, [1.9, NAN], "must be at least 2, got {!r}"),
    (check_integer, (), {}, [1.0, "1", None, True], "must be an integer, got {!r}"),
    (check_integer, (), {"least": 2}, [1, 2.5, True], "must be an integer >= 2, got {!r}"),
    (
        check_color,
        (),
        {},
        ["whitish", (0, 0), (0, 0, 256), (-1, 0, 0), (0, 0, 0, 0), (0.5, 0, 0), 7],
        'must be a colour, such as "white", "#ffffff" or (255, 255, 255), got {!r}',
    ),
    (
        check_interval,
        (0, 1),
        {},
        [(0.5, 0.4), (-0.1, 1), (0, 1.1), (0,), (0, 0.5, 1), 0.5, (NAN, 1)],
        "must lie in [0, 1], low <= high, got {!r}",
    ),
    (check_interval, (0, INF), {"open_low": True}, [(0, 1), (1, INF)], "must lie in (0, inf], low <= high, got {!r}"),
    (check_choice, (("cpu", "gpu"),), {}, ["tape", 7], "must be one of 'cpu', 'gpu', got {!r}"),
    (check_choice, (("cpu", 7),), {}, ["CPU", "cqu"], "must be one of 'cpu', 7, got {!r}; did you mean 'cpu'?"),
]


@pytest.mark.parametrize(("check", "arguments", "options", "values"), TAKEN)
def test_what_is_allowed_is_taken(check: Any, arguments: tuple[Any, ...], options: Any, values: list[Any]) -> None:
    for value in values:
        check(Owner(), *arguments, **options, first=values[0], name=value)


@pytest.mark.parametrize(("check", "arguments", "options", "values", "says"), REFUSED)
def test_anything_else_is_refused_by_name(
    check: Any, arguments: tuple[Any, ...], options: Any, values: list[Any], says: str
) -> None:
    for value in values:
        for owner in (Owner(), "Owner"):
            with pytest.raises(ValueError, match=r"^Owner: ") as caught:
                check(owner, *arguments, **options, name=value)
            assert str(caught.value) == f"Owner: name {says.format(value)}"
