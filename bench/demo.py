"""Figure (g): seconds of `make demo`, the installation left out.

python -m bench.demo
"""

import subprocess
import sys
import time
from typing import Any

from bench.report import keep, table


def run() -> dict[str, Any]:
    """Run the demo once, print and keep how long it took and whether it proved its point."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    row = {"seconds": time.monotonic() - began, "exit": done.returncode}
    shown = table("(g) make demo", [row], {"seconds": "seconds", "exit": "exit code"})
    keep("demo", row, shown)
    return row


if __name__ == "__main__":
    run()
