"""`expunge import`: a file of ids, or of whole requests."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.output import Output, OutputOption, show_one
from expunge.cli.values import moment, one_of, one_value
from expunge.cli.views import receipt_record
from expunge.exit_codes import EXIT_PARTLY
from expunge.progress import bars
from expunge.tables import cell, table

if TYPE_CHECKING:
    from ledger.model import Receipt
    from producer.files import ImportReport, RejectLog

__all__ = ["add_to"]

_MOST_SHOWN: Final = 20


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(  # noqa: PLR0917 - typer makes options of them, which are named
    file: str = typer.Argument(help="The file, or `-` for stdin."),
    format_: str | None = typer.Option(
        None,
        "--format",
        help="plain (an id a line), csv, tsv or jsonl (a request a line) [default: by the suffix].",
    ),
    map_: list[str] | None = typer.Option(
        None,
        "--map",
        help="memory_id=COLUMN and user_id=COLUMN for CSV [default: memory_id=memory_id].",
    ),
    delimiter: str | None = typer.Option(None, help="Between CSV fields [default: a comma]."),
    rejects: Path | None = typer.Option(
        None, help="A new file for lines not taken: line number and reason, as JSON lines."
    ),
    user: str | None = typer.Option(None, help="Whose the ids of the whole file are, if known."),
    project: str = typer.Option("default", help="A project of the settings."),
    lane: str | None = typer.Option(None, help="erasure or bulk."),
    verify: str | None = typer.Option(None, help="Read back: full, sample:N or none."),
    reason: str | None = typer.Option(None, help="A short code such as gdpr-17; no free text."),
    idempotency_key: str | None = typer.Option(
        None, help="Handing the same file in again under it records nothing twice."
    ),
    submitted_at: str | None = typer.Option(None, help="When the person asked, with time zone."),
    due: str | None = typer.Option(None, help="When it must be done; a moment with time zone."),
    not_before: str | None = typer.Option(None, help="No call before this moment."),
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand in a file: one request, one a user (mapped user_id), or one a line (JSONL).

    Lines that cannot be taken are rejected and counted, the others are handed in, and the exit
    code is 3. A fault of the whole file (no such column, not UTF-8) is 2, and nothing is handed in.
    """
    from ledger.settings import load_settings  # noqa: PLC0415
    from ledger.states import Lane  # noqa: PLC0415
    from producer import Producer  # noqa: PLC0415
    from producer.files import (  # noqa: PLC0415
        Format,
        Layout,
        RejectLog,
        Terms,
        guess_format,
        import_file,
        open_source,
        parse_map,
    )

    terms = Terms(
        project=project,
        user_id=None if user is None else one_value(user, option="--user"),
        lane=one_of(Lane, lane, option="--lane"),
        verify=verify,
        reason=reason,
        idempotency_key=idempotency_key,
        submitted_at=moment(submitted_at, option="--submitted-at"),
        due_at=moment(due, option="--due"),
        not_before=moment(not_before, option="--not-before"),
    )
    columns = parse_map(map_ or [])
    chosen = one_of(Format, format_, option="--format")
    settings = load_settings()
    receipts = _Receipts(output)
    with open_source(file) as source, RejectLog(rejects) as log:
        layout = Layout(
            format=chosen or guess_format(file, source), columns=columns, delimiter=delimiter
        )
        with Producer.from_settings(settings) as producer, bars(unit="B") as shown:
            source.on_progress = shown.add("Reading", source.size)
            report = import_file(
                producer, source, layout=layout, terms=terms, rejects=log, on_receipt=receipts.take
            )
    receipts.close(report)
    _tell_rejects(log, rejects)
    if log.count:
        raise typer.Exit(EXIT_PARTLY)


class _Receipts:
    """Prints receipts as they come where the format allows it, and keeps a few for the table."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._few: list[dict[str, Any]] = []
        self._count = 0

    def take(self, receipt: "Receipt") -> None:
        record = receipt_record(receipt)
        self._count += 1
        if self._output is Output.ID:
            typer.echo(record["id"])
        elif self._output is Output.JSONL:
            typer.echo(json.dumps(record))
        elif self._count <= _MOST_SHOWN:
            self._few.append(record)

    def close(self, report: "ImportReport") -> None:
        summary: dict[str, Any] = {
            "requests": report.requests,
            "known": report.known,
            "requested": report.requested,
            "unique": report.unique,
            "rejected": report.rejected,
        }
        if self._output is Output.JSON:
            # The first requests only: a file may order a million of them, and -o jsonl streams.
            record = {**summary, "first_requests": self._few}
            show_one(record, output=Output.JSON, shown={})
        elif self._output is Output.TABLE:
            rows = [
                [str(one["id"]), str(one["state"]), f"{one['unique']:,}", cell(one["duplicate"])]
                for one in self._few
            ]
            for line in table(["id", "state", "unique", "known before"], rows):
                typer.echo(line)
            if report.requests > len(self._few):
                typer.echo(f"… and {report.requests - len(self._few):,} more; `-o jsonl` shows all")
            typer.echo("")
            show_one(summary, output=Output.TABLE, shown=summary)


def _tell_rejects(log: "RejectLog", path: Path | None) -> None:
    if not log.count:
        return
    for reject in log.first:
        typer.echo(f"Line {reject.line} was not taken: {reject.reason}", err=True)
    where = (
        f"all are in {path.name}"
        if path is not None
        else "`--rejects FILE` writes all of them down"
    )
    noun = "line was" if log.count == 1 else "lines were"
    typer.echo(f"{log.count:,} {noun} not taken; {where}.", err=True)
