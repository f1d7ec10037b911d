"""How far an import has come, so that one that broke off goes on and repeats nothing.

Each run has a random token, from which the idempotency keys of its requests are derived: what the
ledger holds already is found there by its key, whatever the journal knows. The journal only saves
asking again for all of it. It lies in `EXPUNGE_HOME/imports`, one file a run, named by a keyed
digest of content and options and at random; it holds counts and line numbers, no id and no user.

A run writes and removes its own journal and nobody else's, so none can be lost to another one.
Which of them is gone on with, `Journal.find` alone decides.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ledger.canonical import canonical
from ledger.errors import RequestError
from ledger.macs import Macs
from producer.files.layout import Layout
from producer.files.source import Source
from producer.files.terms import Terms

__all__ = ["MOST_REFUSED", "Journal", "Progress", "Run", "import_digest"]

_VERSION: Final = 2
_KEPT: Final = timedelta(days=30)
_BETWEEN_WRITES_S: Final = 1.0
MOST_REFUSED: Final = 10_000
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the ledger is known to hold of a run.

    Attributes:
        done: The first so many requests of the file are handed in.
        requests: Of these, how many are recorded; the others were refused.
        requested: Ids in them, repeats included.
        unique: Ids after folding.
        refused: Lines that the ledger refused; they are handed in again.
        last: Id of the last request, by which a later run knows that it sees the same ledger; None
            when that one had been recorded before, which tells nothing of this run.
        ended_at: When all of the file was handed in, in seconds since 1970; None before that.
        known: Of a complete run, how many requests it had found recorded.
        repeats: Of a complete run, purges that stood there before.
        rejected: Of a complete run, lines that were not taken.
    """

    done: int = 0
    requests: int = 0
    requested: int = 0
    unique: int = 0
    refused: tuple[int, ...] = ()
    last: str | None = None
    ended_at: float | None = None
    known: int = 0
    repeats: int = 0
    rejected: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of the file was handed in."""
        return self.ended_at is not None


@dataclass(kw_only=True)
class Run:
    """One import on its way; made by `Journal`.

    Attributes:
        token: Random; the idempotency key of the run.
        began_at: When its first process began.
        progress: How far it is.
        found: Another process began it, and may still be at work.
    """

    path: Path
    token: str
    began_at: datetime
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    progress: Progress = field(default_factory=Progress)
    found: bool = False
    _wrote: float = 0.0

    def advance(self, progress: Progress) -> None:
        """Note what the ledger has confirmed; written at most once a second."""
        self.progress = progress
        now = self.monotonic()
        if now - self._wrote >= _BETWEEN_WRITES_S:
            self._wrote = now
            self._save()

    def pause(self) -> None:
        """Write down how far it is: the import ends before the file does."""
        self._save()

    def finish(self, progress: Progress) -> None:
        """Note that all of the file is handed in."""
        self.progress = replace(progress, ended_at=self.now().timestamp(), refused=())
        self._save()

    def forget(self) -> None:
        """Nothing of the file was handed in, and so there is nothing to go on with.

        A run that was found stays: what its other processes recorded is known by its token alone.
        """
        if not self.found:
            with suppress(OSError):
                self.path.unlink()

    def start_over(self) -> None:
        """Hand everything in again, under the same keys."""
        # The last request still tells that there is something to go on with.
        self.progress = Progress(last=self.progress.last)

    @property
    def recorded(self) -> bool:
        """Whether the journal knows of a request in the ledger."""
        return self.progress.requests > 0 or self.progress.last is not None

    def _save(self) -> None:
        # Without the latest count a later run asks the ledger more often; it repeats nothing.
        with suppress(OSError):
            self.write()

    def write(self) -> None:
        """Write the journal so that a power cut leaves the old one or the new one.

        Raises:
            OSError: The folder cannot be written.
        """
        text = json.dumps(
            {
                "version": _VERSION,
                "token": self.token,
                "began_at": self.began_at.isoformat(),
                **asdict(self.progress),
            }
        )
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


class Journal:
    """The journals of one `EXPUNGE_HOME`."""

    def __init__(
        self,
        home: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look into *home*; nothing is made yet.

        Args:
            home: `EXPUNGE_HOME`.
            now: The time of day.
            monotonic: A clock in seconds.
        """
        self._folder = home / "imports"
        self._now = now
        self._monotonic = monotonic

    def find(self, digest: str) -> Run | None:
        """Give the run of this file with these options to go on with, or None.

        That is the one that was complete last, which settles all that was begun before; unless
        others were begun since. Of these it is the newest that recorded something, for whoever
        began it wanted it recorded anew. Where none did, the later ones were stopped at once, and
        it is the first.

        Raises:
            RequestError: There is a journal, and it cannot be read.
        """
        runs = sorted(self._runs(digest), key=lambda run: run.began_at)
        last = max((run for run in runs if run.progress.complete), key=_ended, default=None)
        since = [
            run
            for run in runs
            if not run.progress.complete
            and (last is None or run.began_at.timestamp() > _ended(last))
        ]
        if since:
            return next((run for run in reversed(since) if run.recorded), since[0])
        return last

    def begin(self, digest: str) -> Run:
        """Begin a new run beside others; it is on disk before this returns.

        Raises:
            RequestError: The journal cannot be written.
        """
        run = Run(
            # Not by its token, which is a key and never shown.
            path=self._folder / f"{digest}.{secrets.token_hex(8)}.json",
            token=f"import-{secrets.token_hex(16)}",
            began_at=self._now(),
            now=self._now,
            monotonic=self._monotonic,
        )
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            run.write()
            _sync_folder(self._folder)
        except OSError as error:
            msg = (
                f"The journal of the import cannot be written into {self._folder.name}/ of "
                f"EXPUNGE_HOME: {error.strerror}."
            )
            raise RequestError(msg) from None
        return run

    def clear(self) -> None:
        """Remove what was not touched for thirty days."""
        before = (self._now() - _KEPT).timestamp()
        with suppress(OSError):
            for path in self._folder.iterdir():
                old = path.suffix in (".json", ".tmp") and path.stat().st_mtime < before
                if old:
                    path.unlink(missing_ok=True)

    def _runs(self, digest: str) -> Iterator[Run]:
        for path in self._folder.glob(f"{digest}.*.json"):
            there = _load(path)
            if there is None:
                continue  # removed since the folder was read
            yield Run(
                path=path,
                token=there["token"],
                began_at=datetime.fromisoformat(there["began_at"]),
                now=self._now,
                monotonic=self._monotonic,
                progress=Progress(
                    **{each.name: there[each.name] for each in fields(Progress)}
                    | {"refused": tuple(there["refused"])}
                ),
                found=True,
            )


def import_digest(source: Source, *, layout: Layout, terms: Terms, macs: Macs) -> str:
    """Name a file with its options; two are the same when content and options are.

    Keyed, because the digest of a short list can be guessed.

    Args:
        source: The file.
        layout: How it is read.
        terms: What holds for all of it; the idempotency key does not count.
        macs: Of this installation.
    """
    asked: dict[str, Any] = {
        "content": source.digest,
        "format": layout.format.value,
        "kind": layout.orders.value,
        "delimiter": layout.delimiter,
        "columns": asdict(layout.columns),
        "terms": {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(terms).items()
            # As it was named before there was an include_later.
            if name != "idempotency_key" and not (name == "include_later" and not value)
        },
    }
    return macs.reference("import", canonical(asked).decode())


def _ended(run: Run) -> float:
    return run.progress.ended_at or 0.0


def _load(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"version", "token", "began_at", *(each.name for each in fields(Progress))}
        if found["version"] == _VERSION and wanted <= set(found):
            return dict(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        pass
    msg = (
        f"The journal imports/{path.name} of EXPUNGE_HOME cannot be read, or is that of another "
        "release. Mend or remove it; without it the file is handed in as a new one."
    )
    raise RequestError(msg)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
