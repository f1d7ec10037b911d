"""From an order to the request row: everything checked and made definite before any write."""

import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ledger.canonical import canonical
from ledger.clock import from_wall, to_wall
from ledger.due import default_due, urgency_of
from ledger.errors import RequestError
from ledger.ids import check_subject
from ledger.macs import HeaderFields, Macs
from ledger.model import Order
from ledger.policy import default_verify, parse_verify
from ledger.states import Kind, Lane

__all__ = ["Header", "make_header"]

_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MAX_KEY: Final = 200
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 9998


@dataclass(frozen=True, kw_only=True, repr=False)
class Header:
    """A checked order, ready to be written.

    Attributes:
        fields: What the header MAC covers.
        mac: That MAC.
        fingerprint: Keyed digest of what was asked for, without the ids; the same idempotency key
            with another fingerprint is a conflict.
        subject_ref: Keyed pseudonym of the subject, or None.
        urgency: Sort key by due day.
    """

    fields: HeaderFields
    mac: bytes
    fingerprint: str
    subject_ref: str | None
    urgency: int


def make_header(order: Order, *, account: str, chunk_size: int, macs: Macs, now_us: int) -> Header:
    """Check an order and fill in what it leaves open.

    Raises:
        RequestError: A field is out of its bounds; the message names the field.
    """
    subject = _checked_subject(order)
    lane = order.lane or (Lane.BULK if order.kind is Kind.MEMORIES else Lane.ERASURE)
    verify = order.verify or default_verify(order.kind, subject_named=subject is not None)
    parse_verify(verify)
    _check_code(order.reason, "The reason")
    _check_code(order.principal, "The principal")
    submitted_at = _aware(order.submitted_at, "submitted_at") or from_wall(now_us)
    due_at = _aware(order.due_at, "due_at") or default_due(lane, submitted_at)
    not_before = _aware(order.not_before, "not_before")
    values = HeaderFields(
        id=str(uuid.uuid4()),
        project=order.project,
        account=account,
        kind=order.kind.value,
        lane=lane.value,
        verify=verify,
        subject=subject,
        reason=order.reason,
        principal=order.principal,
        idempotency_ref=_key_reference(order, macs),
        chunk_size=chunk_size,
        created_at=now_us,
        submitted_at=to_wall(submitted_at),
        due_at=None if due_at is None else to_wall(due_at),
        not_before=None if not_before is None else to_wall(not_before),
        salt=secrets.token_bytes(32),
    )
    return Header(
        fields=values,
        mac=macs.header(values),
        fingerprint=_fingerprint(order, macs),
        subject_ref=None
        if subject is None
        else macs.reference("subject", order.project, order.kind.value, subject),
        urgency=urgency_of(due_at, from_wall(now_us)),
    )


def _checked_subject(order: Order) -> str | None:
    if order.kind is Kind.MEMORIES:
        if order.subject is None:
            return None
        return check_subject(order.subject, where="The user id")
    return check_subject(order.subject, where=f"The {order.kind.value} id")


def _key_reference(order: Order, macs: Macs) -> str | None:
    key = order.idempotency_key
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_KEY or not key.isprintable():
        msg = (
            f"The idempotency key must have 1 to {_MAX_KEY} printable characters; "
            "a UUID or the ticket's number will do."
        )
        raise RequestError(msg)
    return macs.reference("idempotency", order.project, key)


def _fingerprint(order: Order, macs: Macs) -> str:
    asked: dict[str, Any] = {
        "kind": order.kind.value,
        "subject": order.subject,
        "lane": order.lane and order.lane.value,
        "verify": order.verify,
        "reason": order.reason,
        **{
            name: value and value.astimezone(UTC).isoformat()
            for name, value in (
                ("submitted_at", order.submitted_at),
                ("due_at", order.due_at),
                ("not_before", order.not_before),
            )
        },
    }
    return macs.reference("fingerprint", canonical(asked).decode())


def _aware(moment: datetime | None, name: str) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        msg = f"{name} has no time zone; write it like 2026-11-22T10:00:00+01:00."
        raise RequestError(msg)
    if moment is not None and not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        msg = f"{name} is not between the years {_FIRST_YEAR} and {_LAST_YEAR}; check its form."
        raise RequestError(msg)
    return moment


def _check_code(value: str | None, what: str) -> None:
    if value is not None and not _CODE.fullmatch(value):
        msg = (
            f"{what} is not a short code of letters, digits and `._:-` (64 at most); "
            "free text is not kept, because it tends to hold names."
        )
        raise RequestError(msg)
