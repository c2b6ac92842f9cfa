"""Print the tables of `docs/distributed.md`: what grows with the number of processes, for every method."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

__all__ = ["GROWTH", "PAPERS", "Traffic", "tables"]

RANKS: Final = (8, 64, 256, 1024)


class Traffic(NamedTuple):
    """Bytes that a step sends between processes for the loss and the queues.

    Attributes:
        gathered: Bytes of each rank that all ranks get.
        graded: Those among them that take gradients back.
        broadcast: Bytes of rank 0 that all ranks get.
    """

    gathered: int
    graded: int = 0
    broadcast: int = 0

    def received(self, ranks: int) -> int:
        """Return what a rank receives in a step: joined rows, and a ring all-reduce of the gradients of all rows."""
        return (ranks - 1) * (self.gathered + 2 * self.graded) + self.broadcast


Sizes = Mapping[str, int]


def _pairs(s: Sizes) -> Traffic:
    return Traffic(8 * s["n"] * s["d"], 8 * s["n"] * s["d"])


def _moco(s: Sizes) -> Traffic:  # images to shuffle, and keys: back to their rank, and into the queue
    return Traffic(4 * s["n"] * (s["pixels"] + 2 * s["d"]), 0, 8 * s["n"] * s["ranks"])


def _paws(s: Sizes) -> Traffic:  # supports of anchors and targets, labels twice, and the mean prediction
    rows, mean = 4 * s["labelled"] * s["d"], 4 * s["classes"]
    return Traffic(2 * rows + 16 * s["labelled"] + mean, rows + mean)


def _looc(s: Sizes) -> Traffic:  # four views of keys in four spaces
    keys = 4 * 4 * s["n"] * s["d"]
    return Traffic(4 * (4 * s["n"] * s["pixels"] + keys) + keys, 0, 4 * 8 * s["n"] * s["ranks"])


GROWTH: Final[dict[str, Callable[[Sizes], Traffic]]] = {
    "SimCLR v1": _pairs,
    "SimCLR v2": _pairs,
    "MoCo v1": _moco,
    "MoCo v2": _moco,
    "MoCo v3": lambda s: Traffic(8 * s["n"] * s["d"]),
    "BYOL": lambda s: Traffic(0),
    "SimSiam": lambda s: Traffic(0),
    "Barlow Twins": _pairs,
    "NNCLR": lambda s: Traffic(12 * s["n"] * s["d"], 8 * s["n"] * s["d"]),
    "SwAV": lambda s: Traffic(3 * 2 * 4 * s["prototypes"] + 8 * s["queued"] * s["d"]),
    "DINO": lambda s: Traffic(4 * s["outputs"]),
    "PIRL": lambda s: Traffic(s["n"] * (8 + 4 * s["d"]) + 8, 0, 8 * s["negatives"]),
    "PAWS": _paws,
    "AMDIM": lambda s: Traffic(8 * s["n"] * s["places"] * s["d"], 8 * s["n"] * s["places"] * s["d"]),
    "CPC v2": lambda s: Traffic(16 * s["n"] * s["places"] * s["d"], 16 * s["n"] * s["places"] * s["d"]),
    "LooC": _looc,
}
"""Bytes of a step in float32, by the names of the methods."""

_SIDE = {"pixels": 3 * 224 * 224}
PAPERS: Final[dict[str, Sizes]] = {
    "SimCLR v1": {"d": 128},
    "SimCLR v2": {"d": 128},
    "MoCo v1": {"d": 128} | _SIDE,
    "MoCo v2": {"d": 128} | _SIDE,
    "MoCo v3": {"d": 256},
    "BYOL": {},
    "SimSiam": {},
    "Barlow Twins": {"d": 8192},
    "NNCLR": {"d": 256},
    "SwAV": {"d": 128, "prototypes": 3000, "queued": 0},
    "DINO": {"outputs": 65536},
    "PIRL": {"d": 128, "negatives": 32000},
    "PAWS": {"d": 2048, "labelled": 105, "classes": 1000},
    "AMDIM": {"d": 1536, "places": 25 + 49},
    "CPC v2": {"d": 64, "places": 49},
    "LooC": {"d": 128} | _SIDE,
}
"""Sizes of the methods' defaults, for 224 pixels; AMDIM for 128."""


def _show(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return "0" if size == 0 else f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1000
    raise AssertionError


def tables(images: int = 32) -> str:
    """Return the table of bytes that a rank receives in a step, in Markdown."""
    lines = [
        f"| received by a GPU in a step | {' | '.join(f'{ranks:,} GPUs' for ranks in RANKS)} | joined rows at 1,024 |",
        f"|{'---|' * (len(RANKS) + 2)}",
    ]
    for name, sizes in PAPERS.items():
        traffic = [GROWTH[name]({**sizes, "n": images, "ranks": ranks}) for ranks in RANKS]
        cells = [_show(each.received(ranks)) for each, ranks in zip(traffic, RANKS, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} | {_show(RANKS[-1] * traffic[-1].gathered)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
