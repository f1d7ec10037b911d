"""`expunge status` and `expunge list`: how far requests are."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from expunge.cli.output import Output, OutputOption
from expunge.cli.pausing import warn_of_pauses
from expunge.cli.views import find_views, show_views
from expunge.exit_codes import EXIT_PARTLY

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.model import RequestView

__all__ = ["add_to"]

_MOST_SHOWN = 50


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("status")(status)
    app.command("list")(list_)


def status(
    ids: list[str] = typer.Argument(
        metavar="ID...", help="From receipts or `list`; also `@FILE` or `-`, one a line."
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Show requests: their state, and what became of their ids."""
    from expunge.cli.values import ids_from  # noqa: PLC0415
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    wanted = ids_from(ids)
    single = wanted == ids and len(ids) == 1
    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        views = find_views(ledger, wanted)
        warn_of_pauses(ledger)
        _warn_of_dead(ledger, views)
    show_views(views, output=output, single=single)
    if missing := len(wanted) - len(views):
        typer.echo(f"{missing:,} of {len(wanted):,} requests are not in this ledger.", err=True)
        raise typer.Exit(EXIT_PARTLY)


def list_(
    words: list[str] | None = typer.Argument(
        None,
        metavar="[FILTER]...",
        help="Words such as `state:open,verifying -project:crm due:<+3d`; all must hold.",
    ),
    limit: int | None = typer.Option(
        None,
        min=1,
        max=10_000,
        help="At most so many, the newest first [default: 50; all with `-o id`].",
    ),
    count: bool = typer.Option(False, "--count", help="Print only how many there are."),
    output: OutputOption = Output.TABLE,
) -> None:
    """List requests, the newest first.

    A filter that begins with `-` comes after `--`. All words: docs/cli.md, "The filter language".
    """
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.filters import parse_filter  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    asked = parse_filter(" ".join(words or []))
    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        warn_of_pauses(ledger)
        if count:
            number = ledger.count_requests(filter=asked)
            as_json = output in (Output.JSON, Output.JSONL)
            typer.echo(json.dumps({"count": number}) if as_json else number)
            return
        if output is Output.ID and limit is None:
            # For the next command in a pipe: part of them would be taken for all.
            for request_id in ledger.find_requests(filter=asked):
                typer.echo(request_id)
            return
        most = limit or _MOST_SHOWN
        views = ledger.list_requests(filter=asked, limit=most + 1)
        number = len(views) if len(views) <= most else ledger.count_requests(filter=asked)
    show_views(views[:most], output=output)
    if len(views) > most:
        typer.echo(
            f"These are the newest {most:,} of {number:,}; `--limit` shows more, and `-o id` all.",
            err=True,
        )


def _warn_of_dead(ledger: "Ledger", views: "Sequence[RequestView]") -> None:
    """Say on stderr which of the requests have work that was given up, and what to do about it."""
    from ledger.filters import parse_filter  # noqa: PLC0415

    some = [view.id for view in views[:_MOST_SHOWN]]
    if not some:
        return
    letters = ledger.dead_letters(filter=parse_filter(f"id:{','.join(some)}"), limit=len(some))
    for request_id in dict.fromkeys(one.id for one in letters):
        own = [one for one in letters if one.id == request_id]
        reasons = ", ".join(f"{one.chunks:,} {one.reason}" for one in own)
        typer.echo(
            f"{request_id}: given up after all attempts: {reasons}. See `expunge dead show "
            f"{request_id}`; once it is mended, `expunge dead redrive {request_id}`.",
            err=True,
        )
