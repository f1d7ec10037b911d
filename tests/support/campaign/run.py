"""`make campaign`: many seeds in process on both ledgers, some with real processes, and a table."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from tests.support.campaign import in_process, processes
from tests.support.campaign.score import Score, table
from tests.support.ledger_world import Worlds
from tests.support.postgres import PostgresServer

__all__ = ["main"]

_FILE = Path("build", "campaign.json")
_LEDGERS = ("sqlite", "postgresql")
_REAL = "processes-"
# Failures are told when so many seeds are over.
_AT_ONCE = 50


def main() -> int:
    """Run what is asked for; gives 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="make campaign")
    parser.add_argument("--seeds", type=int, default=200, help="how many in process")
    parser.add_argument("--real", type=int, default=10, help="how many with real processes")
    parser.add_argument("--seed", default="", help="replay this one, such as 17 or processes-3")
    given = parser.parse_args()
    started = time.monotonic()
    scores: list[Score] = []
    for score in _one(given.seed) if given.seed else _many(given.seeds, given.real):
        scores.append(score)
        if score.error:
            _say(f"make campaign SEED={score.name}   # {score.ledger}: {score.error}")
    for line in table(scores):
        _say(line)
    failed = sum(bool(score.error) for score in scores)
    _say(f"{len(scores)} seeds in {time.monotonic() - started:.0f} s, {failed} failed.")
    _FILE.parent.mkdir(exist_ok=True)
    _FILE.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")
    return min(1, failed)


def _one(name: str) -> Iterator[Score]:
    if name.startswith(_REAL):
        yield _real(int(name.removeprefix(_REAL)))
    else:
        seed = int(name)
        yield from _in_process(_ledger_of(seed), [seed])


def _many(seeds: int, real: int) -> Iterator[Score]:
    # The clocks of seeds in process are injected, so they may share the machine; the others may
    # not, for they are judged by the rate.
    with ProcessPoolExecutor(len(_LEDGERS), mp_context=get_context("spawn")) as pool:
        parts = []
        for first in range(0, seeds, _AT_ONCE):
            some = range(first, min(seeds, first + _AT_ONCE))
            for kind in _LEDGERS:
                names = [seed for seed in some if _ledger_of(seed) == kind]
                parts.append(pool.submit(_in_process, kind, names))
        for part in as_completed(parts):
            yield from part.result()
    for seed in range(real):
        yield _real(seed)


def _ledger_of(seed: int) -> str:
    return _LEDGERS[seed % len(_LEDGERS)]


def _in_process(kind: str, seeds: Sequence[int]) -> list[Score]:
    with _ledger(kind) as url, closing(Worlds(kind, url)) as worlds:
        return [in_process.run_seed(worlds, seed) for seed in seeds]


def _real(seed: int) -> Score:
    with (
        tempfile.TemporaryDirectory(prefix="expunge-campaign-") as folder,
        _ledger(_ledger_of(seed)) as url,
    ):
        return processes.run_seed(Path(folder), url, seed)


@contextmanager
def _ledger(kind: str) -> Iterator[str]:
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="expunge-campaign-"))
            yield f"sqlite:///{folder}/ledger.db"
        else:
            server = stack.enter_context(closing(PostgresServer()))
            yield stack.enter_context(server.start().database())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
