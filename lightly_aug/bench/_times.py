"""Where the time of a loader's batches goes, as a table, a picture, and advice."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lightly_aug._html import head
from lightly_aug.bench._picture import draw_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LoaderTimes", "Stage"]

_PLACES: Final = {"loader": "loader", "transport": "from workers to main", "main": "main process"}
_NO_ADVICE: Final = "Nothing stands out."
_FEWEST: Final = 8
"""Batches below which the inferred transport is mostly the noise of the other stages."""
_SENT_AT_MOST: Final = 0.002, 5e-10
"""Seconds that sending a batch can take, and seconds more for each byte, if all memory is touched for the first time.

What is inferred beyond that is contention: workers that share cores and memory compute more slowly than one alone.
"""


@dataclass(frozen=True)
class Stage:
    """One stage of a batch.

    Attributes:
        name: "read" (the bytes of files), "dataset" (what its `__getitem__` does), "decode", "pack", "draw", "render",
            "collate" (the rest of the collate function, or all of one that is not of this library), "transport" (from
            the workers to the main process), "device" (copying and, with `render="late"`, rendering) or "step".
        place: "loader" runs in each worker, or in the main process without workers; "transport" between them; "main"
            in the main process.
        seconds: Wall seconds a batch. Stages of the loader are timed alone, in the main process.
        cpu_seconds: CPU seconds a batch, of all threads. In the rest of the wall time the stage waited: for a
            disk, for a device, or for a core that others use.
    """

    name: str
    place: Literal["loader", "transport", "main"]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, repr=False)
class LoaderTimes:
    """Where the time of a loader's batches goes. `lightly_aug.bench.loader` measures it.

    Everything in it is a number, a text, or a tuple of stages, so `json.dumps(dataclasses.asdict(times))` works.

    Attributes:
        stages: The stages that were seen, in order. That of the transport is what the processes used beyond the other
            stages, so it is inferred; it is missing without workers, and where the system does not tell the CPU time
            of a process.
        batch_size: Images in a batch, on average, without those that `on_error="skip"` leaves out.
        batches: Number of batches that were measured end to end.
        seconds: Wall seconds a batch, end to end, with all workers.
        waited: Seconds of these in which the main process waited for the loader or, without workers, loaded.
        waited_cpu: CPU seconds of the main process in `waited`.
        sent_bytes: Bytes of the tensors in a batch as the loader yields it.
        starting: Seconds from the start of the loader to its first batch, beyond those of a batch.
        workers: Number of workers.
        cores: Number of cores that this process may use.
        blocked: Seconds a batch in which the dataset, or the reading of files, neither computed nor waited for a core.
        epoch: Batches in an epoch; None if the loader does not know.
        device: The device that the batches are moved to.
        render: "worker" or "late", as views are rendered; empty if there are no `Views` in the batches.
        samples: What the images of the samples are: "path", "bytes", "PIL", "array" or "tensor"; empty if unknown.
        image_side: Shorter side of the images in pixels, the median; 0 if unknown.
        view_side: Shorter side of the largest view in pixels; 0 if unknown.
        dtype: Dtype of the views; empty if unknown.
        pin_memory: Whether batches arrive in page-locked memory.
        persistent_workers: Whether workers live longer than an epoch.
        unfused: Names of the operations that the reference engine renders.
        advice: What to change, one sentence each; nothing if nothing stands out.
    """

    stages: tuple[Stage, ...]
    batch_size: float
    batches: int
    seconds: float
    waited: float
    starting: float
    workers: int
    cores: int
    blocked: float = 0.0
    waited_cpu: float = 0.0
    sent_bytes: float = 0.0
    epoch: int | None = None
    device: str = "cpu"
    render: str = ""
    samples: str = ""
    image_side: int = 0
    view_side: int = 0
    dtype: str = ""
    pin_memory: bool = False
    persistent_workers: bool = False
    unfused: str = ""
    advice: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images a second, end to end."""
        return self.batch_size / self.seconds

    @property
    def images_per_second_per_worker(self) -> float:
        """Images a second of each worker; of the main process without workers."""
        return self.images_per_second / max(1, self.workers)

    @property
    def work(self) -> float:
        """Wall seconds that one worker takes for a batch, alone and without the transport."""
        return sum(stage.seconds for stage in self.stages if stage.place == "loader")

    @property
    def transport_is_reliable(self) -> bool:
        """Whether the inferred transport can be true: enough batches were measured, and enough bytes are sent."""
        fixed, a_byte = _SENT_AT_MOST
        return self.batches >= _FEWEST and self.seconds_of("transport") <= fixed + a_byte * self.sent_bytes

    def seconds_of(self, *names: str) -> float:
        """Return the wall seconds a batch of some stages together; 0 for stages that were not seen."""
        return sum(stage.seconds for stage in self.stages if stage.name in names)

    def to_markdown(self) -> str:
        """Return the table, the rates and the advice as Markdown."""
        heads, *rows = _rows(self)
        lines = [heads, ["---", "---", "---:", "---:", "---:"], *rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return "\n\n".join([f"{_title(self)}.", table, _summary(self), _bullets(self.advice, "* ")]) + "\n"

    def show(self, *, title: str = "") -> "Figure":
        """Draw the stages as bars, in the order in which a batch passes through them.

        The full bar is wall time; its dark part is CPU time.

        Args:
            title: Title of the figure.

        Returns:
            A figure with a bar for each stage, and one for the time that the main process waits.

        Raises:
            ModuleNotFoundError: Matplotlib, of the extra "plot", is not installed.
        """
        places = _PLACES | {"transport": f"{_PLACES['transport']}, {_describe_transport(self)}"}
        bars = [(stage.name, places[stage.place], stage.seconds, stage.cpu_seconds) for stage in self.stages]
        bars.append(("main waits" if self.workers else "main loads", places["main"], self.waited, self.waited_cpu))
        heading = (
            f"{self.images_per_second:,.0f} images/s, batches of {self.batch_size:.0f}, "
            f"{self.workers or 'no'} worker{'s' * (self.workers != 1)}"
        )
        return draw_bars(bars, list(places.values()), heading=heading, title=title)

    def _repr_html_(self) -> str:
        heads, *rows = _rows(self)
        aligns = ["left", "left", "right", "right", "right"]
        body = "".join(
            "<tr>"
            + "".join(f"<{tag} style='text-align: {a}'>{c}</{tag}>" for a, c in zip(aligns, cells, strict=True))
            + "</tr>"
            for tag, cells in [("th", heads), *(("td", row) for row in rows)]
        )
        advice = "".join(f"<li>{html.escape(text, quote=False)}</li>" for text in self.advice)
        below = f"<ul>{advice}</ul>" if advice else f"<p>{_NO_ADVICE}</p>"
        return f"{head(_title(self))}<table>{body}</table>{_summary(self)}{below}"

    def __repr__(self) -> str:
        rows = _rows(self)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([_title(self), *(f"  {line}" for line in lines), _summary(self), _bullets(self.advice, "- ")])


def _title(times: LoaderTimes) -> str:
    count = f"{times.batch_size:.0f} image{'s' * (times.batch_size != 1)}"
    workers = f"{times.workers or 'no'} worker{'s' * (times.workers != 1)}"
    return f"LoaderTimes of batches of {count}, {workers}, {times.cores} core{'s' * (times.cores != 1)}"


def _rows(times: LoaderTimes) -> list[list[str]]:
    """Return the cells of the table, its head first."""
    whole = sum(stage.seconds for stage in times.stages) or 1.0
    between = f"worker to main, {_describe_transport(times)}"
    places = {"loader": "worker" if times.workers else "main", "transport": between, "main": "main"}
    rows = [["stage", "where", "ms a batch", "CPU ms", "share"]]
    rows += [
        [stage.name, places[stage.place], _ms(stage.seconds), _ms(stage.cpu_seconds), f"{stage.seconds / whole:.0%}"]
        for stage in times.stages
    ]
    return rows


def _summary(times: LoaderTimes) -> str:
    each = f" ({times.images_per_second_per_worker:,.0f} a worker)" if times.workers > 1 else ""
    doing = "the main process waits for the loader" if times.workers else "loading in the main process takes"
    return (
        f"End to end: {times.images_per_second:,.0f} images/s{each}, a batch every {_ms(times.seconds)} ms, "
        f"of which {doing} {_ms(times.waited)} ms ({times.waited / times.seconds:.0%})."
    )


def _describe_transport(times: LoaderTimes) -> str:
    return "inferred" if times.transport_is_reliable else "not reliable"


def _bullets(texts: Sequence[str], mark: str) -> str:
    return "\n".join(f"{mark}{text}" for text in texts) or _NO_ADVICE


def _ms(seconds: float) -> str:
    """Return milliseconds, with a decimal below 100."""
    return f"{seconds * 1e3:,.1f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"
