"""`expunge status` and `expunge list`: how far requests are."""

import typer

from expunge.cli.output import Output, OutputOption, show_many, show_one
from expunge.cli.pausing import warn_of_pauses
from expunge.cli.views import LIST_COLUMNS, view_lines

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("status")(status)
    app.command("list")(list_)


def status(
    request_id: str = typer.Argument(metavar="ID", help="From the receipt, or from `list`."),
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one request: its state, and what became of its ids."""
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        view = ledger.status(request_id)
        warn_of_pauses(ledger)
    show_one(view.as_dict(), output=output, shown=view_lines(view))


def list_(
    state: str | None = typer.Option(
        None,
        help="receiving, scheduled, open, verifying, complete, partial, failed or cancelled.",
    ),
    project: str | None = typer.Option(None, help="Only this project's."),
    kind: str | None = typer.Option(None, help="memories, user or agent."),
    limit: int = typer.Option(50, min=1, max=10_000, help="At most so many, the newest first."),
    output: OutputOption = Output.TABLE,
) -> None:
    """List requests, the newest first."""
    from expunge.cli.values import one_of  # noqa: PLC0415
    from ledger import Keys, Kind, Ledger, RequestState  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    wanted_state = one_of(RequestState, state, option="--state")
    wanted_kind = one_of(Kind, kind, option="--kind")
    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        views = ledger.list_requests(
            state=wanted_state, project=project, kind=wanted_kind, limit=limit
        )
        warn_of_pauses(ledger)
    show_many([view.as_dict() for view in views], output=output, columns=LIST_COLUMNS)
