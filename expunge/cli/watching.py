"""`expunge watch`: follow requests until they have ended."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import typer

from expunge.cli.output import Output, OutputOption
from expunge.cli.views import show_views
from expunge.exit_codes import EXIT_INTERRUPTED, EXIT_PARTLY
from expunge.progress import Bars, bars

if TYPE_CHECKING:
    from ledger.model import RequestView
    from producer import Producer

__all__ = ["ProgressLines", "add_to"]

LINE_EVERY_S: Final = 10.0


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch")(watch)


def watch(
    ids: list[str] = typer.Argument(
        metavar="ID...", help="From receipts or `list`; also `@FILE` or `-`, one a line."
    ),
    timeout: float | None = typer.Option(
        None, min=0.0, help="Seconds to wait at most [default: until the end]."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show no progress."),
    output: OutputOption = Output.TABLE,
) -> None:
    """Follow requests until they have ended; the exit code is 0 if all completed, else 3.

    Progress goes to stderr: a bar on a terminal, else a line every 10 s at most. `-o jsonl` prints
    a request each time that something of it changed. 7 when the time ran out, 130 after Ctrl-C;
    the requests go on by themselves in both cases.
    """
    from expunge.cli.values import ids_from  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    wanted = ids_from(ids)
    end = None if timeout is None else time.monotonic() + timeout
    views = []
    try:
        with Producer.from_settings() as producer, _progress(quiet=quiet) as shown:
            for request_id in wanted:
                left = None if end is None else max(0.0, end - time.monotonic())
                views.append(_follow(producer, request_id, left, shown, output))
    except KeyboardInterrupt:
        typer.echo(
            "Interrupted. The request goes on by itself; look again: expunge watch "
            + " ".join(ids),
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if output is not Output.JSONL:
        show_views(views, output=output, single=len(ids) == len(wanted) == 1)
    if any(view.state.value != "complete" for view in views):
        raise typer.Exit(EXIT_PARTLY)


class ProgressLines:
    """Writes how far a request is, a line every 10 s at most, for logs and pipes."""

    def __init__(
        self, write: Callable[[str], object], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with the first view.

        Args:
            write: Takes a line.
            monotonic: A clock in seconds.
        """
        self._write = write
        self._monotonic = monotonic
        self._next = float("-inf")
        self._last = ""

    def show(self, view: "RequestView") -> None:
        """Write a line when it is time and something has changed."""
        counts = view.counts
        done = counts.unique - counts.pending
        held = f", held ({view.hold_reason})" if view.held else ""
        line = f"{view.id} {view.state.value}{held}: {done:,} of {counts.unique:,}"
        now = self._monotonic()
        if line != self._last and now >= self._next:
            self._write(line)
            self._last = line
            self._next = now + LINE_EVERY_S


def _progress(*, quiet: bool) -> AbstractContextManager[Bars | ProgressLines | None]:
    if quiet:
        return nullcontext()
    if sys.stderr.isatty():
        return bars()
    return nullcontext(ProgressLines(lambda line: typer.echo(line, err=True)))


def _follow(
    producer: "Producer",
    request_id: str,
    timeout_s: float | None,
    shown: Bars | ProgressLines | None,
    output: Output,
) -> "RequestView":
    """Wait for one request and show each change of it."""
    moves: list[Callable[[int], None]] = []
    printed = ""

    def look(view: "RequestView") -> None:
        nonlocal printed
        counts = view.counts
        if isinstance(shown, ProgressLines):
            shown.show(view)
        elif shown is not None and counts.unique:
            if not moves:
                moves.append(shown.add("Deleting", counts.unique))
            moves[0](counts.unique - counts.pending)
        line = json.dumps(view.as_dict()) if output is Output.JSONL else ""
        if line != printed:
            printed = line
            typer.echo(line)

    return producer.wait(request_id, timeout_s, on_view=look)
