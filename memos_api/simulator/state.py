"""What the simulated server keeps: memories of users and agents, one store a project."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from memos_api.simulator.memory import (
    DEFAULT_CUBE,
    NO_TRACES,
    Memory,
    Owner,
    Traces,
    newest_first,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Project", "generate"]

_Shelves: TypeAlias = dict[Owner, dict[str, Memory]]

_SPREAD = (0, 0, 0, 1, 0, 2, 0, 3, 4, 5)
"""Categories of generated memories in turn: half of them facts."""

_FIRST_MS = 1_767_225_600_000
"""Creation time of the first memory (2026-01-01 UTC, epoch milliseconds); each next is 1 min on."""
_STEP_MS = 60_000


@dataclass(slots=True)
class Project:
    """The memories behind one API key; nothing in here is ever dropped but by `clear`.

    Attributes:
        account: Whose rate limit it shares.
        memories: Every memory ever kept, the deleted ones too.
        owners: What is there.
        ghosts: What is deleted, and still listed as such.
        vectors: What is deleted, and still found by search.
    """

    account: str
    memories: dict[str, Memory] = field(default_factory=dict)
    owners: _Shelves = field(default_factory=dict)
    ghosts: _Shelves = field(default_factory=dict)
    vectors: _Shelves = field(default_factory=dict)
    _pending: list[tuple[float, str]] = field(default_factory=list)

    def add(
        self,
        ids: Iterable[str],
        owner: Owner,
        *,
        category: int | None,
        created_ms: int | None,
        cube: str = DEFAULT_CUBE,
    ) -> None:
        """Keep *ids* as memories of *owner*; one that was there before, or deleted, is fresh again.

        Args:
            ids: Any strings.
            owner: Whose memories.
            category: Index into CATEGORIES; None spreads them.
            created_ms: Epoch milliseconds for all of them; None counts on by minutes.
            cube: Where a self-hosted server keeps them.
        """
        held = self.owners.setdefault(owner, {})
        for memory_id in ids:
            number = len(self.memories)
            before = self.memories.get(memory_id)
            if before is not None:
                self._take_off(before)
            held[memory_id] = self.memories[memory_id] = Memory(
                memory_id,
                owner,
                _SPREAD[len(held) % len(_SPREAD)] if category is None else category,
                _FIRST_MS + number * _STEP_MS if created_ms is None else created_ms,
                cube,
                number,
            )

    def settle(self, now: float) -> None:
        """Let what is due by *now* happen: deletions that were delayed, and returns."""
        while self._pending and self._pending[0][0] <= now:
            _, memory_id = heapq.heappop(self._pending)
            memory = self.memories[memory_id]
            # Of a memory that was kept anew in between, this entry may be an old one.
            if memory.gone_at is None:
                continue
            if memory.back_at is not None and memory.back_at <= now:
                self._take_off(memory)
                memory.gone_at, memory.traces, memory.status = None, NO_TRACES, "activated"
                self.owners[memory.owner][memory_id] = memory
            elif memory.gone_at <= now and self.alive(memory_id) is not None:
                self._leave(memory)

    def alive(self, memory_id: str) -> Memory | None:
        """Give a memory that is there; call `settle` first."""
        memory = self.memories.get(memory_id)
        return memory if memory is not None and memory_id in self.owners[memory.owner] else None

    def shown(self, memory_id: str) -> Memory | None:
        """Give a memory that is there, or still shown as deleted."""
        memory = self.memories.get(memory_id)
        if memory is None or memory_id in self.owners[memory.owner]:
            return memory
        return self.ghosts.get(memory.owner, {}).get(memory_id)

    def of(self, owner: Owner) -> dict[str, Memory]:
        """Give what is there of *owner*, as it was kept."""
        return self.owners.get(owner, {})

    def listed(self, owner: Owner | None) -> list[Memory]:
        """Give what lists show of *owner*, or of everybody, newest first."""
        return newest_first(self._on(owner, self.owners, self.ghosts))

    def searchable(self, owner: Owner) -> list[Memory]:
        """Give what a search may find of *owner*, newest first."""
        return newest_first(self._on(owner, self.owners, self.vectors))

    def delete(
        self,
        ids: Iterable[str],
        *,
        now: float,
        delay_s: float = 0.0,
        traces: Traces = NO_TRACES,
    ) -> int:
        """Delete those of *ids* that are there, after *delay_s*; return how many."""
        count = 0
        for memory_id in list(ids):
            memory = self.alive(memory_id)
            if memory is None or memory.gone_at is not None:
                continue
            count += 1
            memory.gone_at, memory.traces = now + delay_s, traces
            if delay_s > 0:
                heapq.heappush(self._pending, (memory.gone_at, memory_id))
            else:
                self._leave(memory)
            if memory.back_at is not None:
                heapq.heappush(self._pending, (memory.back_at, memory_id))
        return count

    def archive(self, ids: Iterable[str]) -> None:
        """Give those of *ids* that are there the status `archived`."""
        for memory_id in ids:
            memory = self.alive(memory_id)
            if memory is not None:
                memory.status = "archived"

    def clear(self) -> None:
        """Forget everything."""
        for shelf in (self.memories, self.owners, self.ghosts, self.vectors):
            shelf.clear()
        self._pending.clear()

    def _leave(self, memory: Memory) -> None:
        del self.owners[memory.owner][memory.id]
        if memory.traces.listed:
            memory.status = "deleted"
            self.ghosts.setdefault(memory.owner, {})[memory.id] = memory
        if memory.traces.searched:
            self.vectors.setdefault(memory.owner, {})[memory.id] = memory

    def _take_off(self, memory: Memory) -> None:
        for shelves in (self.owners, self.ghosts, self.vectors):
            shelves.get(memory.owner, {}).pop(memory.id, None)

    def _on(self, owner: Owner | None, *shelves: _Shelves) -> Iterator[Memory]:
        for shelf in shelves:
            for held in shelf.values() if owner is None else [shelf.get(owner, {})]:
                yield from held.values()


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
