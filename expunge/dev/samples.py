"""Made-up users and memories, and files that order some of them to be deleted.

Each way in has users of its own, so that what one of them deletes is there for the others.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["MEMORIES_PER_USER", "SAMPLES", "USERS", "write_samples"]

USERS: Final = 20
MEMORIES_PER_USER: Final = 50

# Who is whose: the numbers of the simulator's users by the file that orders something of theirs.
# 1 and 2 are for `submit` and Python, those from 9 on for queues and whatever else.
_IDS: Final = 3
_EXPORT: Final = (4, 5)
_ERASED: Final = (6, 7)
_BATCHED: Final = 8

SAMPLES: Final[Mapping[str, Sequence[int]]] = {
    "submit": (1, 2),
    "ids.txt": (_IDS,),
    "export.csv": _EXPORT,
    "erase.jsonl": (*_ERASED, _BATCHED),
    "free": tuple(range(9, USERS)),
}


def write_samples(folder: Path, by_user: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Write `ids.txt`, `export.csv` (columns mem and owner) and `erase.jsonl` (a request a line).

    Args:
        folder: Where to.
        by_user: All memory ids by user, in the order of the users' numbers.

    Returns:
        The users whose memories each of them orders, and under `submit` and `free` those of none.
    """
    names = list(by_user)
    (folder / "ids.txt").write_text("".join(f"{one}\n" for one in by_user[names[_IDS]]))
    with (folder / "export.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mem", "owner"])
        for number in _EXPORT:
            writer.writerows([each, names[number]] for each in by_user[names[number]])
    orders: list[dict[str, object]] = [
        {"user_id": names[number], "reason": "gdpr-17"} for number in _ERASED
    ]
    batch = names[_BATCHED]
    orders.append({"memory_ids": list(by_user[batch]), "user": batch, "reason": "expired"})
    lines = "".join(json.dumps(order) + "\n" for order in orders)
    (folder / "erase.jsonl").write_text(lines)
    return {name: [names[number] for number in numbers] for name, numbers in SAMPLES.items()}
