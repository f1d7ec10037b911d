"""Requests and receipts as the commands show them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.output import Output, show_many, show_one

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.model import Receipt, RequestView

__all__ = ["find_views", "receipt_record", "show_views", "tell_hold", "view_lines"]

_COLUMNS: Final[Mapping[str, str]] = {
    "id": "id",
    "project": "project",
    "kind": "kind",
    "lane": "lane",
    "state": "state",
    "marks": "marks",
    "unique": "counts.unique",
    "pending": "counts.pending",
    "due": "due_at",
    "created": "created_at",
}


def find_views(ledger: "Ledger", ids: Sequence[str]) -> "list[RequestView]":
    """Give the requests with these ids, those left out that are not in the ledger.

    Raises:
        NotFoundError: There is one id only, and no such request.
    """
    from ledger.errors import NotFoundError  # noqa: PLC0415

    views = []
    for request_id in ids:
        try:
            views.append(ledger.status(request_id))
        except NotFoundError:
            if len(ids) == 1:
                raise
    return views


def receipt_record(receipt: "Receipt") -> dict[str, Any]:
    """Give a receipt's JSON."""
    return {
        "id": receipt.id,
        "state": receipt.state.value,
        "requested": receipt.requested,
        "unique": receipt.unique,
        "duplicate": receipt.duplicate,
        "hold_reason": receipt.hold_reason,
    }


def tell_hold(receipt: "Receipt") -> None:
    """Say on stderr that a request waits for a person, when it does."""
    if receipt.hold_reason is not None:
        typer.echo(
            f"It is on hold ({receipt.hold_reason}): nothing of it is sent until somebody runs: "
            f"expunge release {receipt.id}",
            err=True,
        )


def view_lines(view: "RequestView") -> dict[str, Any]:
    """Give the lines of a request's table: its state first, then what became of its ids."""
    record = view.as_dict()
    counts = record.pop("counts")
    lines = {"id": record.pop("id"), "state": record.pop("state"), "result": record.pop("result")}
    record["not_checked"] = " ".join(record["not_checked"]) or None
    return {
        **lines,
        "certainty": record.pop("certainty"),
        "seen": record.pop("seen"),
        **{name.replace("_", " "): value for name, value in counts.items()},
        **{name.replace("_", " "): value for name, value in record.items()},
    }


def show_views(views: "Sequence[RequestView]", *, output: Output, single: bool = False) -> None:
    """Print requests, one a row.

    Args:
        views: The requests.
        output: The format.
        single: There is one and only it was asked for: all of it is shown, and JSON is no list.
    """
    if single:
        show_one(views[0].as_dict(), output=output, shown=view_lines(views[0]))
        return
    records = [view.as_dict() for view in views]
    if output is Output.TABLE:
        records = [record | {"marks": _marks(record)} for record in records]
    show_many(records, output=output, columns=_COLUMNS)


def _marks(record: Mapping[str, Any]) -> str:
    """Name what keeps a request from its end, should have hurried it, or calls for a person."""
    marks = {
        name.replace("_", " "): record[name] for name in ("tampered", "held", "overdue", "at_risk")
    }
    marks["cancelling"] = record["cancelling"] and record["finished_at"] is None
    return " ".join(name for name, applies in marks.items() if applies)
