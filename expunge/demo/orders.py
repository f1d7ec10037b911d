"""The demo's own files: a CSV of ids with the faults that real ones have, and a JSONL of purges."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["FULL_SIZE", "Orders", "Size", "make_orders"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a demo is.

    Attributes:
        users: All users in the simulated MemOS.
        memories_per_user: Memories of each.
        purged: Users who are erased as a whole.
        ids: Ids in the CSV; 1 in 1,000 is unknown to MemOS, and 1 in 100 comes twice.
        rate_per_second: The limit of the account.
    """

    users: int
    memories_per_user: int
    purged: int
    ids: int
    rate_per_second: float


FULL_SIZE: Final = Size(users=150, memories_per_user=200, purged=30, ids=12_000, rate_per_second=40)


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


def make_orders(
    by_user: Mapping[str, Sequence[str]], folder: Path, *, size: Size, seed: int
) -> Orders:
    """Draw what to delete and write the two files.

    Args:
        by_user: All memory ids by user.
        folder: Where the files go.
        size: How much to draw.
        seed: Another one draws others.
    """
    chance = random.Random(seed)  # noqa: S311 - has to be repeatable
    users = list(by_user)
    purged, others = users[-size.purged :], users[: -size.purged]
    lost = max(1, size.ids // 1_000)
    pool = [(user, each) for user in others for each in by_user[user]]
    drawn = chance.sample(pool, size.ids - lost)
    known = [each for _, each in drawn]
    unknown = [f"gone-{chance.getrandbits(64):016x}" for _ in range(lost)]
    lines = [*known, *unknown, *chance.sample(known, max(1, size.ids // 100))]
    chance.shuffle(lines)
    left = {user: len(by_user[user]) for user in others}
    for user, _ in drawn:
        left[user] -= 1
    return Orders(
        ids_file=_write_ids(folder / "expired-memories.csv", lines),
        purges_file=_write_purges(folder / "erasure-requests.jsonl", purged),
        ids=[*known, *unknown],
        unknown=lost,
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
