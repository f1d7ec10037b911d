"""One message: a CloudEvents 1.0 event as structured JSON, read strictly.

    {"specversion": "1.0", "type": "expunge.deletion.requested.v1", "source": "/crm", "id": "4711",
     "time": "2026-11-20T09:00:00Z", "data": {"user_id": "u-17", "reason": "gdpr-17"}}

Attributes and their meaning: CloudEvents 1.0.2, sections 3.1 and 3.3, and its JSON format. What is
not understood in full is no order. No text of a message ever gets into an error.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.canonical import framed
from ledger.errors import RequestError
from ledger.header import is_traceparent
from producer.bridge.reasons import MOST_BYTES, SENTENCES, Reason
from producer.order_fields import OrderFields, parse_object, parse_order, parse_time

__all__ = ["EVENT_TYPE", "DeletionEvent", "PoisonError", "read_event"]

EVENT_TYPE: Final = "expunge.deletion.requested.v1"

_USUAL: Final = frozenset({"specversion", "type", "source", "id", "time", "datacontenttype"})
_NAME: Final = re.compile(r"[a-z0-9]{1,20}")
# Section 3.1, type String. A lone surrogate can be written in JSON, and in nothing else.
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_JSON: Final = re.compile(r"application/json(\s*;\s*charset=\"?utf-8\"?)?\s*", re.IGNORECASE)
_BODY: Final = frozenset({"data", "data_base64"})
_NOT_ALLOWED: Final = ("project", "idempotency_key")


class PoisonError(Exception):
    """A message that cannot be an order.

    Attributes:
        reason: The slug.
        detail: A sentence without anything of the message.
    """

    def __init__(self, reason: Reason, detail: str | None = None) -> None:
        """Keep both; None takes the reason's own sentence."""
        self.reason = reason
        self.detail = SENTENCES[reason] if detail is None else detail
        super().__init__(self.reason.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeletionEvent:
    """What a message orders.

    Attributes:
        key: Idempotency key that stands for source and id of the event.
        fields: The order.
        traceparent: The sender's trace, if it names one.
    """

    key: str
    fields: OrderFields = field(repr=False)
    traceparent: str | None


def read_event(body: bytes) -> DeletionEvent:
    """Read one message.

    Raises:
        PoisonError: It is no order, and why.
    """
    if len(body) > MOST_BYTES:
        raise PoisonError(Reason.TOO_BIG)
    try:
        # Strictly and without guessing: json itself would take UTF-16 for JSON too.
        given = parse_object(body.decode())
    except (UnicodeDecodeError, RequestError):
        raise PoisonError(Reason.NOT_JSON) from None
    # Section 3 of the JSON format: null is the same as absent.
    attributes = {
        name: value for name, value in given.items() if value is not None and name not in _BODY
    }
    _check_values(attributes)
    _check_event(attributes)
    if given.get("data_base64") is not None:
        raise _no_event("data_base64 is not taken; give data as a JSON object.")
    moment = _read_time(attributes["time"]) if "time" in attributes else None
    fields = _read_data(given.get("data"))
    if moment is not None:
        fields.terms.setdefault("submitted_at", moment)
    trace = attributes.get("traceparent")
    return DeletionEvent(
        key=_key(attributes["source"], attributes["id"]),
        fields=fields,
        traceparent=trace if isinstance(trace, str) and is_traceparent(trace) else None,
    )


def _check_values(attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if name not in _USUAL and not _NAME.fullmatch(name):
            raise _no_event("An attribute's name is not 1 to 20 lower-case letters and digits.")
        if not isinstance(value, str | int):  # a bool is an int
            raise _no_event("An attribute's value is no text, integer, true or false.")
    if _NO_TEXT.search("".join(value for value in attributes.values() if isinstance(value, str))):
        raise _no_event("An attribute holds a control character or a lone surrogate.")


def _check_event(attributes: dict[str, Any]) -> None:
    if attributes.get("specversion") != "1.0":
        raise _no_event('specversion is not "1.0".')
    for name in ("type", "source", "id"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise _no_event(f"{name} is missing, empty or no text.")
    if attributes["type"] != EVENT_TYPE:
        raise PoisonError(Reason.WRONG_TYPE)
    for name in ("datacontenttype", "dataschema", "subject", "time"):
        if name in attributes and not isinstance(attributes[name], str):
            raise _no_event(f"{name} is no text.")
    if "datacontenttype" in attributes and not _JSON.fullmatch(attributes["datacontenttype"]):
        raise _no_event("datacontenttype is not application/json.")


def _read_time(text: str) -> Any:  # noqa: ANN401 - a datetime, as the terms of an order hold it
    try:
        return parse_time(text, where="time")
    except RequestError as error:
        raise _no_event(str(error)) from None


def _read_data(data: object) -> OrderFields:
    if not isinstance(data, dict):
        raise PoisonError(Reason.WRONG_DATA, "data is missing, or no JSON object.")
    if any(name in data for name in _NOT_ALLOWED):
        raise PoisonError(Reason.FIELD_NOT_ALLOWED)
    try:
        return parse_order(data)
    except RequestError as error:
        raise PoisonError(Reason.WRONG_DATA, f"In data: {error}") from None


def _key(source: str, event_id: str) -> str:
    # Each behind its length: no two pairs give the same key. The ledger keeps an HMAC of it only.
    pair = framed("expunge/cloudevent/v1", source.encode(), event_id.encode())
    return f"ce-{hashlib.sha256(pair).hexdigest()}"


def _no_event(detail: str) -> PoisonError:
    return PoisonError(Reason.NOT_AN_EVENT, detail)
