"""A progress bar for `fit`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightly_aug.optional import extra
from lightly_aug.train.loop import Step

__all__ = ["progress"]


@contextmanager
def progress(title: str) -> Iterator[Callable[[Step], None]]:
    """Show a bar, the loss and the time that is left; give the result to `fit` as `on_step`.

    Where there is no terminal, only the end is shown. The loss is read at every tenth step alone, since reading it
    waits for the device.

    Args:
        title: stands in front of the bar.
    """
    with extra("demo"):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn()
    with Progress(TextColumn(title), *columns) as bar:
        task = bar.add_task(title, total=None, loss=float("nan"))

        def on_step(step: Step) -> None:
            bar.update(task, completed=step.number, total=step.total)
            if step.number % 10 == 1 or step.number == step.total:
                bar.update(task, loss=float(step.loss))

        yield on_step
