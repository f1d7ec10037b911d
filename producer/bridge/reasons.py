"""Why a message cannot be an order: a closed list, with a sentence each for whoever sent it."""

from enum import StrEnum
from typing import Final

__all__ = ["MOST_BYTES", "SENTENCES", "Reason"]

# A thousand UUIDs and more; longer lists belong into several messages, or into a file.
MOST_BYTES: Final = 64 << 10


class Reason(StrEnum):
    """The slugs that the ledger, `<stream>.dead`, logs and metrics use."""

    TOO_BIG = "too_big"
    NO_EVENT_FIELD = "no_event_field"
    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"
    WRONG_TYPE = "wrong_type"
    WRONG_DATA = "wrong_data"
    FIELD_NOT_ALLOWED = "field_not_allowed"
    KIND_NOT_ALLOWED = "kind_not_allowed"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"


SENTENCES: Final = {
    Reason.TOO_BIG: f"The message has more than {MOST_BYTES // 1024} KiB; divide it.",
    Reason.NO_EVENT_FIELD: "The entry does not have one field, named `event`, and no other.",
    Reason.NOT_JSON: "The event is no JSON object in UTF-8 with each key once.",
    Reason.NOT_AN_EVENT: "It is no CloudEvents 1.0 event as structured JSON.",
    Reason.WRONG_TYPE: "The event's type is none that is known here.",
    Reason.WRONG_DATA: "The event's data is no order.",
    Reason.FIELD_NOT_ALLOWED: "The data names its project or idempotency key; the stream decides "
    "the first, and source and id of the event are the second.",
    Reason.KIND_NOT_ALLOWED: "The stream's `kinds` do not allow this kind of order.",
    Reason.CONFLICT: "An event of the same source and id ordered something else before.",
    Reason.UNREADABLE: "Reading it, or handing it in five times, failed in a way that nobody "
    "foresaw; please report it.",
}
