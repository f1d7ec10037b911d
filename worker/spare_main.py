"""The process behind a desk whose work can wait: it gets only what others leave of the cores.

Before anything else is imported, for that takes half a second of a core.
"""

import os
import sys
from contextlib import suppress
from typing import Final

__all__ = ["main"]

_NICEST: Final = 19


def main() -> None:
    """Give way to everybody, then do as `worker.clerk_main`."""
    with suppress(OSError):
        os.nice(_NICEST)
    if sys.platform == "linux":
        # With this the kernel makes nobody wait for it, where the lowest priority still does.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    from worker.clerk_main import main as answer  # noqa: PLC0415 - see above

    answer()


if __name__ == "__main__":
    main()
