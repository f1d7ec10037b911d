"""From an order to the request row: everything checked and made definite before any write."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row

from ledger.canonical import canonical
from ledger.ceilings import NO_CEILINGS, Ceilings
from ledger.clock import from_wall, to_wall
from ledger.codes import check_code
from ledger.due import default_due, default_lane, urgency_of
from ledger.errors import RequestError
from ledger.identity import new_id
from ledger.ids import check_subject
from ledger.macs import HeaderFields, Macs
from ledger.model import Order
from ledger.policy import default_verify, parse_verify
from ledger.states import Kind

__all__ = ["Header", "is_traceparent", "make_header"]

# W3C Trace Context, version 00 (later ones may be longer, and begin the same way).
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_MAX_KEY: Final = 200
_SALT: Final = 32
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 9998


@dataclass(frozen=True, kw_only=True, repr=False)
class Header:
    """A checked order, ready to be written.

    Attributes:
        fields: What the header MAC covers.
        mac: That MAC.
        fingerprint: Keyed digest of what was asked for, without the ids and without what settings
            fill in; the same idempotency key with another fingerprint is a conflict.
        subject_ref: Keyed pseudonym of the subject, or None.
        key_epoch: Which key made it, and the salt.
        urgency: Sort key by due day.
        traceparent: As the order has it.
        ceilings: As the order has them.
        follows: Id of the request that it follows, or None.
        inherits: Its epoch is that of another request, whether or not it is in force.
    """

    fields: HeaderFields
    mac: bytes
    fingerprint: str
    subject_ref: str | None
    key_epoch: int
    urgency: int
    traceparent: str | None
    ceilings: Ceilings = NO_CEILINGS
    follows: str | None = None
    inherits: bool = False


def make_header(
    order: Order,
    *,
    account: str,
    chunk_size: int,
    macs: Macs,
    now_us: int,
    follows: str | None = None,
    like: Row[Any] | None = None,
) -> Header:
    """Check an order and fill in what it leaves open.

    Args:
        order: What is asked for.
        account: Of its project.
        chunk_size: Most ids per call.
        macs: Makes MACs, references and the salt.
        now_us: Wall time.
        follows: Id of the request that it follows.
        like: Row of a request about the same subject, whose epoch is to be its epoch too: for where
            the key in force is not at hand. That of the row need not be either.

    Raises:
        RequestError: A field is out of its bounds; the message names the field.
    """
    subject = _checked_subject(order)
    lane = order.lane or order.default_lane or default_lane(order.kind)
    verify = (
        order.verify
        or order.default_verify
        or default_verify(order.kind, subject_named=subject is not None)
    )
    parse_verify(verify)
    if order.reason is not None:
        check_code(order.reason, "The reason")
    check_code(order.principal, "The principal")
    if order.traceparent is not None and not is_traceparent(order.traceparent):
        msg = "The traceparent is no W3C trace context; leave it out."
        raise RequestError(msg)
    now = from_wall(now_us)
    submitted_at = _aware(order.submitted_at, "submitted_at") or now
    due_at = _aware(order.due_at, "due_at") or default_due(lane, submitted_at)
    not_before = _aware(order.not_before, "not_before")
    request_id = new_id()
    epoch, salt, reference = _made_of_names(order, subject, request_id, macs, like)
    values = HeaderFields(
        id=request_id,
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
        salt=salt,
        include_later=int(_checked_later(order)),
    )
    return Header(
        fields=values,
        mac=macs.header(values),
        fingerprint=_fingerprint(order, macs),
        subject_ref=reference,
        key_epoch=epoch,
        urgency=urgency_of(due_at, now),
        traceparent=order.traceparent,
        ceilings=order.ceilings,
        follows=follows,
        inherits=like is not None,
    )


def is_traceparent(text: str) -> bool:
    """Say whether it is a W3C trace context that a later call can be linked to."""
    return _TRACEPARENT.fullmatch(text) is not None


def _made_of_names(
    order: Order, subject: str | None, request_id: str, macs: Macs, like: Row[Any] | None
) -> tuple[int, bytes, str | None]:
    """Give the epoch, and what its key makes: the salt, and the subject's reference."""
    epoch = macs.epoch if like is None else like.key_epoch
    if like is not None and epoch not in macs.epochs:
        # A salt of no key is gone with the names, which is sooner than it had to be.
        return epoch, secrets.token_bytes(_SALT), subject and like.subject_ref
    salt = macs.salt(epoch, order.project, request_id)
    if subject is None:
        return epoch, salt, None
    return epoch, salt, macs.subject(epoch, order.project, order.kind.value, subject)


def _checked_subject(order: Order) -> str | None:
    if order.kind is Kind.MEMORIES:
        if order.subject is None:
            return None
        return check_subject(order.subject, where="The user id")
    return check_subject(order.subject, where=f"The {order.kind.value} id")


def _checked_later(order: Order) -> bool:
    if order.include_later and order.kind is Kind.MEMORIES:
        msg = "Only a purge can include what appeared later; a batch names its ids."
        raise RequestError(msg)
    return order.include_later


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
    return macs.idempotency(order.project, key)


def _fingerprint(order: Order, macs: Macs) -> str:
    asked: dict[str, Any] = {
        "kind": order.kind.value,
        "subject": order.subject,
        "lane": order.lane and order.lane.value,
        "verify": order.verify,
        "reason": order.reason,
        # Left out where it is not asked for: keys of before there was such a choice still match.
        **({"include_later": True} if order.include_later else {}),
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
