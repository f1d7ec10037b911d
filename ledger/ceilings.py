"""Ceilings: orders beyond them are taken in, and wait on hold for a person.

So a slip or a stolen credential deletes no more in an hour than somebody meant to allow, and yet
nothing that was ordered is lost. `ledger.purge_rate` counts the purges.
"""

from dataclasses import dataclass
from typing import Final

from ledger.states import Kind

__all__ = ["CEILING_IDS", "CEILING_PURGES", "NO_CEILINGS", "Ceilings"]

CEILING_IDS: Final = "ceiling_ids"
CEILING_PURGES: Final = "ceiling_purges"


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What a project may order without anybody looking at it; None: any number.

    Attributes:
        max_ids_per_request: Ids of one request, repeats folded; 1 or more.
        max_purges_per_hour: Purges of users and agents in any hour; 0 holds every one.
    """

    max_ids_per_request: int | None = None
    max_purges_per_hour: int | None = None

    def hold_for(self, kind: Kind, *, unique: int, recent: int = 0) -> str | None:
        """Give the reason why a request has to wait on hold, or None.

        Args:
            kind: Its kind.
            unique: Its ids after folding.
            recent: Purges of the project in the hour before, this one left out.
        """
        if kind is Kind.MEMORIES:
            most = self.max_ids_per_request
            return CEILING_IDS if most is not None and unique > most else None
        most = self.max_purges_per_hour
        return CEILING_PURGES if most is not None and recent >= most else None


NO_CEILINGS: Final = Ceilings()
