"""The rows that an accepted request is made of, whichever way it came in."""

import dataclasses
from typing import Any

from sqlalchemy import Row

from ledger.ceilings import Ceilings
from ledger.header import Header
from ledger.macs import ChunkFields, HeaderFields
from ledger.schema import FOREVER_NS
from ledger.states import ChunkState

__all__ = ["accepted_payload", "chunk_row", "header_row", "recorded_header"]


def header_row(header: Header) -> dict[str, Any]:
    """Give the columns of a request that its header decides; state and counts come with it."""
    fields = header.fields
    return {
        **vars(fields),
        "verify_now": fields.verify,
        "subject_ref": header.subject_ref,
        "key_epoch": header.key_epoch,
        "follows": header.follows,
        "fingerprint": header.fingerprint,
        "header_mac": header.mac,
        "urgency": header.urgency,
        "traceparent": header.traceparent,
    }


def recorded_header(row: Row[Any], ceilings: Ceilings) -> Header:
    """Give the header that a request was recorded with: what came first under a key stays.

    Args:
        row: Of the request.
        ceilings: Those in force now; they are no part of what was ordered.
    """
    covered = {each.name: getattr(row, each.name) for each in dataclasses.fields(HeaderFields)}
    return Header(
        fields=HeaderFields(**covered),
        mac=row.header_mac,
        fingerprint=row.fingerprint,
        subject_ref=row.subject_ref,
        key_epoch=row.key_epoch,
        urgency=row.urgency,
        traceparent=row.traceparent,
        ceilings=ceilings,
        follows=row.follows,
    )


def chunk_row(
    header: Header, made: ChunkFields, *, mac: bytes, n: int, tag: int, parked: bool
) -> dict[str, Any]:
    """Give the row of one chunk as it was submitted.

    Args:
        header: Of its request.
        made: What its MAC covers.
        mac: That MAC.
        n: Ids in it; 1 for a purge.
        tag: Its place in line (`ledger.release.place_in_line`).
        parked: Whether it waits for somebody to release it.
    """
    fields = header.fields
    return {
        "request_id": made.request_id,
        "generation": made.generation,
        "no": made.no,
        "account": fields.account,
        "project": fields.project,
        "lane": fields.lane,
        "urgency": header.urgency,
        "tag": tag,
        "state": ChunkState.DUE,
        "ids": made.ids,
        "n": n,
        "first": made.first,
        "mac": mac,
        "due_ns": FOREVER_NS if parked else 0,
    }


def accepted_payload(
    header: Header,
    *,
    requested: int,
    unique: int,
    chunks: int,
    closing_mac: bytes,
    held_for: str | None = None,
) -> dict[str, Any]:
    """Give what the event `request.accepted` says: codes, counts and digests, no name.

    Args:
        header: Of the request.
        requested: Ids handed in.
        unique: Ids after folding.
        chunks: How many it has.
        closing_mac: The digest of all of it.
        held_for: The ceiling that keeps it on hold, or None.
    """
    fields = header.fields
    return {
        "project": fields.project,
        "kind": fields.kind,
        "lane": fields.lane,
        "verify": fields.verify,
        "reason": fields.reason,
        "principal": fields.principal,
        "requested": requested,
        "unique": unique,
        "chunks": chunks,
        "subject_ref": header.subject_ref,
        "key_epoch": header.key_epoch,
        "order_digest": closing_mac.hex(),
        "held_for": held_for,
    }
