"""How often Python looks for cycles of garbage, in processes that make or prepare many calls.

By default it looks after every 700 objects that came and did not go, and a process with a thousand
calls under way has a hundred times as many: it went through them again and again and found next to
nothing, for a tenth of its time. What is no cycle, nearly all, is freed without looking.
"""

import gc
from typing import Final

__all__ = ["collect_seldom"]

# So many objects without a look; a hundredth of all looks goes through everything.
_OBJECTS: Final = 50_000
_YOUNG: Final = 10
_ALL: Final = 10


def collect_seldom() -> None:
    """Keep what is there for good out of it, and look seldom at what comes.

    To be called once all modules and pools are there: going through them would hold up departures
    for 70 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, _YOUNG, _ALL)
