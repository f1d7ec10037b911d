"""A walk: what the pages read so far have shown of what somebody has left."""

import json
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Walk"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Walk:
    """How far a walk has come. Holds ids: it lives in a read-back's row, and goes with it.

    Attributes:
        legs: Lists still to be walked, by the names of the dialect; the first is under way.
        page: Page of it that is read next, from 1.
        pages: Digests of this leg's pages so far: one that comes again ends the leg.
        present: Of a batch: all ids seen. Of a purge: ids of the subject that can be deleted one by
            one, because the server says whose they are.
        unsaid: Of a purge: how many are there that may be anybody's.
        later: Of a purge: ids that appeared after the request's cut-off.
        foreign: Of a purge: how many of others were listed, which were not asked for.
        unchecked: Categories that no answer showed, and `search` when that failed.
    """

    legs: tuple[str, ...] = ()
    page: int = 1
    pages: tuple[str, ...] = ()
    present: frozenset[str] = frozenset()
    unsaid: int = 0
    later: frozenset[str] = frozenset()
    foreign: int = 0
    unchecked: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Give the stored form; what is as in a new walk is left out."""
        plain = Walk()
        members = {
            field.name: sorted(value) if isinstance(value, frozenset) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != getattr(plain, field.name)
        }
        return json.dumps(members, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> "Walk | None":
        """Read the stored form; None of a walk that has not begun."""
        if text is None:
            return None
        members: dict[str, Any] = json.loads(text)
        for name in ("present", "later"):
            members[name] = frozenset(members.get(name, ()))
        for name in ("legs", "pages", "unchecked"):
            members[name] = tuple(members.get(name, ()))
        return cls(**members)
