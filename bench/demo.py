"""Figure (g): seconds of `make demo`, the installation left out.

    python -m bench.demo

It is interrupted after 90 s: whoever tries it out would have left by then.
"""

import signal
import subprocess
import sys
import time
from typing import Any, Final

from bench.report import keep, table

MOST_S: Final = 90.0
_END_S: Final = 30.0


def run() -> dict[str, Any]:
    """Run the demo once, print and keep how long it took and whether it proved its point."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "expunge", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    row: dict[str, Any] = {}
    try:
        row["exit"] = process.wait(MOST_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait(_END_S)
        row["note"] = f"interrupted after {MOST_S:g} s"
    row["seconds"] = time.monotonic() - began
    columns = {"seconds": "seconds", "exit": "exit code", "note": "note"}
    shown = table("(g) make demo", [row], columns)
    keep("demo", row, shown)
    return row


if __name__ == "__main__":
    run()
