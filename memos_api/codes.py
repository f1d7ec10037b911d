"""What each answer of MemOS means for us, as data: one row a code, status or range.

Sources: the Cloud's error code page and the delete page for the meanings; the judgements are ours.
They follow one rule: a call is taken as *not* having deleted anything only where the answer cannot
come from a server that deleted, and nothing that a working project could bring about by one odd id
stops that project.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "CODES",
    "CODE_RANGES",
    "STATUSES",
    "Outcome",
    "Rule",
    "rule_for_code",
    "rule_for_status",
]


class Outcome(StrEnum):
    """What is known after a call, and with it what the caller does next."""

    NOT_APPLIED = "not_applied"  # nothing left this machine: send again after a pause
    UNKNOWN = "unknown"  # may have been applied: send again or read back
    ACKNOWLEDGED = "acknowledged"  # MemOS said yes; read back before calling it gone
    NOT_FOUND = "not_found"  # one of the ids (or the user) is not there: bisect, or already absent
    REFUSED = "refused"  # not with this body: bisect to the id, final for a single one
    TOO_LARGE = "too_large"  # halve
    BACK_OFF = "back_off"  # over the rate: all of the account waits
    PAUSE_PROJECT = "pause_project"  # key or address is wrong: a person has to look
    PAUSE_ACCOUNT = "pause_account"  # quota used up: a person has to look
    PERMANENT = "permanent"  # a fault of ours or of the endpoint: never the same again


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row: what the answer means, what follows, and why we judge it so."""

    outcome: Outcome
    meaning: str
    judgement: str


def _rule(outcome: Outcome, meaning: str, judgement: str) -> Rule:
    return Rule(outcome=outcome, meaning=meaning, judgement=judgement)


CODES = MappingProxyType(
    {
        0: _rule(Outcome.ACKNOWLEDGED, "success", "only at HTTP 2xx and with data.success true"),
        200: _rule(
            Outcome.ACKNOWLEDGED, "success (SDK tests, self-hosted)", "as 0: both are seen in use"
        ),
        40000: _rule(
            Outcome.REFUSED, "bad parameters", "of a batch one id may be the cause: bisect"
        ),
        40001: _rule(
            Outcome.NOT_FOUND, "requested data does not exist", "single id: already absent"
        ),
        40002: _rule(Outcome.PERMANENT, "a required field is empty", "our own fault"),
        40003: _rule(Outcome.PERMANENT, "a list is empty", "our own fault"),
        40006: _rule(Outcome.PERMANENT, "unsupported type", "not expected here"),
        40007: _rule(Outcome.PERMANENT, "file trouble", "not expected here"),
        40008: _rule(Outcome.PERMANENT, "file trouble", "not expected here"),
        40009: _rule(Outcome.PERMANENT, "base64 trouble", "not expected here"),
        40010: _rule(
            Outcome.PERMANENT, "user id over 100 characters", "was to be refused at submission"
        ),
        40011: _rule(Outcome.PERMANENT, "conversation id over 100 characters", "not expected here"),
        40020: _rule(Outcome.PAUSE_PROJECT, "project id invalid", "configuration"),
        40100: _rule(Outcome.PAUSE_PROJECT, "API key needed", "configuration"),
        40101: _rule(
            Outcome.PAUSE_PROJECT, "undocumented; a first-party client reads it as forbidden", "key"
        ),
        40103: _rule(
            Outcome.PAUSE_PROJECT, "API key invalid or expired", "only on the delete page"
        ),
        40130: _rule(Outcome.PAUSE_PROJECT, "API key needed", "configuration"),
        40132: _rule(
            Outcome.PAUSE_PROJECT, "API key invalid, expired or of another project", "configuration"
        ),
        40300: _rule(
            Outcome.BACK_OFF, "call limit exceeded", "older text says quota, newer rate: back off"
        ),
        40301: _rule(Outcome.TOO_LARGE, "token limit", "permanent for this body: halve"),
        40302: _rule(Outcome.TOO_LARGE, "length limit", "permanent for this body: halve"),
        40303: _rule(Outcome.TOO_LARGE, "length limit", "permanent for this body: halve"),
        40304: _rule(
            Outcome.PAUSE_ACCOUNT, "the account's total calls are used up", "all of its projects"
        ),
        40305: _rule(Outcome.TOO_LARGE, "length limit", "permanent for this body: halve"),
        40306: _rule(
            Outcome.REFUSED, "no right to delete this memory", "that id's fault: bisect to it"
        ),
        40307: _rule(
            Outcome.NOT_FOUND,
            "memory to delete does not exist",
            "what became of the batch's known ids is not documented: bisect or read back",
        ),
        40308: _rule(
            Outcome.NOT_FOUND, "user or agent does not exist", "already empty, or a mistyped id"
        ),
        40309: _rule(
            Outcome.PAUSE_ACCOUNT, "quota (seen in a first-party client only)", "as 40304"
        ),
        50000: _rule(
            Outcome.UNKNOWN,
            "internal error; also what the Cloud answers on a path that does not exist",
            "may have been applied; constant from the first call on: the base URL",
        ),
        50002: _rule(Outcome.UNKNOWN, "operation failed", "may have been applied in part"),
        50004: _rule(Outcome.UNKNOWN, "memory service unavailable", "may have been applied"),
        50005: _rule(Outcome.UNKNOWN, "search service unavailable", "may have been applied"),
    },
)
"""Rows for single codes; they go before the ranges."""

CODE_RANGES: tuple[tuple[range, Rule], ...] = (
    (
        range(40300, 40400),
        _rule(Outcome.BACK_OFF, "a first-party client reads 403xx as rate limited", "not final"),
    ),
    (
        range(40000, 50000),
        _rule(Outcome.REFUSED, "unknown 4xxxx", "final after one retry, which is the caller's"),
    ),
    (
        range(50100, 50200),
        _rule(
            Outcome.PERMANENT,
            "knowledge base, task, add, feedback",
            "not expected on this endpoint",
        ),
    ),
    (range(50000, 60000), _rule(Outcome.UNKNOWN, "unknown 5xxxx", "may have been applied")),
    (
        range(60000, 60100),
        _rule(Outcome.UNKNOWN, "a first-party client: internal", "may have been applied"),
    ),
)
"""Rows for ranges of codes; the first that holds the code counts."""

STATUSES: tuple[tuple[range, Rule], ...] = (
    (range(200, 300), _rule(Outcome.UNKNOWN, "2xx without a code", "an empty 202 has been seen")),
    (
        range(300, 400),
        _rule(Outcome.PAUSE_PROJECT, "redirect", "never followed: the base URL is wrong"),
    ),
    (
        range(401, 402),
        _rule(Outcome.PAUSE_PROJECT, "key refused", "every further call would be refused too"),
    ),
    (
        range(402, 403),
        _rule(Outcome.PAUSE_ACCOUNT, "payment required (not documented)", "as a used-up quota"),
    ),
    (range(403, 406), _rule(Outcome.PAUSE_PROJECT, "forbidden, no such path or method", "address")),
    (range(407, 408), _rule(Outcome.PAUSE_PROJECT, "proxy wants a login", "configuration")),
    (range(408, 409), _rule(Outcome.UNKNOWN, "request timeout", "may have been applied")),
    (
        range(410, 411),
        _rule(
            Outcome.PAUSE_PROJECT, "the path is gone", "an id that is gone has a code of its own"
        ),
    ),
    (range(413, 414), _rule(Outcome.TOO_LARGE, "body too large", "halve")),
    (range(425, 426), _rule(Outcome.UNKNOWN, "too early", "sent again")),
    (range(429, 430), _rule(Outcome.BACK_OFF, "over the rate", "refused before it was read")),
    (range(400, 500), _rule(Outcome.REFUSED, "bad request (400, 422 and others)", "bisect")),
    (range(500, 600), _rule(Outcome.UNKNOWN, "server or gateway failed", "may have been applied")),
)
"""Rows for HTTP statuses without a usable code; the first that holds the status counts."""

_ODD = _rule(Outcome.UNKNOWN, "not in any table", "taken as possibly applied")


def rule_for_status(status: int) -> Rule:
    """Give the row of an HTTP status; of one outside 200 to 599 a row that says *unknown*."""
    return next((rule for statuses, rule in STATUSES if status in statuses), _ODD)


def rule_for_code(code: int) -> Rule:
    """Give the row of a body code; self-hosted servers put the HTTP status there (400, 422)."""
    known = CODES.get(code)
    if known is not None:
        return known
    ranged = next((rule for codes, rule in CODE_RANGES if code in codes), None)
    return ranged if ranged is not None else rule_for_status(code)
