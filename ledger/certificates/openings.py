"""Openings: what shows that a certificate is about a certain list or a certain person.

Kept apart from the certificate, so that this can be shown to others without letting them try out
names. Who has the opening can.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from ledger.canonical import canonical
from ledger.errors import RequestError

__all__ = ["FORMAT", "Opening", "read_opening"]

FORMAT: Final = "expunge-opening/v1"
_MOST_BYTES: Final = 10_000
_DIGITS: Final = 64


@dataclass(frozen=True, kw_only=True, repr=False)
class Opening:
    """What opens one certificate.

    Attributes:
        request: The request's id.
        generation: Its generation.
        salt: 32 bytes; opens the ids, and all else. None when it was taken out.
        subject_nonce: 32 bytes; opens the user or agent only. None without one.
    """

    request: str
    generation: int
    salt: bytes | None
    subject_nonce: bytes | None

    def file(self) -> bytes:
        """Give the file's bytes."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "request": self.request,
            "generation": self.generation,
        }
        if self.salt is not None:
            fields["salt"] = self.salt.hex()
        if self.subject_nonce is not None:
            fields["subject_nonce"] = self.subject_nonce.hex()
        return canonical(fields) + b"\n"


def read_opening(data: bytes) -> Opening:
    """Read an opening.

    Raises:
        RequestError: It is none.
    """
    try:
        found = json.loads(data[:_MOST_BYTES].decode())
        known = {"format", "request", "generation", "salt", "subject_nonce"}
        if found["format"] != FORMAT or found.keys() - known:
            raise KeyError  # noqa: TRY301 - one end for all that is no opening
        return Opening(
            request=str(found["request"]),
            generation=int(found["generation"]),
            salt=_secret(found.get("salt")),
            subject_nonce=_secret(found.get("subject_nonce")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        msg = (
            "This is no opening of a certificate; `expunge certificate issue ID --opening FILE` "
            "writes one."
        )
        raise RequestError(msg) from None


def _secret(digits: object) -> bytes | None:
    if digits is None:
        return None
    if not isinstance(digits, str) or len(digits) != _DIGITS:
        raise ValueError
    return bytes.fromhex(digits)
