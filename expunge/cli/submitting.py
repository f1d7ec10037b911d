"""`expunge submit`: one request."""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand

from expunge.cli.dry_running import try_request
from expunge.cli.output import Output, OutputOption, show_one
from expunge.cli.values import memory_ids, moment, one_of, one_value
from expunge.cli.views import receipt_record, tell_hold, view_lines
from expunge.exit_codes import EXIT_PARTLY
from expunge.progress import bars

if TYPE_CHECKING:
    from ledger.model import Receipt, RequestView
    from producer import Producer

__all__ = ["add_to"]

_FOR_EVER: Final = "forever"


class _OptionalWait(TyperCommand):
    """Lets `--wait` stand alone as well as with `=SECONDS`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as typer
        """Spell a bare `--wait` out."""
        end = args.index("--") if "--" in args else len(args)
        spelt = [f"--wait={_FOR_EVER}" if arg == "--wait" else arg for arg in args[:end]]
        return super().parse_args(ctx, spelt + args[end:])


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("submit", cls=_OptionalWait)(submit)


def submit(  # noqa: PLR0917 - typer makes options of them, which are named
    memory_id: list[str] | None = typer.Option(
        None, help="A memory id, `@FILE` with one a line, or `-` for stdin. May be repeated."
    ),
    user_id: str | None = typer.Option(
        None, help="Purge everything of this user. Also `@FILE` or `-`, kept out of the history."
    ),
    agent_id: str | None = typer.Option(None, help="Purge everything of this agent."),
    user: str | None = typer.Option(
        None, help="Whose the memory ids are, if known; the read-back is then cheaper and full."
    ),
    project: str = typer.Option("default", help="A project of the settings."),
    lane: str | None = typer.Option(None, help="erasure or bulk [default: erasure for purges]."),
    verify: str | None = typer.Option(None, help="Read back: full, sample:N or none."),
    reason: str | None = typer.Option(None, help="A short code such as gdpr-17; no free text."),
    idempotency_key: str | None = typer.Option(
        None, help="The same key and request again gives the first one's receipt."
    ),
    submitted_at: str | None = typer.Option(
        None, help="When the person asked, such as 2026-11-20T09:00:00Z."
    ),
    due: str | None = typer.Option(None, help="When it must be done; a moment with time zone."),
    not_before: str | None = typer.Option(None, help="No call before this moment."),
    include_later: bool = typer.Option(
        False,
        "--include-later",
        help="Of a purge: what appears before the read-back goes too, else it is left.",
    ),
    dry_run: bool = typer.Option(
        False,
        help="Hand nothing in; say which calls would be made, and how much a named user has now.",
    ),
    wait: str | None = typer.Option(
        None, metavar="[SECONDS]", help="Wait for its end: `--wait`, or `--wait=60` at most."
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand in one request: exactly one of --memory-id, --user-id and --agent-id.

    Prints the receipt once it is recorded. With --wait, prints the request at its end and exits
    with 0 when it is complete, 3 when it is not, 7 when the time runs out.
    """
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415
    from ledger.states import Kind, Lane  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415

    given = {"--memory-id": memory_id, "--user-id": user_id, "--agent-id": agent_id}
    kinds = [name for name, value in given.items() if value not in (None, [])]
    if len(kinds) != 1:
        found = f"there are {' and '.join(kinds)}" if kinds else "there is none"
        msg = f"Give exactly one of --memory-id, --user-id and --agent-id; {found}."
        raise RequestError(msg)
    if user is not None and not memory_id:
        msg = "--user says whose the --memory-id are; a purge is --user-id alone."
        raise RequestError(msg)
    if include_later and memory_id:
        msg = "--include-later is for purges; a batch names what it deletes."
        raise RequestError(msg)
    timeout_s = _seconds(wait)
    terms: dict[str, Any] = {
        "project": project,
        "lane": one_of(Lane, lane, option="--lane"),
        "verify": verify,
        "reason": reason,
        "idempotency_key": idempotency_key,
        "submitted_at": moment(submitted_at, option="--submitted-at"),
        "due_at": moment(due, option="--due"),
        "not_before": moment(not_before, option="--not-before"),
    }
    settings = load_settings()
    whose = None if user is None else one_value(user, option="--user")
    purged = user_id if user_id is not None else agent_id
    subject = one_value(purged, option=kinds[0]) if purged is not None else None
    if dry_run:
        ordered = {"--memory-id": Kind.MEMORIES, "--user-id": Kind.USER, "--agent-id": Kind.AGENT}
        try_request(settings, terms, ordered[kinds[0]], memory_id or None, whose or subject, output)
        return
    with Producer.from_settings(settings) as producer:
        if memory_id:
            receipt = producer.delete_memories(memory_ids(memory_id), user_id=whose, **terms)
        elif user_id is not None:
            receipt = producer.purge_user(subject or "", include_later=include_later, **terms)
        else:
            receipt = producer.purge_agent(subject or "", include_later=include_later, **terms)
        tell_hold(receipt)
        due_at = terms["due_at"]
        if due_at is not None and due_at < datetime.now(UTC):
            typer.echo("--due is over already: the request counts as overdue.", err=True)
        if timeout_s is None:
            _show(receipt, output)
            return
        view = _wait(producer, receipt, timeout_s, output)
    show_one(view.as_dict(), output=output, shown=view_lines(view))
    if view.state.value != "complete":
        raise typer.Exit(EXIT_PARTLY)


def _seconds(wait: str | None) -> float | None:
    """Give the seconds to wait, infinite for ever, None for not at all."""
    from ledger.errors import RequestError  # noqa: PLC0415

    if wait is None:
        return None
    if wait == _FOR_EVER:
        return math.inf
    try:
        seconds = float(wait)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        msg = "--wait takes a number of seconds, as in --wait=60, or nothing."
        raise RequestError(msg)
    return seconds


def _show(receipt: "Receipt", output: Output) -> None:
    record = receipt_record(receipt)
    show_one(record, output=output, shown=record)
    if output is Output.TABLE:
        typer.echo(f"Recorded. See how far it is: expunge status {receipt.id}", err=True)


def _wait(
    producer: "Producer", receipt: "Receipt", timeout_s: float, output: Output
) -> "RequestView":
    """Wait with a bar; the receipt is not lost when the time runs out."""
    from producer import WaitTimeoutError  # noqa: PLC0415

    try:
        with bars() as shown:
            move = shown.add("Deleting", receipt.unique)
            return producer.wait(
                receipt.id,
                None if math.isinf(timeout_s) else timeout_s,
                on_view=lambda view: move(view.counts.unique - view.counts.pending),
            )
    except WaitTimeoutError:
        _show(receipt, output)
        raise
