"""How many memories a user or agent has now: real list calls, each with a slot and a record."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from expunge.probing import PATIENCE_S, open_client, probe
from ledger import Kind, Ledger
from ledger.probes import ProbeRefused
from ledger.projects import Project
from memos_api import SEARCH, MemosClient, Owner

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
    owner: Owner = ("agent" if kind is Kind.AGENT else "user", subject)
    legs = [leg for leg in client.dialect.legs(owner) if leg != SEARCH]
    seen: set[str] = set()
    unchecked = False
    page = 1
    async with client:
        for pages in range(1, MOST_PAGES + 1):
            found = await probe(
                ledger,
                client,
                client.dialect.look(owner, leg=legs[0], page=page),
                project=project,
                principal=principal,
                patience_s=min(PATIENCE_S, until - time.monotonic()),
            )
            if isinstance(found, ProbeRefused):
                late = pages > 1 and found.reason == "no_slot"
                return _broken_off(seen, pages, "took_long" if late else found.reason)
            if found.listing is None:
                return _broken_off(seen, pages, found.answer.reason)
            shown = {item.id for item in found.listing.items if item.owned is not False}
            over = not shown - seen
            seen |= shown
            unchecked = unchecked or bool(found.listing.unchecked)
            page += 1
            if over:
                legs.pop(0)
                page = 1
            if not legs:
                note = "some_categories_missing" if unchecked else None
                return Census(memories=len(seen), pages=pages, note=note)
    return Census(memories=len(seen), pages=MOST_PAGES, note="many_pages")


def _broken_off(seen: set[str], page: int, why: str) -> Census:
    return Census(memories=len(seen) if page > 1 else None, pages=page - 1, note=why)
