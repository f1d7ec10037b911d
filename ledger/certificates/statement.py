"""What a certificate says, made of the sealed event alone, so that every word of it is proven."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from ledger.states import Certainty
from ledger.words import in_words

if TYPE_CHECKING:
    from sqlalchemy import Row

__all__ = ["VERSION", "statement_of"]

# Of the event `request.finished` that it is made of.
VERSION: Final = 2

_OPERATIONS: Final = {
    "memories": "delete_by_memory_id",
    "user": "delete_all_of_user",
    "agent": "delete_all_of_agent",
}
_SEALED: Final = (
    "It proves that the issuer sealed this statement in an append-only log, not that bytes left a "
    "disk."
)
_ONLY: Final = (
    "It is about the memory store's API alone: not about its logs, indexes, caches or exports, nor "
    "about models or whatever else was made of the memories, nor about other systems."
)


def statement_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """Give the statement that an event `request.finished` (version 2) stands for.

    Args:
        event: Its payload; nothing else is used.

    Raises:
        KeyError, TypeError: A field is missing or of another kind.
    """
    batch = event["kind"] == "memories"
    return {
        "says": _says(event),
        "result": event["result"],
        "certainty": event["certainty"],
        "request": event["request"],
        "generation": event["generation"],
        "issuer": event["issuer"],
        "instruction": {
            "project": event["project"],
            "by": event["principal"],
            "reason": event["reason"],
            "order_digest": event["order_digest"],
            "submitted_at": event["submitted_at"],
            "accepted_at": event["accepted_at"],
            "due_at": event["due_at"],
        },
        "ended_at": event["at"],
        "in_time": None if event["due_at"] is None else event["at"] <= event["due_at"],
        "scope": {
            "kind": event["kind"],
            "requested": event["requested"],
            "unique": event["unique"],
            "items_root": event["items_root"],
            "chunk_size": event["chunk_size"] if batch else None,
            "subject_binding": event["subject_binding"],
            "opening_digest": event["opening_digest"],
            "include_later": event["include_later"],
        },
        "counts": dict(event["counts"]),
        "performed_by": {
            "component": "expunge worker, deletion",
            "release": event["release"],
            "api": event["api"],
            "operation": _OPERATIONS[event["kind"]],
            "calls": event["delete_calls"],
            "from": event["delete_from"],
            "to": event["delete_to"],
            "leftovers": event["leftovers"],
        },
        "verified_by": {
            "component": "expunge worker, read-back",
            "release": event["release"],
            "policy": event["verify"],
            "method": event["method"] if event["read_calls"] else "none",
            "drawn": event["drawn"],
            "calls": event["read_calls"],
            "from": event["read_from"],
            "to": event["read_to"],
            "appeared_later": event["later"],
            "not_checked": list(event["not_checked"]),
        },
        "tampered": event["tampered"],
        "limits": _limits(event),
        "record": {
            "event": event["id"],
            "key_epoch": event["key_epoch"],
        },
    }


def _says(event: Mapping[str, Any]) -> str:
    if event["tampered"]:
        return "What was ordered was changed in the ledger; nothing is claimed of it."
    counts = event["counts"]
    row = SimpleNamespace(
        **counts,
        kind=event["kind"],
        unique_ids=event["unique"],
        certainty=None if event["certainty"] is None else Certainty(event["certainty"]),
        drawn=event["drawn"],
        later=event["later"],
        not_checked=None,
        second_look=None,
    )
    return in_words(cast("Row[Any]", row)) or "Nothing of it was carried out."


def _limits(event: Mapping[str, Any]) -> list[str]:
    days = event["backup_days"]
    backups = (
        "Not covered: backups of the memory store; how long they are kept is not known to the "
        "issuer."
        if days is None
        else f"Not covered: backups of the memory store, which are kept for {days} days."
    )
    limits = [_SEALED, _ONLY, backups]
    if event["not_checked"]:
        names = ", ".join(name.replace("_", " ") for name in event["not_checked"])
        limits.append(f"Not checked, for MemOS did not show it: {names}.")
    if event["certainty"] == Certainty.ACKNOWLEDGED:
        limits.append("Not checked: nobody looked whether anything is left.")
    return limits
