"""`make bench`: measure every figure, print its table, keep it as JSON, and say what was reached.

    python -m bench [--only calls departures urgent importing claims demo]

The short profile takes about ten minutes on two idle cores. `BENCH=full` measures longer and up
to ten million ids. Figures go to standard output, progress to standard error. The exit code is 0
when all were measured, whatever they say: a busy machine is no broken build.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import calls, claims, demo, departures, importing, load, verdict
from bench.house import Ledgers
from bench.report import say


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How long, and how much.

    Attributes:
        calls_s: Each row of calls a second.
        departures_s: Each of the two runs; more than the longest window of 60 s.
        purges: Urgent purges behind each line.
        bulk: Ids in line before them.
        ids: Ids of an import.
        chunks: Open chunks of ten ids when claims are measured.
    """

    calls_s: float
    departures_s: float
    purges: int
    bulk: Sequence[int]
    ids: Sequence[int]
    chunks: Sequence[int]


SHORT: Final = Profile(
    calls_s=3.0,
    departures_s=62.0,
    purges=25,
    bulk=(10_000, 100_000, 1_000_000),
    ids=(10_000, 100_000, 1_000_000),
    chunks=(1_000, 10_000, 100_000),
)
FULL: Final = Profile(
    calls_s=10.0,
    departures_s=180.0,
    purges=200,
    bulk=(10_000, 100_000, 1_000_000, 10_000_000),
    ids=(10_000, 100_000, 1_000_000, 10_000_000),
    chunks=(1_000, 10_000, 100_000, 1_000_000),
)


def figures(profile: Profile, ledgers: Ledgers) -> dict[str, Callable[[], Any]]:
    """Give what measures each figure, by name."""
    return {
        "calls": lambda: calls.measure(ledgers, seconds=profile.calls_s),
        "departures": lambda: departures.run(ledgers, seconds=profile.departures_s),
        "urgent": lambda: load.run(profile.bulk, purges=profile.purges),
        "importing": lambda: importing.run(ledgers, sizes=profile.ids, seconds=profile.calls_s),
        "claims": lambda: claims.run(ledgers, sizes=profile.chunks),
        "demo": demo.run,
    }


def main() -> int:
    """Measure as asked."""
    names = list(figures(SHORT, Ledgers()))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    profile = FULL if os.environ.get("BENCH") == "full" else SHORT
    print(
        f"{'Full' if profile is FULL else 'Short'} profile, begun at {time.strftime('%H:%M:%S')}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"
    )
    began = time.monotonic()
    failed = []
    with Ledgers() as ledgers:
        for name, measure in figures(profile, ledgers).items():
            if name not in options.only:
                continue
            started = time.monotonic()
            try:
                measure()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed.append(name)
                say(f"{name} FAILED: {error}")
            say(f"{name} took {time.monotonic() - started:.0f} s")
    verdict.show()
    print(f"\nTook {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.2f} at the end.")
    if failed:
        print(f"Not measured, see above: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
