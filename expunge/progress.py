"""Progress bars on stderr when somebody looks, and silence in pipes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Bars", "bars"]


class Bars:
    """Adds bars; each is moved by the function that `add` gives."""

    def __init__(self, add: Callable[[str, int], Callable[[int], None]]) -> None:
        """Use `bars`."""
        self.add = add


@contextmanager
def bars(*, unit: str = "") -> Iterator[Bars]:
    """Show bars while the block runs; they disappear at its end.

    `bars.add(title, total)` gives a function that takes how much of the total is done.

    Args:
        unit: `B` shows sizes of files; else whole numbers are shown.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bars(lambda _title, _total: _ignore)
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if unit == "B" else MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )

    def add(title: str, total: int) -> Callable[[int], None]:
        task = progress.add_task(title, total=total)
        return lambda done: progress.update(task, completed=done)

    with progress:
        yield Bars(add)


def _ignore(_done: int) -> None:
    """Show nothing."""
