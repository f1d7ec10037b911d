"""Dialects: which of MemOS's two contracts a project speaks, behind one set of questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memos_api.calls import Call
    from memos_api.orders import DeleteOrder, Owner
    from memos_api.outcomes import Answer
    from memos_api.readback import Listing, Sight

__all__ = ["SEARCH", "Dialect", "Understood"]

SEARCH = "search"
"""The leg of a walk that is a search."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """An answer as a dialect reads it; the fields are those of `memos_api.Reply`."""

    answer: Answer
    listing: Listing | None = None
    sight: Sight | None = None


class Dialect(Protocol):
    """One contract.

    What is left of somebody is walked in legs, each a list of one or more pages: a name that
    `legs` or `alone` gave, or `SEARCH`.
    """

    @property
    def most_body_bytes(self) -> int:
        """Most bytes of an answer that is read."""

    def delete(self, order: DeleteOrder) -> Call:
        """Encode a deletion."""

    @property
    def missing_is_empty(self) -> bool:
        """Whether a category that is left out of a list is taken for empty."""

    def legs(self, owner: Owner | None) -> tuple[str, ...]:
        """Name the lists that together show everything, in the order to walk them."""

    def alone(self, category: str) -> str | None:
        """Name the list that shows one category only, None where there is no such list."""

    def look(self, owner: Owner | None, *, leg: str, page: int) -> Call:
        """Encode a look at one page of a leg.

        Raises:
            ValueError: There is no such list for this owner.
        """

    def read(self, memory_id: str) -> Call:
        """Encode a look at one memory."""

    def understand(
        self, call: Call, *, http_status: int, headers: Mapping[str, str], body: bytes
    ) -> Understood:
        """Read the answer to *call*; never raises."""
