"""The closed list of what can be recorded: each type's versions, and each version's fields.

A payload that does not match the newest version of its type is refused before it is written, so
that whoever reads the log years later knows what may stand in it. A field holds an id without
meaning, a count, a code or a digest; a type that needs another field gets another version, and
its old ones stay here for as long as logs hold them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ledger.states import Certainty, Kind, Lane, RequestState, Result

__all__ = ["BASE_FIELDS", "SCHEMAS", "EventType", "Schema", "fault_of", "newest"]

# What every event begins with; `ledger.events` fills it in.
BASE_FIELDS: Final = frozenset({"v", "id", "type", "at", "request"})


class EventType(StrEnum):
    """The closed list of what can happen."""

    REQUEST_ACCEPTED = "request.accepted"
    REQUEST_VERIFYING = "request.verifying"
    REQUEST_REOPENED = "request.reopened"
    REQUEST_FINISHED = "request.finished"
    REQUEST_LOOKED_AGAIN = "request.looked_again"
    REQUEST_HELD = "request.held"
    REQUEST_RELEASED = "request.released"
    REQUEST_CANCELLED = "request.cancelled"
    REQUEST_REDRIVEN = "request.redriven"
    DEAD_DISCARDED = "dead.discarded"
    DEAD_REVEALED = "dead.revealed"
    MESSAGE_PARKED = "message.parked"
    CALLS_INTENT = "calls.intent"
    CALLS_OUTCOME = "calls.outcome"
    LEASES_LAPSED = "leases.lapsed"
    ACCOUNT_PAUSED = "account.paused"
    ACCOUNT_RESUMED = "account.resumed"
    PROJECT_PAUSED = "project.paused"
    PROJECT_RESUMED = "project.resumed"
    PROJECT_BROKEN = "project.broken"
    PROJECT_MENDED = "project.mended"
    ORDER_TAMPERED = "order.tampered"
    LOG_OPENED = "log.opened"
    KEY_ROTATED = "key.rotated"
    BODIES_PRUNED = "bodies.pruned"
    REQUEST_SCRUBBED = "request.scrubbed"
    CERTIFICATE_OPENED = "certificate.opened"
    SUBJECTS_LOOKED_UP = "subjects.looked_up"
    BATCHES_LOOKED_UP = "batches.looked_up"
    KEY_EPOCH_BEGUN = "key_epoch.begun"
    KEY_EPOCH_DESTROYED = "key_epoch.destroyed"
    KEYS_ADOPTED = "keys.adopted"


Check = Callable[[object], bool]
_DIGEST: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_LONGEST: Final = 512


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One version of a type.

    Attributes:
        version: The payload's `v`.
        forms: Fields by name, each with its check. A payload has exactly those of one form.
    """

    version: int
    forms: tuple[Mapping[str, Check], ...]


def _text(value: object) -> bool:
    return type(value) is str and len(value) <= _LONGEST


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _number(value: object) -> bool:
    return type(value) is int


def _yes(value: object) -> bool:
    return value is True


def _flag(value: object) -> bool:
    return type(value) is bool


def _digest(value: object) -> bool:
    return type(value) is str and _DIGEST(value) is not None


def _texts(value: object) -> bool:
    return type(value) is list and all(map(_text, value))


def _counts(value: object) -> bool:
    return type(value) is dict and all(map(_text, value)) and all(map(_count, value.values()))


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(words: type[StrEnum]) -> Check:
    known = frozenset(word.value for word in words)
    return lambda value: value in known


def _v1(*forms: Mapping[str, Check]) -> tuple[Schema, ...]:
    return (Schema(version=1, forms=forms),)


_ACT: Final[Mapping[str, Check]] = {"principal": _text, "reason": _text}
_RESUME: Final[Mapping[str, Check]] = {
    "principal": _text,
    "reason": _maybe(_text),
    "paused_for": _maybe(_text),
}
_SOME_DEAD: Final[Mapping[str, Check]] = {"generation": _count, "chunks": _count, "ids": _count}
_LOOK: Final[Mapping[str, Check]] = {
    "result": _text,
    "found": _count,
    "later": _count,
    "ordered": _maybe(_text),
}
_ACCEPTED: Final[Mapping[str, Check]] = {
    "project": _text,
    "kind": _one_of(Kind),
    "lane": _one_of(Lane),
    "verify": _text,
    "reason": _maybe(_text),
    "principal": _text,
    "requested": _count,
    "unique": _count,
    "chunks": _count,
    "subject_ref": _maybe(_digest),
    "order_digest": _digest,
    "held_for": _maybe(_text),
}
_FINISHED: Final[Mapping[str, Check]] = {
    "generation": _count,
    "result": _one_of(Result),
    "certainty": _maybe(_one_of(Certainty)),
    "attempts": _count,
    "counts": _counts,
    "requested": _count,
    "unique": _count,
}
# What a certificate says.
_CERTIFIED: Final[Mapping[str, Check]] = {
    **_FINISHED,
    "tampered": _flag,
    "project": _text,
    "kind": _one_of(Kind),
    "lane": _one_of(Lane),
    "reason": _maybe(_text),
    "principal": _text,
    "accepted_at": _text,
    "submitted_at": _text,
    "due_at": _maybe(_text),
    "order_digest": _maybe(_digest),
    "chunk_size": _count,
    "items_root": _maybe(_digest),
    "subject_binding": _maybe(_digest),
    "opening_digest": _maybe(_digest),
    "key_epoch": _count,
    "api": _text,
    "release": _text,
    "delete_calls": _count,
    "delete_from": _maybe(_text),
    "delete_to": _maybe(_text),
    "verify": _text,
    "method": _text,
    "drawn": _maybe(_count),
    "read_calls": _count,
    "read_from": _maybe(_text),
    "read_to": _maybe(_text),
    "leftovers": _count,
    "later": _count,
    "include_later": _flag,
    "not_checked": _texts,
    "issuer": _maybe(_text),
    "backup_days": _maybe(_count),
}

# Versions of each type, the newest last.
SCHEMAS: Final[Mapping[EventType, tuple[Schema, ...]]] = {
    EventType.REQUEST_ACCEPTED: (
        Schema(version=1, forms=(_ACCEPTED,)),
        Schema(version=2, forms=({**_ACCEPTED, "key_epoch": _count},)),
    ),
    EventType.REQUEST_VERIFYING: _v1({"policy": _text, "by": _text}),
    EventType.REQUEST_REOPENED: _v1({"why": _text}),
    EventType.REQUEST_FINISHED: (
        Schema(version=1, forms=(_FINISHED,)),
        Schema(version=2, forms=(_CERTIFIED,)),
    ),
    EventType.REQUEST_LOOKED_AGAIN: (
        # `not_checked` was JSON inside of JSON.
        Schema(version=1, forms=({**_LOOK, "not_checked": _maybe(_text)},)),
        Schema(version=2, forms=({**_LOOK, "not_checked": _texts},)),
    ),
    EventType.REQUEST_HELD: _v1({**_ACT, "state": _one_of(RequestState)}),
    EventType.REQUEST_RELEASED: _v1({**_ACT, "held_for": _maybe(_text), "reason": _maybe(_text)}),
    EventType.REQUEST_CANCELLED: _v1({**_ACT, "state": _one_of(RequestState)}),
    EventType.REQUEST_REDRIVEN: _v1({**_ACT, **_SOME_DEAD, "interval_ns": _count}),
    EventType.DEAD_DISCARDED: _v1({**_ACT, **_SOME_DEAD}),
    EventType.DEAD_REVEALED: _v1({"principal": _text, **_SOME_DEAD}),
    EventType.MESSAGE_PARKED: _v1(
        {
            "broker": _text,
            "stream": _text,
            "position": _text,
            "body_ref": _text,
            "reason": _text,
            "size": _count,
            "parked": _text,
        }
    ),
    EventType.CALLS_INTENT: _v1(
        {"claim": _text, "account": _text, "worker": _text, "calls": _count, "digest": _digest},
        {
            "probe": _yes,
            "claim": _text,
            "account": _text,
            "project": _text,
            "worker": _text,
            "calls": _count,
            "slot": _text,
        },
    ),
    EventType.CALLS_OUTCOME: _v1(
        {"calls": _count, "stale": _count, "outcomes": _counts, "digest": _digest},
        {
            "probe": _yes,
            "claim": _text,
            "calls": _count,
            "stale": _count,
            "outcomes": _counts,
            "reason": _text,
            "http_status": _maybe(_number),
            "code": _maybe(_number),
        },
    ),
    EventType.LEASES_LAPSED: _v1({"calls": _count, "given_up": _count}),
    EventType.ACCOUNT_PAUSED: _v1(
        {"account": _text, "reason": _text, "milliseconds": _count}, {"account": _text, **_ACT}
    ),
    EventType.ACCOUNT_RESUMED: _v1({"account": _text, **_RESUME}),
    EventType.PROJECT_PAUSED: _v1({"project": _text, "reason": _text}, {"project": _text, **_ACT}),
    EventType.PROJECT_RESUMED: _v1({"project": _text, **_RESUME}),
    EventType.PROJECT_BROKEN: _v1({"project": _text, "reason": _text}),
    EventType.PROJECT_MENDED: _v1({"project": _text}),
    EventType.ORDER_TAMPERED: _v1(
        {"fault": _text},
        {"fault": _text, "chunk": _maybe(_count)},
        {"fault": _text, "ids": _count},
    ),
    # Of the log itself. `previous_*` say which log it goes on from, None for the first.
    EventType.LOG_OPENED: _v1(
        {
            **_ACT,
            "origin": _text,
            "key": _text,
            "size": _count,
            "previous_origin": _maybe(_text),
            "previous_size": _maybe(_count),
            "previous_root": _maybe(_digest),
        }
    ),
    EventType.KEY_ROTATED: _v1({**_ACT, "old_key": _text, "new_key": _text}),
    EventType.BODIES_PRUNED: _v1({**_ACT, "below": _count}),
    # Of the names that are left: when they went, and who used the keys that tell them.
    EventType.REQUEST_SCRUBBED: _v1(
        {"generation": _count, "chunks": _count, "dead": _count, "whole": _flag}
    ),
    EventType.CERTIFICATE_OPENED: _v1({"principal": _text, "generation": _count}),
    EventType.SUBJECTS_LOOKED_UP: _v1(
        {"principal": _text, "asked": _count, "known": _count, "projects": _count}
    ),
    # `asked` counts the ids of the list, `known` the batches that it was the whole list of.
    EventType.BATCHES_LOOKED_UP: _v1({"principal": _text, "asked": _count, "known": _count}),
    EventType.KEY_EPOCH_BEGUN: _v1({**_ACT, "epoch": _count}),
    EventType.KEY_EPOCH_DESTROYED: _v1({**_ACT, "epoch": _count, "requests": _count}),
    EventType.KEYS_ADOPTED: _v1(_ACT),
}


def newest(kind: EventType) -> Schema:
    """Give the version of a type that is written today."""
    return SCHEMAS[kind][-1]


def fault_of(schema: Schema, payload: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a payload, None when it matches; never shows a value.

    Args:
        schema: The version it says it is of.
        payload: Its fields without those that every event has.
    """
    for form in schema.forms:
        if form.keys() == payload.keys():
            for name, check in form.items():
                if not check(payload[name]):
                    return f"its field {name} is not of the kind that it must be"
            return None
    return f"it has other fields than its schema ({', '.join(sorted(payload)) or 'none'})"
