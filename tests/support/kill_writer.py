"""Writers for a test that kills them: `python -m tests.support.kill_writer URL JOURNAL`.

Reads a line per writer from standard input, forks one (which has everything imported already) and
answers with its pid. Each writer hands in, claims, records and advances until it is killed; what
the ledger confirmed to it stands in the journal, one JSON line each.
"""

import json
import os
import random
import sys
from typing import Any

from ledger import Keys, Kind, Ledger, Order, ReadbackPolicy
from ledger.model import Receipt
from ledger.states import Sight
from ledger.tasks import Dead, Delivered, Move, Retry, Seen, Settlement, Split, Task

__all__ = ["KEYS", "POLICY", "answer", "settlement"]

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
POLICY = ReadbackPolicy(settle_s=0.0)


def main() -> None:
    """Fork writers as told."""
    url, journal = sys.argv[1:]
    _say("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _write(url, journal, seed=line.strip())
            finally:
                os._exit(1)
        _say(str(pid))
        os.waitpid(pid, 0)
        _say("gone")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _write(url: str, journal: str, *, seed: str) -> None:
    chance = random.Random(seed)
    file = os.open(journal, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def note(**what: Any) -> None:
        os.write(file, json.dumps(what).encode() + b"\n")

    ledger = Ledger.open(url, keys=KEYS)
    ledger.register(projects={"default": "default"}, rates={"default": 5_000})
    number = 0
    while True:
        number += 1
        dice = chance.random()
        if dice < 0.2:
            orders = [
                (Order(project="default", kind=Kind.MEMORIES), [f"{seed}/{number}/{one}/{n}"])
                for one in range(chance.randint(1, 5))
                for n in range(chance.randint(1, 3))
            ]
            for receipt in ledger.take_many(orders, chunk_size=5):
                assert isinstance(receipt, Receipt)
                note(accepted=receipt.id, unique=receipt.unique)
        elif dice < 0.4:
            count = chance.randint(1, 30)
            intake = ledger.begin(Order(project="default", kind=Kind.MEMORIES), chunk_size=5)
            intake.add(f"{seed}/{number}/{n}" for n in range(count))
            receipt = intake.finish()
            note(accepted=receipt.id, unique=receipt.unique)
        elif dice < 0.5:
            ledger.sweep(max_attempts=1_000, policy=POLICY)
        else:
            claim = ledger.claim(worker=seed, capacity=20, lead_s=0, lease_s=0.05)
            if claim.tasks:
                note(calls=[[task.claim, task.place] for task in claim.tasks])
            settled = [settlement(task, answer(task, chance)) for task in claim.tasks]
            for request_id in ledger.record(settled):
                ledger.advance(request_id, policy=POLICY)
            if settled:
                note(recorded=[[one.task.claim, one.task.place] for one in settled])


def settlement(task: Task, move: Move) -> Settlement:
    """Say what became of a call."""
    return Settlement(task=task, move=move, outcome=type(move).__name__.lower(), reason="test")


def answer(task: Task, chance: random.Random) -> Move:
    """Give what a MemOS in some trouble leads to."""
    if task.call != "delete":
        return Seen(sight=Sight.ABSENT)
    dice = chance.random()
    if dice < 0.1:
        return Retry(delay_s=0.0, burn=False, doubtful=True)
    if dice < 0.2 and len(task.ids) > 1:
        return Split()
    return Dead(bucket="refused") if dice > 0.95 else Delivered()


if __name__ == "__main__":
    main()
