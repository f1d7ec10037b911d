"""JSONL: one whole request a line, as a JSON object.

    {"user_id": "u-17", "reason": "gdpr-17", "submitted_at": "2026-11-20T09:00:00Z"}
    {"memory_ids": ["m-1", "m-2"], "user": "u-18", "idempotency_key": "ticket-4711"}

What it may say: `producer.order_fields`, and `project` and `idempotency_key`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ledger.errors import RequestError
from ledger.states import Kind
from producer.files.rejects import Reject
from producer.files.source import Source
from producer.order_fields import parse_object, parse_order, parse_time

__all__ = ["RequestRow", "parse_time", "read_requests"]

# A quarter of a million UUIDs; more belong into a file of ids.
LONGEST_REQUEST: Final = 10 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request as its line orders it; `subject` is whom a purge is about, or whose the ids are.

    `terms` holds what the line says of project, lane, verify, reason, idempotency_key,
    submitted_at, due_at, not_before and include_later, by these names.
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
                yield _row(line.number, line.content)
            except RequestError as error:
                yield Reject(line=line.number, reason=str(error))


def _row(number: int, text: str) -> RequestRow:
    found = parse_order(parse_object(text), more=("project", "idempotency_key"))
    return RequestRow(
        line=number,
        kind=found.kind,
        memory_ids=found.memory_ids,
        subject=found.subject,
        terms=found.terms,
    )
