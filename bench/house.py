"""A ledger, a broker and real workers in front of a static server, for the figures.

`ledgers` gives empty or copied ledgers on SQLite and PostgreSQL; both flush each commit to disk, as
in production. `House` adds a Valkey of its own and starts `expunge worker` as operators do.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import text

from ledger import Keys, Ledger, upgrade
from ledger.engine import Database
from tests.support.full_ledger import add_open_chunks, analyze
from tests.support.postgres import PostgresServer
from tests.support.stack import Worker, group_members
from tests.support.valkey import ValkeyServer

KINDS: Final = ("sqlite", "postgresql")
_FOREIGN: Final = ("EXPUNGE_", "MEMOS_", "CELERY_", "PG")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class Ledgers:
    """Ledgers of one run, on SQLite files in a temporary folder and on one PostgreSQL cluster.

    A context manager. A ledger that was filled once is copied for each row that needs it so.
    """

    def __enter__(self) -> Self:
        """Make the folder; PostgreSQL starts when it is first asked for."""
        # Whoever ends the bench ends its workers and servers, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self._open = ExitStack()
        made = tempfile.TemporaryDirectory(prefix="expunge-bench-")
        self.folder = Path(self._open.enter_context(made))
        self.keys_folder = self.folder / "keys"
        self.keys = Keys.create(self.keys_folder)
        self._postgres: PostgresServer | None = None
        self._filled: dict[tuple[str, int, int], str] = {}
        self._number = 0
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the cluster and remove the folder."""
        self._open.close()

    @property
    def postgres(self) -> PostgresServer:
        """The cluster, which flushes to disk."""
        if self._postgres is None:
            self._postgres = PostgresServer(durable=True)
            self._open.callback(self._postgres.close)
            self._postgres.start()
        return self._postgres

    @contextmanager
    def empty(self, kind: str) -> Iterator[str]:
        """Give the URL of an empty ledger, migrated."""
        with self._fresh(kind, source=None) as url:
            upgrade(url)
            yield url

    @contextmanager
    def filled(self, kind: str, *, chunks: int, ids_per_chunk: int) -> Iterator[str]:
        """Give the URL of a ledger with so many chunks that are due and ask for no read-back."""
        what = (kind, chunks, ids_per_chunk)
        if what not in self._filled:
            url = self._open.enter_context(self.empty(kind))
            with Ledger.open(url, keys=self.keys) as ledger:
                ledger.register(projects={"default": "default"}, rates={"default": 50.0})
            add_open_chunks(
                url, self.keys, chunks=chunks, ids_per_chunk=ids_per_chunk, verify="none"
            )
            analyze(url)
            self._filled[what] = url
        with self._fresh(kind, source=self._filled[what]) as url:
            yield url

    @contextmanager
    def _fresh(self, kind: str, *, source: str | None) -> Iterator[str]:
        self._number += 1
        if kind == "postgresql":
            template = "template1" if source is None else source.rpartition("/")[2]
            with self.postgres.database(template=template) as url:
                yield url
            return
        path = self.folder / f"ledger-{self._number}.db"
        if source is not None:
            shutil.copyfile(source.removeprefix("sqlite:///"), path)
        yield f"sqlite:///{path}"
        for each in self.folder.glob(f"{path.name}*"):
            each.unlink()


class House:
    """A context manager around a Valkey and workers on one ledger.

    Attributes:
        folder: Of logs.
        valkey: Of this house alone.
        settings: Of workers that start from now on, by environment name.
        workers: Those that were started.
    """

    def __init__(self, url: str, keys: Path, base_url: str, settings: Mapping[str, str]) -> None:
        """Prepare.

        Args:
            url: Of the ledger, migrated.
            keys: Folder with the ledger's keys.
            base_url: Of MemOS.
            settings: The first of them.
        """
        self._url = url
        self._keys = keys
        self._base_url = base_url
        self.settings = dict(settings)

    def __enter__(self) -> Self:
        """Start Valkey."""
        with ExitStack() as opening:
            made = tempfile.TemporaryDirectory(prefix="expunge-bench-")
            self.folder = Path(opening.enter_context(made))
            self.valkey = ValkeyServer().start()
            opening.callback(self.valkey.close)
            self.workers: list[Worker] = []
            opening.callback(self._close_workers)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all of it."""
        self._open.close()

    def start_worker(self, **changed: str) -> Worker:
        """Start one `expunge worker`; *changed* are settings of this one."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)
        }
        environment |= {
            "EXPUNGE_HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "EXPUNGE_KEYS_DIR": str(self._keys),
            "EXPUNGE_LEDGER_URL": self._url,
            "EXPUNGE_REDIS_URL": self.valkey.url,
            "EXPUNGE_PROCESSES": "1",
            "EXPUNGE_LOG_LEVEL": "warning",
            "MEMOS_API_KEY": "bench",
            "MEMOS_BASE_URL": self._base_url,
        }
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(environment | self.settings | changed, log))
        return self.workers[-1]

    def _close_workers(self) -> None:
        for worker in self.workers:
            worker.close()

    def cpu_s(self) -> float:
        """Give the CPU time so far of all living processes of the workers, in seconds (Linux)."""
        return sum(group_cpu_s(worker.pid) for worker in self.workers)


def ledger_bytes(url: str) -> int:
    """Give the bytes on disk of a ledger; SQLite's log of writes is emptied into it first."""
    with closing(Database(url)) as database:
        if database.is_sqlite:
            empty = text("PRAGMA wal_checkpoint(TRUNCATE)")
            database.read(lambda conn: conn.execute(empty).all())
            return Path(url.removeprefix("sqlite:///")).stat().st_size
        query = text("SELECT pg_database_size(current_database())")
        return int(database.read(lambda conn: conn.execute(query).scalar_one()))


def group_cpu_s(group: int) -> float:
    """Give the CPU time so far of all living processes of a process group, in seconds (Linux)."""
    return sum(_cpu_s(pid) for pid in group_members(group))


def _cpu_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S
    return 0.0


def settings(**values: float | str) -> Mapping[str, str]:
    """Turn `rate_per_second=50` into `EXPUNGE_RATE_PER_SECOND` and so on."""
    return {f"EXPUNGE_{name.upper()}": str(value) for name, value in values.items()}
