"""JSONL: one whole request a line, as a JSON object.

    {"user_id": "u-17", "reason": "gdpr-17", "submitted_at": "2026-11-20T09:00:00Z"}
    {"memory_ids": ["m-1", "m-2"], "user": "u-18", "idempotency_key": "ticket-4711"}

Exactly one of `memory_ids`, `user_id` and `agent_id`. May be added: `user` (whose the memory ids
are), `project`, `lane`, `verify`, `reason`, `idempotency_key`, `submitted_at`, `due_at` and
`not_before` (ISO 8601 with a time zone). Any other key, a key that comes twice, or null where text
belongs makes the line a reject: of a line that is not understood in full, nothing is carried out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from ledger.errors import RequestError
from ledger.ids import check_memory_id, check_subject
from ledger.states import Kind, Lane
from producer.files.rejects import Reject
from producer.files.source import Source

__all__ = ["RequestRow", "parse_time", "read_requests"]

# A quarter of a million UUIDs; more belong into a file of ids.
LONGEST_REQUEST: Final = 10 << 20

_KINDS: Final = {"memory_ids": Kind.MEMORIES, "user_id": Kind.USER, "agent_id": Kind.AGENT}
_TEXTS: Final = ("project", "verify", "reason", "idempotency_key")
_TIMES: Final = ("submitted_at", "due_at", "not_before")
_KNOWN: Final = frozenset([*_KINDS, *_TEXTS, *_TIMES, "user", "lane"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request as its line orders it; `subject` is whom a purge is about, or whose the ids are.

    `terms` holds what the line says of project, lane, verify, reason, idempotency_key,
    submitted_at, due_at and not_before, by these names.
    """

    line: int
    kind: Kind
    memory_ids: tuple[str, ...]
    subject: str | None
    terms: dict[str, Any]


def read_requests(source: Source) -> Iterator[RequestRow | Reject]:
    """Yield each line's request, or why it is not taken; blank lines are passed over."""
    for line in source.lines(longest=LONGEST_REQUEST):
        if line.text is None:
            reason = "The line is longer than 10 MiB; hand so many ids in as a file of ids."
            yield Reject(line=line.number, reason=reason)
        elif line.content.strip(" \t\r"):
            try:
                yield _row(line.number, _object(line.content))
            except RequestError as error:
                yield Reject(line=line.number, reason=str(error))


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


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except RequestError:
        raise
    except (ValueError, RecursionError):
        msg = "The line is no JSON."
        raise RequestError(msg) from None
    if not isinstance(found, dict):
        msg = "The line is no JSON object."
        raise RequestError(msg)
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "A key comes twice, so nobody can tell which one is meant."
        raise RequestError(msg)
    return found


def _no_number(_name: str) -> NoReturn:
    msg = "The line holds NaN or Infinity, which JSON does not have."
    raise RequestError(msg)


def _row(number: int, given: dict[str, Any]) -> RequestRow:
    if set(given) - _KNOWN:
        # Not named: of a broken line, a key may be somebody's id.
        msg = f"The line has a key that is none of {', '.join(sorted(_KNOWN))}."
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
    else:
        if "user" in given:
            msg = "user says whose memory_ids they are; a purge has user_id or agent_id alone."
            raise RequestError(msg)
        subject = check_subject(given[kinds[0]], where=kinds[0])
    return RequestRow(line=number, kind=kind, memory_ids=ids, subject=subject, terms=_terms(given))


def _ids(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        msg = "memory_ids is no list with at least one id."
        raise RequestError(msg)
    return tuple(
        check_memory_id(each, where=f"Id {place} of memory_ids")
        for place, each in enumerate(given, start=1)
    )


def _terms(given: dict[str, Any]) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    for name in _TEXTS:
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
    for name in _TIMES:
        if name in given:
            terms[name] = parse_time(given[name], where=name)
    return terms
