"""What each worker process holds: ledger, thread, loop and clients, opened after the fork."""

import asyncio
import math
import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from ledger import Keys, Ledger, ReadbackPolicy
from ledger.crash_points import arm
from ledger.settings import Settings
from ledger.tracing import configure_traces, stop_traces
from worker.clerk import Books, Clerk
from worker.clients import open_clients
from worker.drain import Drain
from worker.garbage import collect_seldom
from worker.stop import StopFlag
from worker.watching import Watch

if TYPE_CHECKING:
    from memos_api import MemosClient

__all__ = ["Process", "has_clerk", "in_flight", "open_ledger", "processes"]

T = TypeVar("T")
_LEAST_IN_FLIGHT: Final = 64
_MOST_IN_FLIGHT: Final = 1_024
# From so many calls a second on, the ledger's work would hold up the calls, which share an
# interpreter with it: a tenth of a millisecond a call is 3 % of a core at this rate.
CLERK_FROM_PER_S: Final = 300.0
# The ledger's thread and the loop share one interpreter: hand it over often, or slots are missed.
_SWITCH_S: Final = 0.0005


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger and tell it the projects and limits of these settings."""
    ledger = Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir))
    ledger.register(
        projects={name: project.account for name, project in settings.projects.items()},
        rates={name: account.rate_per_second for name, account in settings.accounts.items()},
        decides=True,
    )
    return ledger


def in_flight(settings: Settings) -> int:
    """Give the most calls that a process has under way, those waiting for their slot included.

    Unset: one second of all accounts' rates, 64 to 1,024. A third of it waits for its slot; the
    rest is enough for answers that take 0.6 s at the full rate from one process.
    """
    if settings.in_flight is not None:
        return settings.in_flight
    rates = sum(account.rate_per_second for account in settings.accounts.values())
    return max(_LEAST_IN_FLIGHT, min(_MOST_IN_FLIGHT, math.ceil(rates)))


def has_clerk(settings: Settings) -> bool:
    """Say whether processes that drain have a clerk each (`worker.clerk`)."""
    rates = sum(account.rate_per_second for account in settings.accounts.values())
    return rates >= CLERK_FROM_PER_S


def processes(settings: Settings, *, cores: int) -> int:
    """Give how many processes drain.

    Unset: one a core. One for every two where each has a clerk, which needs a core of its own.
    """
    if settings.processes is not None:
        return settings.processes
    return max(1, cores // 2) if has_clerk(settings) else cores


class Process:
    """The parts of one process that drains. Never carried across a fork.

    Args:
        settings: All settings.
        role: `drain` or `steward`; part of the process's name.
        stop: The stop flag.
    """

    def __init__(self, settings: Settings, *, role: str, stop: StopFlag) -> None:
        """Open the ledger and start the loop; the clients open with the first drain."""
        sys.setswitchinterval(_SWITCH_S)
        self.name = f"{role}-{os.getpid()}-{secrets.token_hex(4)}"
        self._role = role
        self._settings = settings
        self._stop = stop
        configure_traces(settings, service="expunge-worker")
        self.ledger = open_ledger(settings)
        arm(settings.crash_points, home=settings.home)
        self.watch = Watch.of(settings)
        # On PostgreSQL a claim and a record mostly wait for the server, and may do so together.
        self._threads = 1 if self.ledger.is_sqlite else 2
        self._database = ThreadPoolExecutor(self._threads, thread_name_prefix="ledger")
        self._books: Books | None = None
        self._lookout = ThreadPoolExecutor(1, thread_name_prefix="lookout")
        self._clients: Mapping[str, MemosClient] | None = None
        self._drain: Drain | None = None
        self._loop, self._over = _loop_in_a_thread()

    def drain(
        self, *, budget_s: float, beside: Callable[[], Awaitable[None]] | None = None
    ) -> bool:
        """Run one drain of at most `budget_s` seconds, and wait for it in this thread.

        Args:
            budget_s: Seconds. Calls that are under way then go on, whether another drain comes or
                not.
            beside: Runs on the same loop meanwhile, and is cancelled at the end; must not block.

        Returns:
            True when the seconds are over, so there may be more to do.
        """
        return self._wait_for(self._drain_once(budget_s, beside))

    def beat(self) -> None:
        """Write that this process is alive."""
        self.ledger.beat(process=self.name, role=self._role)

    def close(self) -> None:
        """Wait for the calls that are under way, and close everything."""
        try:
            self._wait_for(self._close_calls())
        finally:
            self._over()
            self._database.shutdown()
            self._lookout.shutdown()
            if isinstance(self._books, Clerk):
                self._books.close()
            self.ledger.close()
            stop_traces()

    def _wait_for(self, work: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _drain_once(
        self, budget_s: float, beside: Callable[[], Awaitable[None]] | None
    ) -> bool:
        if self._drain is None:
            self._drain = await self._make_drain()
        drain = self._drain
        try:
            async with _running(beside):
                return await drain.run(budget_s=budget_s)
        except BaseException:
            # What it knows may be wrong: the next one asks the ledger anew what is stopped, say.
            self._drain = None
            raise

    async def _make_drain(self) -> Drain:
        most = in_flight(self._settings)
        if self._books is None:
            self._books = self._open_books()
        if self._clients is None:
            self._clients = await open_clients(self._settings, in_flight=most)
            collect_seldom()
        return Drain(
            ledger=self._books,
            database=self._database,
            lookout=self._lookout,
            clients=self._clients,
            worker=self.name,
            in_flight=most,
            lease_s=self._settings.lease_seconds,
            max_attempts=self._settings.max_attempts,
            policy=ReadbackPolicy.of(self._settings),
            watch=self.watch,
            stop=self._stop,
        )

    async def _close_calls(self) -> None:
        if self._drain is not None:
            await self._drain.settle()
        for client in (self._clients or {}).values():
            await client.aclose()

    def _open_books(self) -> Books:
        if not has_clerk(self._settings):
            return self.ledger
        return Clerk(self._settings, self.ledger, lines=self._threads)


@asynccontextmanager
async def _running(beside: Callable[[], Awaitable[None]] | None) -> AsyncIterator[None]:
    task = None if beside is None else asyncio.ensure_future(beside())
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _loop_in_a_thread() -> tuple[asyncio.AbstractEventLoop, Callable[[], None]]:
    """Start a loop that goes on between drains; gives it, and what ends it."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        over = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), over))
        await over.wait()

    # A daemon: who never closes it shall be able to end.
    thread = threading.Thread(target=lambda: asyncio.run(live()), name="loop", daemon=True)
    thread.start()
    loop, over = started.result()

    def end() -> None:
        loop.call_soon_threadsafe(over.set)
        thread.join()

    return loop, end
