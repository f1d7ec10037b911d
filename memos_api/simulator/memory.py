"""One memory, and what a deletion leaves of it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CATEGORIES",
    "DEFAULT_CUBE",
    "NO_TRACES",
    "Memory",
    "Owner",
    "Traces",
    "newest_first",
]

Owner: TypeAlias = tuple[Literal["user", "agent"], str]

CATEGORIES = ("fact", "preference", "tool", "skill", "profile", "event")
DEFAULT_CUBE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a deletion leaves behind.

    Attributes:
        listed: Lists and by-id reads still show it, with status `deleted`.
        searched: A search still finds it.
        back_after_s: It is there again so many seconds after it was gone; None never.
    """

    listed: bool = False
    searched: bool = False
    back_after_s: float | None = None


NO_TRACES = Traces()


@dataclass(slots=True)
class Memory:
    """One item.

    Attributes:
        id: Any string.
        owner: Whose it is.
        category: Index into CATEGORIES.
        created_ms: Epoch milliseconds.
        cube: Where a self-hosted server keeps it.
        number: How many the project had before it.
        status: As answers give it.
        gone_at: Second of the simulator's clock from which on it no longer shows.
        traces: What its deletion leaves.
    """

    id: str
    owner: Owner
    category: int
    created_ms: int
    cube: str = DEFAULT_CUBE
    number: int = 0
    status: str = "activated"
    gone_at: float | None = None
    traces: Traces = NO_TRACES

    @property
    def back_at(self) -> float | None:
        """Second at which it is there again; None when it is not to be."""
        if self.gone_at is None or self.traces.back_after_s is None:
            return None
        return self.gone_at + self.traces.back_after_s


def newest_first(memories: Iterable[Memory]) -> list[Memory]:
    """Sort by creation; of two of the same time, the one kept last comes first."""
    ordered = sorted(memories, key=attrgetter("created_ms"))
    ordered.reverse()
    return ordered
