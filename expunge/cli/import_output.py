"""What `expunge import` prints."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.output import Output, show_one
from expunge.cli.views import receipt_record
from expunge.tables import cell, table

if TYPE_CHECKING:
    from ledger.model import Receipt
    from producer.files import ImportReport, RejectLog

__all__ = ["Receipts", "tell_rejects"]

_MOST_SHOWN: Final = 20


class Receipts:
    """Prints receipts as they come where the format allows it, and keeps a few for the table."""

    def __init__(self, output: Output) -> None:
        """Print in this format."""
        self.output = output
        self._few: list[dict[str, Any]] = []
        self._count = 0
        self._held = 0

    def take(self, receipt: "Receipt") -> None:
        """Print one, or keep it."""
        record = receipt_record(receipt)
        self._count += 1
        self._held += receipt.hold_reason is not None
        if self.output is Output.ID:
            typer.echo(record["id"])
        elif self.output is Output.JSONL:
            typer.echo(json.dumps(record))
        elif self._count <= _MOST_SHOWN:
            self._few.append(record)

    def close(self, report: "ImportReport") -> None:
        """Print the summary."""
        summary: dict[str, Any] = {
            "requests": report.requests,
            "known": report.known,
            "requested": report.requested,
            "unique": report.unique,
            "rejected": report.rejected,
            "held": self._held,
        }
        if self._held:
            typer.echo(
                f"{self._held:,} of these requests are on hold: nothing of them is sent until "
                "somebody releases them; see `expunge list held:true`.",
                err=True,
            )
        if self.output is Output.JSON:
            # The first requests only: a file may order a million of them, and -o jsonl streams.
            record = {**summary, "first_requests": self._few}
            show_one(record, output=Output.JSON, shown={})
        elif self.output is Output.TABLE:
            rows = [
                [str(one["id"]), str(one["state"]), f"{one['unique']:,}", cell(one["duplicate"])]
                for one in self._few
            ]
            for line in table(["id", "state", "unique", "known before"], rows) if rows else ():
                typer.echo(line)
            if self._count > len(self._few):
                typer.echo(f"… and {self._count - len(self._few):,} more; `-o jsonl` shows all")
            if rows:
                typer.echo("")
            show_one(summary, output=Output.TABLE, shown=summary)


def tell_rejects(log: "RejectLog", path: Path | None, *, noun: str) -> None:
    """Say on stderr how much was not taken, and why the first of it was not."""
    if not log.count:
        return
    for reject in log.first:
        typer.echo(f"{noun} {reject.line} was not taken: {reject.reason}", err=True)
    where = (
        f"all are in {path.name}"
        if path is not None
        else "`--rejects FILE` writes all of them down"
    )
    what = f"{noun.lower()} was" if log.count == 1 else f"{noun.lower()}s were"
    typer.echo(f"{log.count:,} {what} not taken; {where}.", err=True)
