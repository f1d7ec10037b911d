"""128 bits by which ids are told apart, under a random key that lives as long as this process.

SipHash is a keyed function made for short texts, and what Python hashes text with: under a random
key unless somebody fixed it (`PYTHONHASHSEED`). Twice of it, once of the id as it is and once
behind a random salt, is a quarter of the time of BLAKE2, which stands in where Python's hash is
another one, or its key is known.
"""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

__all__ = ["Digests", "is_secret"]

_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 16
_BITS: Final = 64


def is_secret(
    hash_info: Any = sys.hash_info,  # noqa: ANN401 - a type of CPython's own
    flags: Any = sys.flags,  # noqa: ANN401
    environment: Mapping[str, str] = os.environ,  # noqa: TID251 - Python's own setting
) -> bool:
    """Say whether Python's hash of a text is SipHash of 64 bits under a key that nobody knows.

    Args:
        hash_info: As `sys.hash_info`. A cutoff means that short texts are hashed without a key.
        flags: As `sys.flags`.
        environment: As `os.environ` was when Python started.
    """
    seed = "" if flags.ignore_environment else environment.get("PYTHONHASHSEED", "")
    return bool(
        hash_info.algorithm.startswith("siphash")
        and hash_info.hash_bits == _BITS
        and hash_info.width == _BITS
        and hash_info.cutoff == 0
        and flags.hash_randomization
        and seed in ("", "random")
    )


class Digests:
    """Makes digests under a key of its own; those of another one are others."""

    def __init__(self, *, sip: bool | None = None) -> None:
        """Draw a key.

        Args:
            sip: Whether to use Python's own hash; None does when it is secret.
        """
        self._sip = is_secret() if sip is None else sip
        self._key = secrets.token_hex(_SALT_BYTES)

    def of(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        """Give the first and the second 64 bits of each text's digest, as signed integers.

        Args:
            texts: Without lone surrogates.
        """
        if not self._sip:
            return self._blake(texts)
        if all(map(str.isascii, texts)):
            return list(map(hash, texts)), list(map(hash, map(self._key.__add__, texts)))
        # As UTF-8. Python hashes what it has in memory, where two different texts may be the same
        # bytes, of one and of two to a letter; what is all ASCII has the same hash either way.
        raw = [each.encode() for each in texts]
        return list(map(hash, raw)), list(map(hash, map(self._key.encode().__add__, raw)))

    def _blake(self, texts: Sequence[str]) -> tuple[list[int], list[int]]:
        # The key goes first: unlike older hashes, BLAKE2 cannot be continued from its result.
        key = self._key.encode()
        made = (blake2b(key + each.encode(), digest_size=_DIGEST_BYTES).digest() for each in texts)
        numbers = memoryview(b"".join(made)).cast("q").tolist()
        return numbers[::2], numbers[1::2]
