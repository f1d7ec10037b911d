"""How often in a row an account asked for a rest: what the length of the next rest grows with."""

import time
from dataclasses import dataclass

__all__ = ["Strikes"]


@dataclass
class _Account:
    strikes: int = 0
    since_ns: int = 0


class Strikes:
    """Counts rests, not answers: sixty calls refused in one moment are one strike.

    A call that was claimed before the last strike says nothing about the time after it, whether it
    is refused too or goes well. Kept as long as the process lives, over many drains; moments are
    `time.monotonic_ns()`.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._accounts: dict[str, _Account] = {}

    def before(self, account: str, *, claimed_ns: int) -> int:
        """Give the strikes that were known when a call was claimed."""
        one = self._accounts.get(account)
        if one is None:
            return 0
        return one.strikes - (claimed_ns <= one.since_ns)

    def note(self, account: str, *, claimed_ns: int, stopped: bool) -> None:
        """Note an answer, and whether it asked for a rest."""
        one = self._accounts.setdefault(account, _Account())
        if claimed_ns <= one.since_ns:
            return
        if stopped:
            one.strikes += 1
            one.since_ns = time.monotonic_ns()
        else:
            one.strikes = 0
