"""Which accounts a drain asks leeway for: those to whose slots it comes late, time after time.

Where a process is slower than its account's slots, each claim of more than a few calls departs
late, and what is 20 ms late is claimed again, for nothing. With leeway its calls may be 100 ms
late, at nine tenths of the account's limit (`ledger.slots`): no loss where that is beyond it.
A stall, however long, makes one round late or two, and is no reason.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import structlog

__all__ = ["Leeway"]

# Calls that are looked at together, at the least; with fewer, chance would have a say.
_ROUND: Final = 8
_TOO_MANY: Final = 0.1
_FEW: Final = 0.02
_LATE_ROUNDS: Final = 3
# Coming back costs what was saved: not for one good moment.
_GOOD_ROUNDS: Final = 10
_log = structlog.get_logger()


@dataclass
class _Account:
    late: int = 0
    came: int = 0
    rounds: int = 0
    asked: bool = False


class Leeway:
    """What one drain knows of its accounts."""

    def __init__(self) -> None:
        """Start strict."""
        self._accounts: dict[str, _Account] = defaultdict(_Account)

    def came(self, account: str, *, late: bool) -> None:
        """Note that a call came to its slot.

        Args:
            account: Whose slot it was.
            late: It was so late that without leeway it would have given its slot up.
        """
        of = self._accounts[account]
        of.came += 1
        of.late += late

    def asked(self) -> frozenset[str]:
        """Learn from what came since, and give the accounts to ask leeway for."""
        for of in self._accounts.values():
            if of.came >= _ROUND:
                self._learn(of)
        return frozenset(name for name, of in self._accounts.items() if of.asked)

    @staticmethod
    def _learn(of: _Account) -> None:
        share = of.late / of.came
        of.late = of.came = 0
        # A round speaks for the change, or the count begins anew.
        speaks = share <= _FEW if of.asked else share > _TOO_MANY
        of.rounds = of.rounds + 1 if speaks else 0
        if of.rounds >= (_GOOD_ROUNDS if of.asked else _LATE_ROUNDS):
            of.asked, of.rounds = not of.asked, 0
            _log.info("leeway_taken" if of.asked else "leeway_returned")
