"""One page more: what a look at a list adds to a walk, and whether that ends it. Pure.

`total` and `pages` of an answer are not trusted: a list is at its end when a page is empty, or
shows the same ids as a page before it that was not full. A category that an answer leaves out is
asked for alone; left out then too, nothing is known of it.
"""

import hashlib
import json
from dataclasses import replace
from typing import Final

from ledger.states import Kind, Sight
from ledger.tasks import Page, Seen, Task
from ledger.walks import Walk
from memos_api import SEARCH, Dialect, Item, Listing, Owner

__all__ = ["LATER_BY_US", "MOST_LEFT", "MOST_PAGES", "begun", "gave_up", "owner_of", "took"]

# A list longer than this is not carried along page by page.
MOST_PAGES: Final = 100
# So many leftovers are enough to delete before the list is read anew.
MOST_LEFT: Final = 1_000
# The server's clock and ours may differ: what is not surely later was there before.
LATER_BY_US: Final = 300_000_000


def owner_of(task: Task) -> Owner | None:
    """Say whose list a task reads."""
    if task.subject is None:
        return None
    return ("agent" if task.kind is Kind.AGENT else "user", task.subject)


def begun(task: Task, dialect: Dialect) -> Walk:
    """Give the walk of a list task, a new one at its first page."""
    return task.walk or Walk(legs=dialect.legs(owner_of(task)))


def took(task: Task, listing: Listing, dialect: Dialect) -> Page | Seen:
    """Add one page.

    Returns:
        The walk as it goes on, or how it ended. Of a list that is too long to be walked only what
        was seen is known.
    """
    walk = begun(task, dialect)
    leg, *rest = walk.legs
    digest = _digest(listing)
    again = digest in walk.pages
    seen = _counted(walk, listing.items, task)
    if leg == SEARCH or again:
        # The same ones once more: those that are counted are not counted twice.
        seen = replace(
            seen, unsaid=walk.unsaid or seen.unsaid, foreign=walk.foreign or seen.foreign
        )
    unchecked = [*walk.unchecked]
    # What a search leaves out was listed before.
    for category in listing.unchecked if leg != SEARCH else ():
        alone = dialect.alone(category)
        if alone is not None and alone != leg:
            rest = rest if alone in rest else _before_search(rest, alone)
        elif category not in unchecked:
            unchecked.append(category)
    if again and listing.full and leg != SEARCH:
        # A full page for ever: whatever is on the next ones is never shown.
        return gave_up(replace(task, walk=seen), dialect)
    over = leg == SEARCH or not listing.ids or again
    enough = (
        task.kind is not Kind.MEMORIES and not task.second_look and len(seen.present) >= MOST_LEFT
    )
    if enough or (over and not rest):
        return _ended(task, replace(seen, legs=(), unchecked=tuple(unchecked)), dialect)
    if over:
        return Page(
            walk=replace(seen, legs=tuple(rest), page=1, pages=(), unchecked=tuple(unchecked))
        )
    if walk.page >= MOST_PAGES:
        return gave_up(replace(task, walk=replace(seen, legs=(leg, *rest))), dialect)
    return Page(
        walk=replace(
            seen,
            legs=(leg, *rest),
            page=walk.page + 1,
            pages=(*walk.pages, digest),
            unchecked=tuple(unchecked),
        )
    )


def gave_up(task: Task, dialect: Dialect) -> Page | Seen:
    """Say what is known when a page could not be read to the end of its attempts."""
    walk = begun(task, dialect)
    leg, *rest = walk.legs
    if leg == SEARCH:
        # It could only have shown more; that it did not is told.
        walk = replace(walk, legs=tuple(rest), unchecked=(*walk.unchecked, SEARCH))
        return _ended(task, walk, dialect)
    there = task.kind is not Kind.MEMORIES and (walk.present or walk.unsaid)
    sight = Sight.PRESENT if there else Sight.UNKNOWN
    return Seen(sight=sight, walk=replace(walk, legs=(), pages=()))


def _ended(task: Task, walk: Walk, dialect: Dialect) -> Seen:
    walk = replace(walk, pages=())
    blind = set(walk.unchecked) - {SEARCH} if not dialect.missing_is_empty else set()
    if task.kind is not Kind.MEMORIES and (walk.present or walk.unsaid):
        return Seen(sight=Sight.PRESENT, walk=walk)
    if blind:
        return Seen(sight=Sight.UNKNOWN, walk=walk)
    there = task.kind is Kind.MEMORIES and walk.present
    return Seen(sight=Sight.PRESENT if there else Sight.ABSENT, walk=walk)


def _counted(walk: Walk, items: tuple[Item, ...], task: Task) -> Walk:
    if task.kind is Kind.MEMORIES:
        return replace(walk, present=walk.present | {item.id for item in items})
    present, later = set(walk.present), set(walk.later)
    unsaid, foreign = walk.unsaid, walk.foreign
    for item in items:
        if item.owned is False:
            foreign += 1
        elif _is_later(item, task):
            later.add(item.id)
        elif item.owned is None:
            unsaid += 1
        else:
            present.add(item.id)
    return replace(
        walk, present=frozenset(present), later=frozenset(later), unsaid=unsaid, foreign=foreign
    )


def _is_later(item: Item, task: Task) -> bool:
    if task.cutoff_us is None or item.created_us is None:
        return False
    return item.created_us > task.cutoff_us + LATER_BY_US


def _digest(listing: Listing) -> str:
    text = json.dumps(sorted(listing.ids))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _before_search(legs: list[str], leg: str) -> list[str]:
    if legs and legs[-1] == SEARCH:
        return [*legs[:-1], leg, SEARCH]
    return [*legs, leg]
