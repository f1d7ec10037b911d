"""How long to wait before trying again: full jitter, so that many workers do not return at once."""

import random
from collections.abc import Callable
from typing import Final

__all__ = ["MOST_PAUSE_S", "pause_s", "retry_s"]

_FIRST_S: Final = 1.0
_MOST_RETRY_S: Final = 300.0
_FIRST_PAUSE_S: Final = 1.0
MOST_PAUSE_S: Final = 60.0


def retry_s(tries: int, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds until one piece of work is tried again: anything from 0 to 1, 2, 4, … 300.

    Args:
        tries: Tries so far, 0 or more.
        chance: Gives a number from 0 up to 1.
    """
    return chance() * min(_MOST_RETRY_S, _FIRST_S * 2.0 ** min(tries, 30))


def pause_s(strikes: int, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds that a whole account or project rests: 1 to 2, then 2 to 4, … at most 60 to 120.

    Never less than the floor: a limiter that counts refused calls stays shut under polling.

    Args:
        strikes: Answers in a row that asked for a rest, 0 or more.
        chance: Gives a number from 0 up to 1.
    """
    return (1.0 + chance()) * min(MOST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(strikes, 30))
