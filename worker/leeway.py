"""Which accounts a drain asks leeway for: those to whose slots it comes late, time after time.

Where a process is slower than its account's slots, each claim of more than a few calls departs
late, and what is 20 ms late is claimed again, for nothing. With leeway its calls may be 100 ms
late, at nine tenths of the account's limit (`ledger.slots`): no loss where that is beyond it.
A stall, however long, makes one round late or two, and is no reason. They need not follow on each
other: after a late one `worker.appetite` takes less, and the next ones are good.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Final

import structlog

__all__ = ["Leeway"]

# Calls that are looked at together, at the least; with fewer, chance would have a say.
_ROUND: Final = 32
_LAST: Final = 12
# It is asked for when in four of the last twelve rounds more than one call in ten was late, and
# given back when there was none with more than one in fifty.
_LATE_ROUNDS: Final = 4
_TOO_MANY: Final = 0.1
_FEW: Final = 0.02
_log = structlog.get_logger()


@dataclass
class _Account:
    late: int = 0
    came: int = 0
    asked: bool = False
    # The share of late calls in each of the last rounds.
    rounds: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))


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

    def asked(self, *, bounded: bool = True) -> frozenset[str]:
        """Learn from what came since, and give the accounts to ask leeway for.

        Args:
            bounded: The last claim brought all that this process took on. Where it brought less,
                the limit holds the calls up and not the process, and a tenth of it is dear.
        """
        for of in self._accounts.values():
            if of.came >= _ROUND:
                self._learn(of, bounded=bounded)
        return frozenset(name for name, of in self._accounts.items() if of.asked)

    @staticmethod
    def _learn(of: _Account, *, bounded: bool) -> None:
        of.rounds.append(of.late / of.came if bounded or of.asked else 0.0)
        of.late = of.came = 0
        if of.asked:
            change = len(of.rounds) == _LAST and max(of.rounds) <= _FEW
        else:
            change = sum(share > _TOO_MANY for share in of.rounds) >= _LATE_ROUNDS
        if change:
            of.asked = not of.asked
            of.rounds.clear()
            _log.info("leeway_taken" if of.asked else "leeway_returned")
