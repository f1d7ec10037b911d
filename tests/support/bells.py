"""What the tests of the doorbell do to a stack again and again."""

from collections.abc import Sequence
from typing import Any

from ledger.doorbell import BELL_KEY, QUEUE
from memos_api.simulator.process import Seeded
from tests.support.fault_table import FaultReport
from tests.support.forged import ring_with
from tests.support.stack import Stack, Worker, until

__all__ = [
    "celery",
    "drained_by",
    "events",
    "order",
    "ring_now",
    "run_to_the_end",
    "settle",
    "wait_for_drains",
    "wait_for_quiet",
    "warnings_of",
]

# Seconds for a machine that is busy with other things; a healthy one needs a few.
LONG_S = 40


def order(stack: Stack, *, seed: int, chunks: int, size: int = 1) -> Seeded:
    """Order *chunks* calls for memories that are there."""
    seeded = stack.seed(users=1, memories=chunks * size, seed=seed)
    stack.submit(seeded.memory_ids, chunk_size=size)
    return seeded


def ring_now(stack: Stack) -> None:
    """Ring as a producer does, whoever rang before."""
    with stack.valkey.client() as client:
        client.delete(BELL_KEY)
        client.lpush(QUEUE, ring_with())


def run_to_the_end(stack: Stack, *, seed: int, chunks: int = 2) -> Sequence[str]:
    """Order something, ring, and wait until all requests have ended; gives what was ordered."""
    seeded = order(stack, seed=seed, chunks=chunks, size=10)
    ring_now(stack)
    stack.wait_for_end(seconds=LONG_S)
    return seeded.memory_ids


def wait_for_quiet(stack: Stack) -> None:
    """Wait until no child drains: one that still does takes up the next order without a ring."""
    with stack.valkey.client() as client:
        # A ring is acknowledged when its drain is over.
        until(
            lambda: not client.exists(QUEUE, "unacked"),
            seconds=LONG_S,
            why="all rings to be acknowledged",
        )


def settle(
    stack: Stack, fault_report: FaultReport, *, heals_s: float | None = None, seconds: float = 60
) -> None:
    """Let all work end, and let the oracle compare everything that is known."""
    verdict = stack.verdict(seconds=seconds)
    fault_report(verdict, heals_s=heals_s)
    verdict.assert_clean()


def celery(worker: Worker) -> list[int]:
    """Give the pids of Celery's main process and its children."""
    main = worker.part("worker.celery_main")
    return [main, *worker.children(main)]


def events(worker: Worker, name: str) -> list[dict[str, Any]]:
    """Give the worker's log lines of that event."""
    return [line for line in worker.log_lines() if line["event"] == name]


def warnings_of(worker: Worker) -> list[dict[str, Any]]:
    """Give the worker's log lines that are more than information."""
    return [line for line in worker.log_lines() if line["level"] != "info"]


def drained_by(stack: Stack, role: str) -> int:
    """Count the calls that `drain` processes (Celery's children) or `steward`s claimed."""
    count = stack.scalar(f"SELECT count(*) FROM attempt WHERE worker LIKE '{role}-%'")  # noqa: S608
    return int(count)


def wait_for_drains(
    stack: Stack, role: str, *, more: int, seconds: float, before: int | None = None
) -> None:
    """Wait until *role* has claimed so many calls more than *before*, by default than now."""
    before = drained_by(stack, role) if before is None else before
    until(
        lambda: drained_by(stack, role) >= before + more,
        seconds=seconds,
        why=f"{role} to claim {more} calls",
    )
