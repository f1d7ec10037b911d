"""One order as a JSON object says it: the same in a line of JSONL and in a queue's message.

Exactly one of `memory_ids`, `user_id` and `agent_id`. May be added: `user` (whose the memory ids
are), `lane`, `verify`, `reason`, `submitted_at`, `due_at` and `not_before` (ISO 8601 with a time
zone), `include_later` (true or false, of a purge), and what the caller allows besides. Any other
key, a key that comes twice, or null where text belongs is refused: of an order that is not
understood in full, nothing is carried out.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from ledger.errors import RequestError
from ledger.ids import check_memory_id, check_subject
from ledger.states import Kind, Lane

__all__ = ["OrderFields", "parse_object", "parse_order", "parse_time"]

_KINDS: Final = {"memory_ids": Kind.MEMORIES, "user_id": Kind.USER, "agent_id": Kind.AGENT}
_TEXTS: Final = ("verify", "reason")
_TIMES: Final = ("submitted_at", "due_at", "not_before")
_ALWAYS: Final = frozenset([*_KINDS, *_TEXTS, *_TIMES, "user", "lane", "include_later"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFields:
    """What one order says; `subject` is whom a purge is about, or whose the ids are.

    `terms` holds what it says of lane, verify, reason, submitted_at, due_at, not_before,
    include_later, and of the caller's own keys, by these names.
    """

    kind: Kind
    memory_ids: tuple[str, ...]
    subject: str | None
    terms: dict[str, Any]

    def __repr__(self) -> str:
        """Leave out everything that may name a person."""
        return f"OrderFields(kind={self.kind.value!r})"


def parse_object(text: str) -> dict[str, Any]:
    """Read one JSON object, strictly.

    Raises:
        RequestError: It is none, a key comes twice, or it holds NaN or Infinity.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except RequestError:
        raise
    except (ValueError, RecursionError):
        msg = "It is no JSON."
        raise RequestError(msg) from None
    if not isinstance(found, dict):
        msg = "It is no JSON object."
        raise RequestError(msg)
    return found


def parse_order(given: dict[str, Any], *, more: tuple[str, ...] = ()) -> OrderFields:
    """Read an order.

    Args:
        given: The object.
        more: Further keys that it may have, with text as their value.

    Raises:
        RequestError: It is no order; the message names keys, and never what they hold.
    """
    known = _ALWAYS.union(more)
    if set(given) - known:
        # Not named: of something broken, a key may be somebody's id.
        msg = f"It has a key that is none of {', '.join(sorted(known))}."
        raise RequestError(msg)
    kinds = [name for name in _KINDS if name in given]
    if len(kinds) != 1:
        found = " and ".join(kinds) if kinds else "none of them"
        msg = f"A request has exactly one of memory_ids, user_id and agent_id; this has {found}."
        raise RequestError(msg)
    kind = _KINDS[kinds[0]]
    ids: tuple[str, ...] = ()
    subject = None
    if kind is Kind.MEMORIES:
        ids = _ids(given["memory_ids"])
        if "user" in given:
            subject = check_subject(given["user"], where="user")
        if "include_later" in given:
            msg = "include_later is for purges; memory_ids are these and no later ones."
            raise RequestError(msg)
    else:
        if "user" in given:
            msg = "user says whose memory_ids they are; a purge has user_id or agent_id alone."
            raise RequestError(msg)
        subject = check_subject(given[kinds[0]], where=kinds[0])
    terms = _terms(given, texts=(*_TEXTS, *more))
    return OrderFields(kind=kind, memory_ids=ids, subject=subject, terms=terms)


def parse_time(text: object, *, where: str) -> datetime:
    """Read a moment such as `2026-11-20T09:00:00Z` or `2026-11-20 10:00:00+01:00`.

    Raises:
        RequestError: It is no such text, or has no time zone.
    """
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"{where} is no moment with a time zone, such as 2026-11-20T09:00:00Z."
        raise RequestError(msg)
    return moment


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "A key comes twice, so nobody can tell which one is meant."
        raise RequestError(msg)
    return found


def _no_number(_name: str) -> NoReturn:
    msg = "It holds NaN or Infinity, which JSON does not have."
    raise RequestError(msg)


def _ids(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        msg = "memory_ids is no list with at least one id."
        raise RequestError(msg)
    return tuple(
        check_memory_id(each, where=f"Id {place} of memory_ids")
        for place, each in enumerate(given, start=1)
    )


def _terms(given: dict[str, Any], *, texts: tuple[str, ...]) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    for name in texts:
        if name in given:
            if not isinstance(given[name], str) or not given[name]:
                msg = f"{name} is no text, or empty; leave it out when there is none."
                raise RequestError(msg)
            terms[name] = given[name]
    if "lane" in given:
        if given["lane"] not in list(Lane):
            msg = f"lane is none of {', '.join(Lane)}."
            raise RequestError(msg)
        terms["lane"] = Lane(given["lane"])
    if "include_later" in given:
        if not isinstance(given["include_later"], bool):
            msg = "include_later is neither true nor false."
            raise RequestError(msg)
        terms["include_later"] = given["include_later"]
    for name in _TIMES:
        if name in given:
            terms[name] = parse_time(given[name], where=name)
    return terms
