"""What an id may look like. Ids are opaque: never trimmed, folded, normalised or re-encoded.

Changing an id would delete somebody else's memory, so an id is either taken byte for byte or
refused. Bounds: 1 to 256 bytes of UTF-8 for memory ids (ours), 1 to 100 characters for user and
agent ids (MemOS error code 40010).
"""

import re
from typing import Final

from ledger.errors import RequestError

__all__ = ["MAX_ID_BYTES", "MAX_SUBJECT_CHARACTERS", "check_memory_id", "check_subject"]

MAX_ID_BYTES: Final = 256
MAX_SUBJECT_CHARACTERS: Final = 100

# C0, DEL, C1, surrogates and the noncharacters: PostgreSQL refuses NUL, logs break on the others,
# and UTF-8 cannot carry a lone surrogate, so what MemOS would get is not what was handed in.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


def check_memory_id(value: object, *, where: str) -> str:
    """Give the id back unchanged, or refuse it.

    Args:
        value: What the sender gave.
        where: Named in the error instead of the id, such as `id 17` or `line 4`.

    Raises:
        RequestError: Not text, empty, blank, over 256 bytes, or with a control character.
    """
    text = _check_text(value, where=where)
    size = len(text.encode())
    if size > MAX_ID_BYTES:
        msg = (
            f"{where} is {size} bytes long, more than the {MAX_ID_BYTES} an id may have; "
            "check that the right column or field was taken."
        )
        raise RequestError(msg)
    return text


def check_subject(value: object, *, where: str) -> str:
    """Give a user or agent id back unchanged, or refuse it.

    Raises:
        RequestError: Not text, empty, blank, over 100 characters, or with a control character.
    """
    text = _check_text(value, where=where)
    if len(text) > MAX_SUBJECT_CHARACTERS:
        msg = (
            f"{where} is {len(text)} characters long, more than the {MAX_SUBJECT_CHARACTERS} that "
            "MemOS allows (its error 40010); check that the right field was taken."
        )
        raise RequestError(msg)
    return text


def _check_text(value: object, *, where: str) -> str:
    if not isinstance(value, str):
        msg = f"{where} is not text but {type(value).__name__}; give ids as strings."
        raise RequestError(msg)
    if not value.strip():
        msg = f"{where} is empty or blank; leave it out or give the id."
        raise RequestError(msg)
    if _FORBIDDEN.search(value):
        msg = (
            f"{where} holds a control character, a lone surrogate or a noncharacter; "
            "ids are never repaired, so correct it at its source."
        )
        raise RequestError(msg)
    return value
