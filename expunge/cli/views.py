"""Requests and receipts as the commands show them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ledger.model import Receipt, RequestView

__all__ = ["LIST_COLUMNS", "receipt_record", "view_lines"]

LIST_COLUMNS: Final[Mapping[str, str]] = {
    "id": "id",
    "project": "project",
    "kind": "kind",
    "lane": "lane",
    "state": "state",
    "unique": "counts.unique",
    "pending": "counts.pending",
    "due": "due_at",
    "created": "created_at",
}


def receipt_record(receipt: "Receipt") -> dict[str, Any]:
    """Give a receipt's JSON."""
    return {
        "id": receipt.id,
        "state": receipt.state.value,
        "requested": receipt.requested,
        "unique": receipt.unique,
        "duplicate": receipt.duplicate,
    }


def view_lines(view: "RequestView") -> dict[str, Any]:
    """Give the lines of a request's table: its state first, then what became of its ids."""
    record = view.as_dict()
    counts = record.pop("counts")
    lines = {"id": record.pop("id"), "state": record.pop("state"), "result": record.pop("result")}
    return {
        **lines,
        "certainty": record.pop("certainty"),
        **{name.replace("_", " "): value for name, value in counts.items()},
        **{name.replace("_", " "): value for name, value in record.items()},
    }
