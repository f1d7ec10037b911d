"""What was claimed: from a row to the call that a worker makes, and its digest for the record."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import Row

from ledger.canonical import canonical
from ledger.states import Kind
from ledger.tasks import Task
from ledger.walks import Walk

__all__ = ["CHUNK_COLUMNS", "READBACK_COLUMNS", "call_of", "ids_of", "intent_digest", "task_of"]

CHUNK_COLUMNS: Final = (
    "request_id",
    "generation",
    "no",
    "parent",
    "account",
    "project",
    "lane",
    "urgency",
    "tag",
    "ids",
    "n",
    "first",
    "places",
    "fence",
    "burnt",
    "doubtful",
    "sightings",
    "leftover",
)
"""What a task needs of a chunk's own row."""

READBACK_COLUMNS: Final = (
    "request_id",
    "generation",
    "account",
    "project",
    "lane",
    "urgency",
    "purpose",
    "item",
    "seen",
    "control",
    "fence",
    "burnt",
)
"""What a task needs of a read-back's own row."""


@lru_cache(maxsize=1)
def ids_of(stored: str | None) -> tuple[str, ...]:
    """Give a chunk's ids; those of the last one that was asked for are not decoded again."""
    return tuple(json.loads(stored)) if stored else ()


def call_of(row: Row[Any]) -> Literal["delete", "list", "read"]:
    """Name the call that a claimed row stands for."""
    if row.readback_id is None:
        return "delete"
    return "list" if row.readback_kind == "list" else "read"


def task_of(
    row: Row[Any],
    *,
    ids: tuple[str, ...],
    claim: str,
    place: int,
    slot_ns: int,
    now_ns: int,
    strikes: int,
    trial: bool,
) -> Task:
    """Give the call that a claimed row stands for.

    Args:
        row: A chunk or a read-back, with the columns above and those of its request.
        ids: Of its chunk (`ids_of`).
        claim: Id of the claim, and `place` in it.
        place: The first is 0.
        slot_ns: When it may depart, and `now_ns`, both by the ledger's clock.
        now_ns: The moment of the claim.
        strikes: Rests of the account in a row.
        trial: Whether it is to show that MemOS is back, and says nothing about the work.
    """
    call = call_of(row)
    extra: dict[str, Any] = {}
    if row.readback_id is None:
        extra = {"doubtful": bool(row.doubtful), "leftover": bool(row.leftover)}
    else:
        ids = (ids[row.item],) if call == "read" else ()
        extra = {
            "doubtful": False,
            "probe": row.purpose == "probe",
            "walk": Walk.from_json(row.seen),
            "cutoff_us": _cutoff_us(row),
            "control": bool(row.control),
            "second_look": row.finished_at is not None,
        }
    return Task(
        claim=claim,
        place=place,
        slot_ns=slot_ns,
        account=row.account,
        project=row.project,
        request_id=row.request_id,
        generation=row.generation,
        kind=Kind(row.kind),
        call=call,
        chunk_id=row.chunk_id,
        readback_id=row.readback_id,
        fence=row.fence + 1,
        claimed_ns=now_ns,
        burnt=row.burnt,
        sightings=row.sightings or 0,
        subject=row.subject,
        ids=ids,
        strikes=strikes,
        trial=trial,
        **extra,
    )


def intent_digest(tasks: Sequence[Task]) -> str:
    """Hash what a claim is about to do: SHA-256 over one canonical JSON line per call.

    A line holds what the attempt's row holds: place, call, request, generation, chunk (None for a
    read-back), read-back (None for a deletion), fencing token, and the slot as text.
    """
    digest = hashlib.sha256()
    for task in tasks:
        line = [
            task.place,
            task.call,
            task.request_id,
            task.generation,
            task.chunk_id if task.readback_id is None else None,
            task.readback_id,
            task.fence,
            str(task.slot_ns),
        ]
        digest.update(canonical(line) + b"\n")
    return digest.hexdigest()


def _cutoff_us(row: Row[Any]) -> int | None:
    """Say until when a purge's memories must have been there to be part of its order."""
    if row.kind == Kind.MEMORIES or row.include_later:
        return None
    return int(row.created_at)
