"""What an id may look like. Ids are opaque: never trimmed, folded, normalised or re-encoded.

Changing an id would delete somebody else's memory, so an id is either taken byte for byte or
refused. Bounds: 1 to 256 bytes of UTF-8 for memory ids (ours), 1 to 100 characters for user and
agent ids (MemOS error code 40010).
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from ledger.errors import RequestError

__all__ = [
    "MAX_ID_BYTES",
    "MAX_SUBJECT_CHARACTERS",
    "are_plain_ids",
    "check_memory_id",
    "check_subject",
    "ids_as_json",
]

MAX_ID_BYTES: Final = 256
MAX_SUBJECT_CHARACTERS: Final = 100

# C0, DEL, C1, surrogates and the noncharacters: PostgreSQL refuses NUL, logs break on the others,
# and UTF-8 cannot carry a lone surrogate, so what MemOS would get is not what was handed in.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane * 0x10000 + low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)

_CONTROLS: Final = bytes((*range(0x20), 0x7F))
_MOST_BYTES_A_LETTER: Final = 4

# ensure_ascii keeps the stored text the same on every database and in every locale.
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def are_plain_ids(values: Sequence[object]) -> bool:
    """Say whether all of these are surely ids; of others, `check_memory_id` has to be asked.

    Args:
        values: Any number; by the thousand, an id takes a twentieth of what it takes alone.
    """
    try:
        joined = "".join(values)  # type: ignore[arg-type] # what is no text raises
    except TypeError:
        return False
    if joined.isascii():
        most = MAX_ID_BYTES
        raw = joined.encode()
        clean = len(raw.translate(None, _CONTROLS)) == len(raw)
    else:
        # Whatever is forbidden is not printable, either.
        most = MAX_ID_BYTES // _MOST_BYTES_A_LETTER
        clean = joined.isprintable()
    texts: Sequence[str] = values  # type: ignore[assignment]
    return clean and all(map(str.strip, texts)) and max(map(len, texts), default=0) <= most


def ids_as_json(ids: Sequence[str]) -> str:
    """Give the JSON array that a chunk stores: ASCII without blanks, always the same text.

    Args:
        ids: Ids that were checked.
    """
    body = '","'.join(ids)
    quotes = 2 * (len(ids) - 1)
    if ids and body.isascii() and "\\" not in body and body.count('"') == quotes:
        # Nothing in it has to be escaped: a check has kept control characters out.
        return f'["{body}"]'
    return _encode(ids)


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
