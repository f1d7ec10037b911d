"""Canonical JSON (RFC 8785) for everything that is hashed, and framing for what is MACed.

Payloads hold strings, integers below 2^53, booleans, null, arrays and objects; no floats, so that
any language's sorted JSON gives the same bytes.
"""

import rfc8785

__all__ = ["canonical", "framed"]


def canonical(value: object) -> bytes:
    """Give the one byte string that stands for `value`.

    Raises:
        ValueError: A float, an integer of 2^53 or more, or text that UTF-8 cannot carry.
    """
    _refuse_floats(value)
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError:
        msg = "The value has no canonical JSON form."
        raise ValueError(msg) from None


def framed(domain: str, *parts: bytes) -> bytes:
    """Join parts so that no two lists of parts give the same bytes: each behind its length."""
    out = [domain.encode(), b"\n"]
    for part in parts:
        out.append(len(part).to_bytes(8, "big"))
        out.append(part)
    return b"".join(out)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        msg = "Floats have no place in a hashed payload; use integers with a unit."
        raise ValueError(msg)  # noqa: TRY004 - one error class for all that cannot be hashed
    if isinstance(value, dict):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, list | tuple):
        for member in value:
            _refuse_floats(member)
