"""What the simulated server keeps: memories of users and agents, one store a project."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CATEGORIES", "Memory", "Owner", "Project", "generate"]

Owner: TypeAlias = tuple[Literal["user", "agent"], str]

CATEGORIES = ("fact", "preference", "tool", "skill", "profile", "event")
_SPREAD = (0, 0, 0, 1, 0, 2, 0, 3, 4, 5)
"""Categories of generated memories in turn: half of them facts."""

_FIRST_MS = 1_767_225_600_000
"""Creation time of the first memory (2026-01-01 UTC, epoch milliseconds); each next is 1 min on."""
_STEP_MS = 60_000


@dataclass(slots=True)
class Memory:
    """One item; `gone_at` is the monotonic second from which on it no longer shows."""

    id: str
    owner: Owner
    category: int
    created_ms: int
    gone_at: float | None = None


@dataclass(slots=True)
class Project:
    """The memories behind one API key; nothing in here is ever dropped but by `clear`."""

    account: str
    memories: dict[str, Memory] = field(default_factory=dict)
    owners: dict[Owner, dict[str, Memory]] = field(default_factory=dict)
    _pending: list[tuple[float, str]] = field(default_factory=list)

    def add(
        self, ids: Iterable[str], owner: Owner, *, category: int | None, created_ms: int | None
    ) -> None:
        """Keep *ids* as memories of *owner*; one that was there before, or deleted, is fresh again.

        Args:
            ids: Any strings.
            owner: Whose memories.
            category: Index into CATEGORIES; None spreads them.
            created_ms: Epoch milliseconds for all of them; None counts on by minutes.
        """
        held = self.owners.setdefault(owner, {})
        for memory_id in ids:
            number = len(self.memories)
            before = self.memories.get(memory_id)
            if before is not None:
                self.owners[before.owner].pop(memory_id, None)
            held[memory_id] = self.memories[memory_id] = Memory(
                memory_id,
                owner,
                _SPREAD[len(held) % len(_SPREAD)] if category is None else category,
                _FIRST_MS + number * _STEP_MS if created_ms is None else created_ms,
            )

    def settle(self, now: float) -> None:
        """Let the deletions whose delay is over show."""
        while self._pending and self._pending[0][0] <= now:
            _, memory_id = heapq.heappop(self._pending)
            memory = self.memories[memory_id]
            if memory.gone_at is not None and memory.gone_at <= now:
                self.owners[memory.owner].pop(memory_id, None)

    def alive(self, memory_id: str) -> Memory | None:
        """Give a memory that still shows; call `settle` first."""
        memory = self.memories.get(memory_id)
        return memory if memory is not None and memory_id in self.owners[memory.owner] else None

    def of(self, owner: Owner) -> dict[str, Memory]:
        """Give what still shows of *owner*, oldest first."""
        return self.owners.get(owner, {})

    def delete(self, ids: Iterable[str], *, now: float, delay_s: float = 0.0) -> int:
        """Delete those of *ids* that show, after *delay_s*; return how many."""
        count = 0
        for memory_id in list(ids):
            memory = self.alive(memory_id)
            if memory is None or memory.gone_at is not None:
                continue
            count += 1
            memory.gone_at = now + delay_s
            if delay_s > 0:
                heapq.heappush(self._pending, (memory.gone_at, memory_id))
            else:
                del self.owners[memory.owner][memory_id]
        return count

    def clear(self) -> None:
        """Forget everything."""
        self.memories.clear()
        self.owners.clear()
        self._pending.clear()


def generate(*, users: int, memories: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield user ids with the ids of their memories; the same for the same arguments.

    Args:
        users: How many users.
        memories: How many memories **each** of them has.
        seed: Another one gives other ids.
    """
    chance = random.Random(f"memories {seed}")  # noqa: S311  # made-up ids, to be repeatable
    for number in range(users):
        ids = []
        for _ in range(memories):
            digits = f"{chance.getrandbits(128):032x}"
            ids.append(
                f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
            )
        yield f"user-{seed}-{number:06d}", ids
