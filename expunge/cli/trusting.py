"""Public keys that a command is to trust: those that were named, or those beside the log."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.audit.notes import PublicKey
    from ledger.settings import Settings

__all__ = ["given_keys", "trusted_keys"]


def given_keys(given: Sequence[str]) -> "list[PublicKey]":
    """Read the keys that were named, one by one or as `@FILE` with one a line.

    Raises:
        RequestError: One of them is none, or a file cannot be read.
    """
    from ledger.audit.notes import PublicKey  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415

    lines: list[str] = []
    for value in given:
        lines += _text(Path(value[1:])).splitlines() if value.startswith("@") else [value]
    try:
        return [PublicKey.parse(line) for line in lines if line.strip()]
    except ValueError as error:
        raise RequestError(str(error)) from None


def trusted_keys(given: Sequence[str], settings: "Settings") -> "list[PublicKey]":
    """Give the named keys, or without one those in EXPUNGE_AUDIT_DIR.

    Raises:
        AuditError: There is none.
        RequestError: As for `given_keys`.
    """
    from ledger.audit.published import Published  # noqa: PLC0415
    from ledger.errors import AuditError  # noqa: PLC0415

    keys = given_keys(given) or Published(settings.audit_dir).keys()
    if not keys:
        msg = (
            f"No public key is known: none is in {settings.audit_dir}. Give one with "
            "--public-key; `expunge keys show` prints it where the sealer runs."
        )
        raise AuditError(msg)
    return keys


def _text(path: Path) -> str:
    from ledger.errors import RequestError  # noqa: PLC0415

    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        msg = f"{path} cannot be read as text; name the file as it was kept."
        raise RequestError(msg) from None
