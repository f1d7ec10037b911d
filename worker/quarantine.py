"""Judges what stands in the doorbell's list: whoever can write to Redis can put anything there.

A message says "look into the ledger" and nothing else, so there is nothing in it to keep: one that
we would have sent ourselves rings, any other is refused with a word for the reason, and neither
its body nor its headers are used for anything.
"""

import base64
import json
from enum import StrEnum
from typing import Final

from ledger.doorbell import TASK

__all__ = ["LONGEST_BYTES", "RejectReason", "judge"]

# Ours has about 900 bytes; tracing libraries add headers of their own.
LONGEST_BYTES: Final = 16_384
_PARTS: Final = 3


class RejectReason(StrEnum):
    """Why a message was refused: a closed list, since its own words may hold anything."""

    TOO_LONG = "too_long"
    NOT_JSON = "not_json"
    NOT_A_MESSAGE = "not_a_message"
    UNKNOWN_TASK = "unknown_task"
    BAD_BODY = "bad_body"
    ARGUMENTS = "arguments"


class _RejectedError(ValueError):
    def __init__(self, reason: RejectReason) -> None:
        self.reason = reason
        super().__init__(reason.value)


def judge(raw: bytes) -> RejectReason | None:
    """Say why a message must not ring, or None when it may.

    Args:
        raw: The list's element, as Redis gave it.
    """
    try:
        _check_body(_body_of(raw))
    except _RejectedError as error:
        return error.reason
    return None


def _body_of(raw: bytes) -> object:
    if len(raw) > LONGEST_BYTES:
        raise _RejectedError(RejectReason.TOO_LONG)
    envelope = _parse(raw, RejectReason.NOT_JSON)
    headers = envelope.get("headers") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or not isinstance(headers, dict):
        raise _RejectedError(RejectReason.NOT_A_MESSAGE)
    if headers.get("task") != TASK:
        raise _RejectedError(RejectReason.UNKNOWN_TASK)
    return envelope.get("body")


def _check_body(body: object) -> None:
    if not isinstance(body, str):
        raise _RejectedError(RejectReason.BAD_BODY)
    try:
        text = base64.b64decode(body, validate=True)
    except ValueError:  # binascii's error is one too
        raise _RejectedError(RejectReason.BAD_BODY) from None
    parts = _parse(text, RejectReason.BAD_BODY)
    if not isinstance(parts, list) or len(parts) != _PARTS:
        raise _RejectedError(RejectReason.BAD_BODY)
    # The third part names callbacks and chains, which nobody looks at.
    if parts[:2] != [[], {}]:
        raise _RejectedError(RejectReason.ARGUMENTS)


def _parse(text: bytes, otherwise: RejectReason) -> object:
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        raise _RejectedError(otherwise) from None
    return parsed
