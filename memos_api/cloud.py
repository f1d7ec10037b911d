"""The Cloud's dialect: how its calls look and how its answers are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memos_api.calls import Call, delete_call, list_call, read_call, search_call
from memos_api.dialects import SEARCH, Understood
from memos_api.outcomes import Outcome, judge
from memos_api.readback import Sight, listing_from, sight_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memos_api.orders import DeleteOrder, Owner
    from memos_api.outcomes import Answer

__all__ = ["CLOUD", "Cloud"]

_OK = 200
_ALL = "all"
_MISSING = frozenset({"http_404", "http_410"})


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The Cloud.

    Attributes:
        searches: Whether a search is part of each look; it counts against the account's quota.
        missing_is_empty: Whether a category that is left out of a list is taken for empty.
    """

    searches: bool = False
    missing_is_empty: bool = False

    @property
    def most_body_bytes(self) -> int:
        """Give 1 MB: a page of 50 items in each of six categories is far smaller."""
        return 1_000_000

    def delete(self, order: DeleteOrder) -> Call:
        """Encode `POST delete/memory`."""
        return delete_call(order)

    def legs(self, owner: Owner | None) -> tuple[str, ...]:
        """All categories are listed together."""
        return (_ALL, SEARCH) if self.searches and owner is not None else (_ALL,)

    def alone(self, category: str) -> str | None:
        """Name the list of one category: its own name."""
        return category

    def look(self, owner: Owner | None, *, leg: str, page: int) -> Call:
        """Encode `POST get/memory`, or `POST search/memory`.

        Raises:
            ValueError: No owner is named: the Cloud lists the memories of one only.
        """
        if owner is None:
            raise ValueError("The Cloud lists memories of one user or agent only.")
        if leg == SEARCH:
            return search_call(owner)
        return list_call(owner, page=page, view=None if leg == _ALL else leg)

    def read(self, memory_id: str) -> Call:
        """Encode `GET get/memory/{id}`."""
        return read_call(memory_id)

    def understand(
        self, call: Call, *, http_status: int, headers: Mapping[str, str], body: bytes
    ) -> Understood:
        """Read the answer to *call*."""
        judged = judge(
            http_status=http_status,
            headers=headers,
            body=body,
            needs_success=call.kind == "delete",
        )
        answer = judged.answer
        if call.kind in {"list", "search"}:
            well = answer.outcome is Outcome.ACKNOWLEDGED and http_status == _OK
            listing = None
            if well and call.owner is not None:
                listing = listing_from(
                    judged.document,
                    owner=call.owner,
                    page=call.page,
                    views=call.views,
                    size=call.size,
                )
            if listing is None and answer.outcome is Outcome.ACKNOWLEDGED:
                answer = malformed(answer)
            return Understood(answer=answer, listing=listing)
        if call.kind == "read":
            sight = sight_from(answer, judged.document, memory_id=call.memory_id)
            return Understood(answer=read_answer(answer, sight), sight=sight)
        return Understood(answer=answer)


def read_answer(answer: Answer, sight: Sight) -> Answer:
    """Give the answer of a by-id read, as it counts once it is known what was seen."""
    if sight is Sight.UNKNOWN and answer.outcome is Outcome.ACKNOWLEDGED:
        return malformed(answer)
    if answer.outcome is Outcome.PAUSE_PROJECT and answer.reason in _MISSING:
        # A by-id address may be missing because the id is: no reason to stop the project.
        return replace(answer, outcome=Outcome.UNKNOWN)
    return answer


def malformed(answer: Answer) -> Answer:
    """Give an acknowledgement whose body cannot be read as the doubt it is."""
    return replace(answer, outcome=Outcome.UNKNOWN, reason="malformed")


CLOUD = Cloud()
"""The Cloud's dialect."""
