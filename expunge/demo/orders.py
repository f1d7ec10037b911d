"""The demo's own files: a CSV of ids with the faults that real ones have, and a JSONL of purges."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["MEMORIES_PER_USER", "PURGED_USERS", "USERS", "Orders", "make_orders"]

USERS: Final = 150
MEMORIES_PER_USER: Final = 200
PURGED_USERS: Final = 30
IDS: Final = 12_000
UNKNOWN: Final = IDS // 1_000  # 1 in a thousand is not there any more
REPEATED: Final = IDS // 100  # 1 in a hundred comes twice


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the files order.

    Attributes:
        ids_file: CSV with the columns `memory_id` and `exported_at`.
        purges_file: JSONL with a purge a line.
        ids: The ids in the CSV, each once; known ones first.
        unknown: How many of them MemOS does not have.
        purged: The users of the JSONL; none of the ids is theirs.
        left: How many memories each other user must have at the end.
    """

    ids_file: Path
    purges_file: Path
    ids: Sequence[str]
    unknown: int
    purged: Sequence[str]
    left: Mapping[str, int]


def make_orders(by_user: Mapping[str, Sequence[str]], folder: Path, *, seed: int) -> Orders:
    """Draw what to delete and write the two files.

    Args:
        by_user: All memory ids by user.
        folder: Where the files go.
        seed: Another one draws others.
    """
    chance = random.Random(seed)  # noqa: S311 - has to be repeatable
    users = list(by_user)
    purged = users[-PURGED_USERS:]
    pool = [(user, each) for user in users[:-PURGED_USERS] for each in by_user[user]]
    drawn = chance.sample(pool, IDS - UNKNOWN)
    known = [each for _, each in drawn]
    unknown = [f"gone-{chance.getrandbits(64):016x}" for _ in range(UNKNOWN)]
    lines = [*known, *unknown, *chance.sample(known, REPEATED)]
    chance.shuffle(lines)
    left = {user: len(by_user[user]) for user in users[:-PURGED_USERS]}
    for user, _ in drawn:
        left[user] -= 1
    return Orders(
        ids_file=_write_ids(folder / "expired-memories.csv", lines),
        purges_file=_write_purges(folder / "erasure-requests.jsonl", purged),
        ids=[*known, *unknown],
        unknown=UNKNOWN,
        purged=purged,
        left=left,
    )


def _write_ids(path: Path, ids: Sequence[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["memory_id", "exported_at"])
        writer.writerows([each, "2026-11-01"] for each in ids)
    return path


def _write_purges(path: Path, users: Sequence[str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for user in users:
            line = {"user_id": user, "reason": "gdpr-17", "idempotency_key": f"erase-{user}"}
            file.write(json.dumps(line) + "\n")
    return path
