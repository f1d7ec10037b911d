"""The errors of Expunge: the class says what happens next, the message tells a person.

```
ExpungeError
├─ RequestError           the sender can mend it: exit code 2, HTTP 4xx, never retried
│  ├─ ConflictError       the idempotency key holds another payload, or the request is final
│  ├─ NotFoundError       no such request
│  └─ UnknownProjectError no such project, in the settings or in the ledger
├─ SettingsError          a setting is missing, wrong or contradicts another one
├─ KeysError              a key file is missing, unreadable or of the wrong length
├─ LedgerError            the store did not confirm: retried, every write is safe to repeat
│  ├─ SchemaError         the ledger has no tables, or those of another release
│  ├─ CommitUnknownError  all was done but the end of it: nobody can say whether it is recorded
│  ├─ DiskError           the disk failed under a commit: this process writes no more and must end
│  └─ OtherHostError      another host writes to the same SQLite file: this one must not
├─ StaleLeaseError        somebody else holds the work by now: the late write was refused
├─ TamperedError          a row does not carry the MAC of what was ordered: no call is made for it
└─ AuditError             the log is not what was signed: nothing more is signed, a person looks
   └─ RolledBackError     the ledger is older than the last published checkpoint, or another one
```

Messages hold request ids, project names and settings' names. They never hold an API key, a user
id, a memory id, or text that came from MemOS.
"""

from typing import ClassVar

__all__ = [
    "AuditError",
    "CommitUnknownError",
    "ConflictError",
    "DiskError",
    "ExpungeError",
    "KeysError",
    "LedgerError",
    "NotFoundError",
    "OtherHostError",
    "RequestError",
    "RolledBackError",
    "SchemaError",
    "SettingsError",
    "StaleLeaseError",
    "TamperedError",
    "UnknownProjectError",
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


class UnknownProjectError(RequestError):
    """The settings have no such project, or nobody has told the ledger of it."""


class SettingsError(ExpungeError):
    """A setting is missing, out of bounds, misspelt, or contradicts another one."""

    exit_code = 2


class KeysError(ExpungeError):
    """A key file is missing, unreadable or of the wrong length."""

    exit_code = 2


class LedgerError(ExpungeError):
    """The ledger did not confirm; what was asked may be asked again.

    Attributes:
        cause: The database's own word for it, such as `SQLITE_FULL` or `57P01`, if it had one.
    """

    exit_code = 8

    def __init__(self, *message: object, cause: str | None = None) -> None:
        super().__init__(*message)
        self.cause = cause


class SchemaError(LedgerError):
    """The ledger has no tables yet, or those of another release.

    Attributes:
        found: The ledger's revision; None without tables.
        needed: The revision of this release.
    """

    def __init__(
        self, *message: object, found: str | None = None, needed: str | None = None
    ) -> None:
        super().__init__(*message)
        self.found = found
        self.needed = needed


class CommitUnknownError(LedgerError):
    """The answer to a COMMIT was lost, and the database is away too long to be asked.

    What was asked is recorded whole or not at all. What has an idempotency key, and all that a
    worker records, may be asked again; for the rest look first whether it is there.
    """


class DiskError(LedgerError):
    """The disk failed while a commit was written to it; a restart shows whether it is there.

    After such a failure the operating system may take for written what never was, so nothing more
    is written by this process: it has to end and start anew.
    """


class OtherHostError(LedgerError):
    """Another host uses the same SQLite file, where leases and slots of two clocks would mix."""


class StaleLeaseError(ExpungeError):
    """The lease lapsed and somebody else holds the work; the late write was refused."""


class TamperedError(ExpungeError):
    """A stored order does not match its MAC; no call is made for it."""

    exit_code = 9


class AuditError(ExpungeError):
    """The log is not what was signed, or cannot be signed; nothing more is until a person looks."""

    exit_code = 9


class RolledBackError(AuditError):
    """The ledger is not the one whose last checkpoint was published: older, or another one.

    Calls made since are missing in it, so nothing is sent either.
    """
