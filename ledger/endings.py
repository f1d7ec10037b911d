"""What the record says of a request's end beside its counts: who did what, when, and how it looked.

A certificate says nothing else than this event does, so all that it says is sealed.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Final

from sqlalchemy import Connection, Row, case, func, select

from ledger.claimed import ids_of
from ledger.clock import from_wall
from ledger.closing import Reads, chain_is_whole, has_unsent
from ledger.items import ItemsRoot, opening_digest, subject_binding, subject_nonce
from ledger.macs import Macs
from ledger.model import COUNT_NAMES
from ledger.policy import parse_verify
from ledger.readback import ReadbackPolicy
from ledger.schema import attempt, request
from ledger.states import Certainty, Kind, Result

__all__ = ["Ending", "finished_payload", "look_back"]

_NOTHING: Final = (0, None, None)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What was gathered of a generation before its end is written.

    Attributes:
        whole: Its chunks are those that were ordered, and all of them were sent.
        items_root: Root over the ids (`ledger.items`); None for a purge, and
            when the request is not whole.
        subject_binding: Commits to the user or agent; None without one.
        opening_digest: Of the salt that opens both.
        calls: Number, first and last moment (microseconds since 1970) of `delete` and of `read`.
        method: How it was read back: `list`, `id`, `sample` or `none`.
        issuer: Who answers for the certificate, as configured.
        backup_days: For how long the memory store's backups are kept, as configured.
        api: The dialect of the memory store.
    """

    whole: bool
    items_root: bytes | None = None
    subject_binding: bytes | None = None
    opening_digest: bytes = b""
    calls: Mapping[str, tuple[int, int | None, int | None]] = field(default_factory=dict)
    method: str = "none"
    issuer: str | None = None
    backup_days: int | None = None
    api: str = "cloud"


def look_back(read: Reads, macs: Macs, request_id: str, policy: ReadbackPolicy) -> Ending:
    """Gather it, apart from the transaction that ends the request: its ids may be many.

    Args:
        read: Runs transactions that only read, such as `Database.read`.
        macs: Checks the order.
        request_id: The request, about to end.
        policy: How it was read back, and what the settings say of certificates.
    """
    row = read(lambda conn: conn.execute(select(request).where(request.c.id == request_id)).one())
    salt = bytes(row.salt)
    items = ItemsRoot(salt)

    def take(submitted: Row[Any]) -> None:
        if row.kind == Kind.MEMORIES:
            # What was handed in can be read; what cannot be is not that, and the chain shows it.
            with suppress(Exception):
                items.add(ids_of(submitted.ids))

    whole = chain_is_whole(read, macs, request_id, each=take) and not read(
        lambda conn: has_unsent(conn, request_id)
    )
    return Ending(
        whole=whole,
        items_root=items.root() if whole and row.kind == Kind.MEMORIES else None,
        subject_binding=None
        if row.subject is None
        else subject_binding(subject_nonce(salt), row.project, row.kind, row.subject),
        opening_digest=opening_digest(salt),
        calls=read(lambda conn: _calls(conn, row)),
        method=_method(row, policy),
        issuer=policy.issuer,
        backup_days=policy.backup_days,
        api="self_hosted" if row.project in policy.by_cube else "cloud",
    )


def finished_payload(
    row: Row[Any],
    ending: Ending,
    *,
    result: Result,
    certainty: Certainty | None,
    tampered: bool,
) -> dict[str, Any]:
    """Give what the event `request.finished` says.

    Args:
        row: Of the request, as it was just before.
        ending: What was gathered.
        result: How it ended.
        certainty: How surely that is known.
        tampered: Something of it was not what was ordered.
    """
    deleted, first_delete, last_delete = ending.calls.get("delete", _NOTHING)
    read, first_read, last_read = ending.calls.get("read", _NOTHING)
    return {
        "generation": row.generation,
        "result": result.value,
        "certainty": None if certainty is None else certainty.value,
        "tampered": tampered,
        "attempts": row.attempts,
        "counts": {name: getattr(row, name) for name in COUNT_NAMES},
        "requested": row.requested,
        "unique": row.unique_ids,
        "project": row.project,
        "kind": row.kind,
        "lane": row.lane,
        "reason": row.reason,
        "principal": row.principal,
        "accepted_at": _moment(row.created_at),
        "submitted_at": _moment(row.submitted_at),
        "due_at": _moment(row.due_at),
        "order_digest": None if row.closing_mac is None else bytes(row.closing_mac).hex(),
        "chunk_size": row.chunk_size,
        "items_root": _hex(ending.items_root),
        "subject_binding": _hex(ending.subject_binding),
        "opening_digest": _hex(ending.opening_digest or None),
        "key_epoch": row.key_epoch,
        "api": ending.api,
        "release": _release(),
        "delete_calls": deleted,
        "delete_from": _moment(first_delete),
        "delete_to": _moment(last_delete),
        "verify": row.verify_now,
        "method": ending.method,
        "drawn": row.drawn,
        "read_calls": read,
        "read_from": _moment(first_read),
        "read_to": _moment(last_read),
        "leftovers": row.leftovers,
        "later": row.later,
        "include_later": bool(row.include_later),
        "not_checked": json.loads(row.not_checked) if row.not_checked else [],
        "issuer": ending.issuer,
        "backup_days": ending.backup_days,
    }


def _calls(conn: Connection, row: Row[Any]) -> dict[str, tuple[int, int | None, int | None]]:
    what = case((attempt.c.call == "delete", "delete"), else_="read").label("what")
    ended = attempt.c.claimed_at + func.coalesce(attempt.c.took_us, 0)
    query = (
        select(what, func.count(), func.min(attempt.c.claimed_at), func.max(ended))
        .where(attempt.c.request_id == row.id, attempt.c.generation == row.generation)
        .group_by(what)
    )
    return {name: (int(count), first, last) for name, count, first, last in conn.execute(query)}


def _method(row: Row[Any], policy: ReadbackPolicy) -> str:
    asked = parse_verify(row.verify_now)
    if asked.none:
        return "none"
    if row.project in policy.by_cube or (row.subject is not None and asked.full and not row.by_id):
        return "list"
    return "id" if asked.full else "sample"


def _moment(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return from_wall(microseconds).isoformat(timespec="microseconds")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


@cache
def _release() -> str:
    return metadata.version("expunge")
