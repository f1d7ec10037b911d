"""How many memories a user or agent has now: real list calls, each with a slot and a record."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from expunge.probing import PATIENCE_S, open_client, probe
from ledger import Kind, Ledger
from ledger.probes import ProbeRefused
from ledger.projects import Project
from memos_api import MemosClient, list_call

__all__ = ["MOST_PAGES", "Census", "take_census"]

# Of 50 memories a category each.
MOST_PAGES: Final = 20
_LONGEST_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Census:
    """What was seen; never an id.

    Attributes:
        memories: How many were seen; None when nobody could look at all.
        pages: List calls that were made.
        note: Why it could not look, or why there may be more: `no_key`, `ledger_unreachable`,
            `many_pages`, `took_long`, `some_categories_missing`, a reason of `ProbeRefused`, or the
            slug of MemOS's answer. None when these are all.
    """

    memories: int | None
    pages: int = 0
    note: str | None = None


def take_census(
    ledger: Ledger, project: Project, *, kind: Kind, subject: str, principal: str
) -> Census:
    """Look, page by page up to a bound; takes 30 s at most.

    Args:
        ledger: Which gives the slots and keeps the record; it has to know the project.
        project: Where to look.
        kind: `agent` for an agent; else the subject is a user.
        subject: Whose memories.
        principal: Who asks, for the record.

    Raises:
        LedgerError: The ledger did not confirm.
    """
    if project.api_key is None:
        return Census(memories=None, note="no_key")
    return asyncio.run(_walk(ledger, open_client(project), project.name, kind, subject, principal))


async def _walk(  # noqa: PLR0917 - one caller
    ledger: Ledger, client: MemosClient, project: str, kind: Kind, subject: str, principal: str
) -> Census:
    until = time.monotonic() + _LONGEST_S
    seen: set[str] = set()
    unchecked = False
    async with client:
        for page in range(1, MOST_PAGES + 1):
            of_agent = kind is Kind.AGENT
            found = await probe(
                ledger,
                client,
                list_call(agent_id=subject, page=page)
                if of_agent
                else list_call(user_id=subject, page=page),
                project=project,
                principal=principal,
                patience_s=min(PATIENCE_S, until - time.monotonic()),
            )
            if isinstance(found, ProbeRefused):
                late = page > 1 and found.reason == "no_slot"
                return _broken_off(seen, page, "took_long" if late else found.reason)
            if found.listing is None:
                return _broken_off(seen, page, found.answer.reason)
            seen.update(found.listing.memory_ids)
            unchecked = unchecked or bool(found.listing.unchecked)
            if found.listing.last:
                note = "some_categories_missing" if unchecked else None
                return Census(memories=len(seen), pages=page, note=note)
    return Census(memories=len(seen), pages=MOST_PAGES, note="many_pages")


def _broken_off(seen: set[str], page: int, why: str) -> Census:
    return Census(memories=len(seen) if page > 1 else None, pages=page - 1, note=why)
