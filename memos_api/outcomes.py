"""From an HTTP answer to an outcome: by the body's `code` first, then by the HTTP status.

The rows are in `memos_api.codes`; here is only the order in which they are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from memos_api.codes import CODES, Outcome, rule_for_code, rule_for_status
from memos_api.retry_after import retry_after_s
from memos_api.strict_json import AmbiguousJsonError, parse_strictly

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "Outcome", "classify", "judge"]

# All documented codes have five digits at most.
_LARGEST_CODE = 99_999
_OK_CODES = frozenset(code for code, rule in CODES.items() if rule.outcome is Outcome.ACKNOWLEDGED)
# Whoever sent it, a page with one of these says that the call was turned away before it was read,
# and waiting or halving does no harm should that be wrong.
_PLAIN_STATUSES = frozenset({413, 429})
_SUCCESSES = range(200, 300)
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one call came to.

    Attributes:
        outcome: What is known, and with it what to do.
        code: The body's integer `code`; None without one.
        http_status: None when no answer came.
        retry_after_s: Seconds the server asked to wait, 0 to 3,600; None when it did not.
        reason: A short constant word such as `http_503` or `deadline`; never a provider's text.
    """

    outcome: Outcome
    code: int | None
    http_status: int | None
    retry_after_s: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An answer, and the body it was read from when that was a JSON object."""

    answer: Answer
    document: dict[str, object] | None


def classify(
    *,
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime | None = None,
) -> Answer:
    """Judge the answer to a `delete/memory` call.

    Args:
        http_status: The status line's number.
        headers: Header names in any case.
        body: The raw bytes; empty when there were none.
        now: Our time, for a `Retry-After` date without a `Date`; default: the present.

    Returns:
        Never raises: whatever cannot be understood is UNKNOWN.
    """
    return judge(
        http_status=http_status, headers=headers, body=body, now=now, needs_success=True
    ).answer


def judge(
    *,
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime | None = None,
    needs_success: bool,
) -> Judged:
    """Judge an answer and keep its body for the read-back.

    Args:
        http_status: As for `classify`.
        headers: As for `classify`.
        body: As for `classify`.
        now: As for `classify`.
        needs_success: True for deletions, whose success also needs `data.success`.
    """
    folded = {name.lower(): value for name, value in headers.items()}
    document, flaw = _document(folded.get("content-type", ""), body)
    code: int | None = None
    if http_status in _REDIRECTS:
        outcome, reason = rule_for_status(http_status).outcome, "redirect"
    elif folded.get("content-encoding", "identity").strip().lower() not in {"identity", ""}:
        # We asked for identity, so this is no server that read our request.
        outcome, reason = Outcome.UNKNOWN, "content_encoding"
    elif document is None or document.get("code") is None:
        outcome, reason = _by_status(http_status, flaw)
    elif isinstance(document["code"], int) and not isinstance(document["code"], bool):
        if 0 <= document["code"] <= _LARGEST_CODE:
            code = document["code"]
            outcome, reason = _by_code(code, http_status, _success(document), needs_success)
        else:
            # No code of MemOS, and it would be kept: a telephone number is an integer too.
            outcome, reason = Outcome.UNKNOWN, "code_out_of_range"
    else:
        outcome, reason = Outcome.UNKNOWN, "code_not_integer"
    answer = Answer(
        outcome=outcome,
        code=code,
        http_status=http_status,
        retry_after_s=retry_after_s(
            folded.get("retry-after"), date=folded.get("date"), now=now or datetime.now(UTC)
        ),
        reason=reason,
    )
    return Judged(answer=answer, document=document)


def _document(content_type: str, body: bytes) -> tuple[dict[str, object] | None, str]:
    """Read the body as a JSON object, or say in a word why it is none."""
    try:
        parsed = parse_strictly(body)
    except AmbiguousJsonError:
        return None, "ambiguous_json"
    except ValueError:
        return None, "html" if _is_html(content_type, body) else "not_json"
    return (parsed, "no_code") if isinstance(parsed, dict) else (None, "not_object")


def _by_status(http_status: int, flaw: str) -> tuple[Outcome, str]:
    """Judge an answer without a code.

    A page of HTML is some proxy's, whatever its status, and two-faced JSON may hide a code.
    """
    doubtful = flaw in {"html", "ambiguous_json"} and http_status not in _PLAIN_STATUSES
    if http_status in _SUCCESSES or doubtful:
        return Outcome.UNKNOWN, flaw
    return rule_for_status(http_status).outcome, f"http_{http_status}"


def _by_code(
    code: int,
    http_status: int,
    said: bool | None,  # noqa: FBT001  # what `data.success` said
    needs_success: bool,  # noqa: FBT001
) -> tuple[Outcome, str]:
    """Judge an answer with a code, which must not be at odds with the rest of it."""
    failing = code not in _OK_CODES
    at_odds = said is True if failing else http_status not in _SUCCESSES
    if at_odds:
        return Outcome.UNKNOWN, "contradiction"
    if failing:
        return rule_for_code(code).outcome, f"code_{code}"
    if said is False:
        return Outcome.UNKNOWN, "success_false"
    if said is None and needs_success:
        return Outcome.UNKNOWN, "success_missing"
    return Outcome.ACKNOWLEDGED, "ok"


def _success(document: dict[str, object]) -> bool | None:
    """Give what `data.success` says, None when it is not there.

    The string "true" counts, for one skill text of MemOS compares with it; any other value is no.
    """
    data = document.get("data")
    if not isinstance(data, dict) or data.get("success") is None:
        return None
    said = data["success"]
    return said is True or said == "true"


def _is_html(content_type: str, body: bytes) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in {"text/html", "application/xhtml+xml"} or body.lstrip()[:1] == b"<"
