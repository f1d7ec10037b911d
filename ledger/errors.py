"""The errors of Expunge: the class says what happens next, the message tells a person.

```
ExpungeError
├─ RequestError           the sender can mend it: exit code 2, HTTP 4xx, never retried
│  ├─ ConflictError       the idempotency key holds another payload, or the request is final
│  └─ NotFoundError       no such request
├─ SettingsError          a setting is missing, wrong or contradicts another one
├─ KeysError              a key file is missing, unreadable or of the wrong length
├─ LedgerError            the store did not confirm: retried, every write is safe to repeat
│  └─ SchemaError         the ledger has no tables, or those of another release
├─ StaleLeaseError        somebody else holds the work by now: the late write was refused
└─ TamperedError          a row does not carry the MAC of what was ordered: no call is made for it
```

Messages hold request ids, project names and settings' names. They never hold an API key, a user
id, a memory id, or text that came from MemOS.
"""

from typing import ClassVar

__all__ = [
    "ConflictError",
    "ExpungeError",
    "KeysError",
    "LedgerError",
    "NotFoundError",
    "RequestError",
    "SchemaError",
    "SettingsError",
    "StaleLeaseError",
    "TamperedError",
]


class ExpungeError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class RequestError(ExpungeError):
    """The request as handed in cannot be accepted; nothing was written."""

    exit_code = 2


class ConflictError(RequestError):
    """The same idempotency key was used for another payload, or the request is already final."""

    exit_code = 6


class NotFoundError(RequestError):
    """There is no such request."""

    exit_code = 5


class SettingsError(ExpungeError):
    """A setting is missing, out of bounds, misspelt, or contradicts another one."""

    exit_code = 2


class KeysError(ExpungeError):
    """A key file is missing, unreadable or of the wrong length."""

    exit_code = 2


class LedgerError(ExpungeError):
    """The ledger did not confirm; what was asked may be asked again."""

    exit_code = 8


class SchemaError(LedgerError):
    """The ledger has no tables yet, or those of another release."""


class StaleLeaseError(ExpungeError):
    """The lease lapsed and somebody else holds the work; the late write was refused."""


class TamperedError(ExpungeError):
    """A stored order does not match its MAC; no call is made for it."""

    exit_code = 9
