"""`expunge dead list|show|redrive|discard`: what was given up, and what becomes of it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.bulk import (
    Assent,
    Choice,
    ConfirmOption,
    DryRunOption,
    FilterOption,
    IdsArgument,
    Verb,
    YesOption,
    run,
)
from expunge.cli.output import Output, OutputOption, show_many
from expunge.tables import counted

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.dead_letters import DeadChunk, DeadLetters
    from ledger.settings import Settings

__all__ = ["add_to"]

_MOST_SHOWN: Final = 50
_LETTERS: Final = {
    "id": "id",
    "project": "project",
    "kind": "kind",
    "lane": "lane",
    "state": "state",
    "reason": "reason",
    "chunks": "chunks",
    "ids": "ids",
    "finished": "finished_at",
    "redrive until": "redrive_until",
    "due": "due_at",
}
_CHUNKS: Final = {
    "no": "no",
    "generation": "generation",
    "n": "n",
    "reason": "reason",
    "burnt": "burnt",
    "doubtful": "doubtful",
}


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Chunks that were given up.")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("redrive")(redrive)
    group.command("discard")(discard)
    app.add_typer(group, name="dead")


def list_(
    words: list[str] | None = typer.Argument(
        None, metavar="[FILTER]...", help="Words such as `project:crm dead_reason:http_503`."
    ),
    limit: int | None = typer.Option(
        None,
        min=1,
        max=10_000,
        help="Those of at most so many requests, the newest first [default: 50; all with `-o id`].",
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was given up: a line for each request and reason, the newest request first.

    `-o id` prints the requests' ids, each once, for `dead redrive` and `dead discard`.
    """
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.filters import Filter, parse_filter  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    asked = parse_filter(" ".join(words or []))
    some = Filter(asked.words + parse_filter("dead:true").words)
    settings = load_settings()
    most = limit or _MOST_SHOWN
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        if output is Output.ID and limit is None:
            # For the next command in a pipe: part of them would be taken for all.
            for request_id in ledger.find_requests(filter=some):
                typer.echo(request_id)
            return
        letters = ledger.dead_letters(filter=asked, limit=most)
        requests = ledger.count_requests(filter=some)
    _show_letters(letters, settings, output)
    if requests > most:
        typer.echo(
            f"These are the newest {most:,} of {requests:,} requests; `--limit` shows more, and "
            "`-o id` all.",
            err=True,
        )


def show(
    request_id: str = typer.Argument(metavar="ID", help="A request, as `dead list` names it."),
    limit: int = typer.Option(_MOST_SHOWN, min=1, max=10_000, help="At most so many chunks."),
    reveal: bool = typer.Option(
        False, "--reveal", help="Show the ids, too; an event records who saw them."
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the chunks of one request that were given up, without the ids in them.

    With `--reveal`, `-o id` prints these ids and nothing else; without, REQUEST/NUMBER.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        who = operator() if reveal else None
        # One more tells whether there are more; it must not be revealed unseen.
        chunks = ledger.show_dead(request_id, limit=limit, reveal_to=who)
        more = len(ledger.show_dead(request_id, limit=limit + 1)) > limit
    if reveal and output is Output.ID:
        for one in chunks:
            for each in one.ids or ():
                typer.echo(each)
    else:
        columns = {**_CHUNKS, "ids": "ids"} if reveal else _CHUNKS
        records = [_record(request_id, one, as_text=output is Output.TABLE) for one in chunks]
        show_many(records, output=output, columns=columns)
    if more:
        typer.echo(f"These are the first {limit:,}; `--limit` shows more.", err=True)


def redrive(  # noqa: PLR0917 - typer makes options of them, which are named
    ids: list[str] | None = IdsArgument,
    filter_: str | None = FilterOption,
    reason: str = typer.Option(help="A short code for the record, such as what was mended."),
    rate: float | None = typer.Option(
        None, metavar="N", help="So many chunks a second come due, over all requests; else at once."
    ),
    yes: bool = YesOption,
    confirm: int | None = ConfirmOption,
    dry_run: bool = DryRunOption,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send what was given up again, as the next generation of its requests.

    Only of requests that have ended, within EXPUNGE_REDRIVE_DAYS of their end.
    """
    from ledger.redrive_chunks import Pace  # noqa: PLC0415

    pace = Pace.of(rate)

    def act(ledger: "Ledger", settings: "Settings", request_id: str, principal: str) -> bool:
        return ledger.redrive(
            request_id,
            principal=principal,
            reason=reason,
            redrive_days=settings.redrive_days,
            pace=pace,
        )

    verb = Verb(
        name="redrive",
        done="redriven",
        still_possible="dead:true final:true cancelling:false",
        act=act,
        widest="dead:true",
        impossible="have not ended, were cancelled, or have no dead letters",
        preview=_preview,
    )
    run(verb, Choice(ids or [], filter_), Assent(yes=yes, count=confirm), dry_run, output)


def discard(  # noqa: PLR0917 - as above
    ids: list[str] | None = IdsArgument,
    filter_: str | None = FilterOption,
    reason: str = typer.Option(help="A short code for the record; no free text."),
    yes: bool = YesOption,
    confirm: int | None = ConfirmOption,
    dry_run: bool = DryRunOption,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give up for good what was given up: it is neither listed nor redriven any more.

    The counts and the result of its requests stay as they are.
    """

    def act(ledger: "Ledger", _settings: "Settings", request_id: str, principal: str) -> bool:
        return ledger.discard(request_id, principal=principal, reason=reason)

    verb = Verb(
        name="discard the dead letters of",
        done="discarded",
        still_possible="dead:true",
        act=act,
        widest="dead:true",
        impossible="have no dead letters",
        preview=_preview,
    )
    run(verb, Choice(ids or [], filter_), Assent(yes=yes, count=confirm), dry_run, output)


def _preview(ledger: "Ledger", settings: "Settings", wanted: Sequence[str], output: Output) -> None:
    from ledger.filters import MOST_VALUES, parse_filter  # noqa: PLC0415

    letters: list[DeadLetters] = []
    for first in range(0, len(wanted), MOST_VALUES):
        some = wanted[first : first + MOST_VALUES]
        letters += ledger.dead_letters(filter=parse_filter(f"id:{','.join(some)}"), limit=len(some))
    _show_letters(letters, settings, output)
    chunks, ids = sum(one.chunks for one in letters), sum(one.ids for one in letters)
    typer.echo(f"{counted(chunks, 'dead letter')} with {counted(ids, 'id')}.", err=True)


def _show_letters(letters: "Sequence[DeadLetters]", settings: "Settings", output: Output) -> None:
    window = timedelta(days=settings.redrive_days)
    records = []
    for one in letters:
        until = None if one.finished_at is None else (one.finished_at + window).isoformat()
        records.append(one.as_dict() | {"redrive_until": until})
    if output is Output.ID:
        for request_id in dict.fromkeys(one.id for one in letters):
            typer.echo(request_id)
        return
    show_many(records, output=output, columns=_LETTERS)


def _record(request_id: str, one: "DeadChunk", *, as_text: bool) -> dict[str, Any]:
    record = {
        "id": f"{request_id}/{one.no}",
        **{name: getattr(one, name) for name in _CHUNKS},
    }
    if one.ids is None:
        return record
    return record | {"ids": json.dumps(one.ids) if as_text else one.ids}
