"""Short codes, kept where other systems keep free text, which tends to hold names."""

import re
from typing import Final

from ledger.errors import RequestError

__all__ = ["check_code"]

_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def check_code(value: str, what: str) -> str:
    """Give a code back unchanged, or refuse it.

    Args:
        value: 1 to 64 letters, digits and `._:-`.
        what: What it is, as the message shall name it.

    Raises:
        RequestError: It is no such code.
    """
    if not _CODE.fullmatch(value):
        msg = (
            f"{what} is not a short code of letters, digits and `._:-` (64 at most); "
            "free text is not kept, because it tends to hold names."
        )
        raise RequestError(msg)
    return value
