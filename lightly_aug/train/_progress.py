"""A progress bar for `fit`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightly_aug.optional import extra
from lightly_aug.train.loop import Step

__all__ = ["progress"]


@contextmanager
def progress(title: str) -> Iterator[Callable[[Step], None]]:
    """Show a progress bar with loss and remaining time; pass the value it yields to `fit` as `on_step`.

    Without a terminal, only the final state is shown. The loss is read only at every tenth step, since reading it waits
    for the device.

    Args:
        title: Text in front of the bar.
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
