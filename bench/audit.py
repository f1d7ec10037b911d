"""How fast events are sealed, a whole log is verified, and a proof is made.

    python bench/audit.py [--events 1000000] [--proofs-at 10000000] [--url postgresql://…]

Prints a line each. On SQLite in a temporary folder; with --url sealing and verifying run there, in
a database that should be empty.
"""

import argparse
import hashlib
import random
import secrets
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ledger import Keys, upgrade
from ledger.audit.merkle import Frontier, verify_inclusion
from ledger.audit.published import Published
from ledger.audit.sealing import Sealer
from ledger.audit.stored import StoredTree, insert_rows
from ledger.audit.verifying import verify
from ledger.engine import Database
from ledger.events import EventType, event_rows

_AT_ONCE = 5_000


def _add(database: Database, count: int) -> None:
    digest = secrets.token_hex(32)
    payload = {"claim": digest[:32], "account": "default", "worker": "drain-1-1"}
    payload |= {"calls": 6, "digest": digest}  # type: ignore[dict-item]
    for begin in range(0, count, _AT_ONCE):
        made = [
            event_rows(EventType.CALLS_INTENT, payload) for _ in range(min(_AT_ONCE, count - begin))
        ]
        heads = [(head["id"], head["type"], head["leaf_hash"]) for head, _ in made]
        bodies = [tuple(body.values()) for _, body in made]

        def work(conn: object, heads: object = heads, bodies: object = bodies) -> None:
            insert_rows(conn, "event", "id, type, leaf_hash", heads)  # type: ignore[arg-type]
            insert_rows(conn, "event_body", "event, payload, salt", bodies)  # type: ignore[arg-type]

        database.write(work)


def _seal(sealer: Sealer) -> int:
    count = 0
    while True:
        sealed = sealer.round()
        assert sealed is not None
        count += sealed.events
        if not sealed.more:
            return count


def sealing_and_verifying(url: str, folder: Path, events: int) -> None:
    """Seal so many events, then verify them all."""
    upgrade(url)
    if not (folder / "keys").exists():
        Keys.create(folder / "keys")
    published = Published(folder / "audit")
    with closing(Database(url)) as database:
        began = time.perf_counter()
        _add(database, events)
        print(f"recorded  {events:>10,} events in {time.perf_counter() - began:6.1f} s")
        sealer = Sealer(database, keys_dir=folder / "keys", published=published, owner="bench")
        began = time.perf_counter()
        sealed = _seal(sealer)
        took = time.perf_counter() - began
        print(f"sealed    {sealed:>10,} events in {took:6.1f} s: {sealed / took:,.0f} a second")
        # As autovacuum does sooner or later; plans are others then.
        database.write(lambda conn: conn.exec_driver_sql("ANALYZE"))
        began = time.perf_counter()
        verdict = database.read_long(
            lambda conn: verify(conn, keys=published.keys(), published=published.checkpoint())
        )
        took = time.perf_counter() - began
        assert verdict.good
        print(f"verified  {verdict.leaves:>10,} events in {took:6.1f} s")


def _synthetic(leaves: int) -> Iterator[tuple[int, str, bytes]]:
    for n in range(leaves):
        yield n, f"{n:x}", hashlib.sha256(b"%d" % n).digest()


def proofs(folder: Path, leaves: int) -> None:
    """Make proofs in a tree of so many leaves; without events, for these take no part in it."""
    path = folder / "proofs.db"
    upgrade(f"sqlite:///{path}")
    frontier = Frontier()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("DROP TRIGGER leaf_no_replace")
        rows = _synthetic(leaves)
        while some := [row for _, row in zip(range(100_000), rows, strict=False)]:
            conn.executemany("INSERT INTO leaf (idx, event, hash) VALUES (?, ?, ?)", some)
            for row in some:
                frontier.append(row[2])
        conn.executemany("INSERT INTO subtree (level, idx, hash) VALUES (?, ?, ?)", frontier.made)
        conn.commit()
    took = []
    with closing(Database(f"sqlite:///{path}")) as database:
        for _ in range(200):
            index = random.randrange(leaves)  # noqa: S311 - which ones does not matter
            leaf = hashlib.sha256(b"%d" % index).digest()
            began = time.perf_counter()
            proof = database.read(
                lambda conn, index=index: StoredTree(conn).inclusion(index, leaves)  # type: ignore[misc]
            )
            took.append(1_000 * (time.perf_counter() - began))
            assert verify_inclusion(leaf, index, leaves, proof, frontier.root())
    print(
        f"proofs at {leaves:>10,} leaves: {statistics.median(took):.1f} ms, "
        f"the slowest of {len(took)} {max(took):.1f} ms"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--proofs-at", type=int, default=10_000_000)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="expunge-bench-") as name:
        folder = Path(name)
        url = arguments.url or f"sqlite:///{folder / 'ledger.db'}"
        sealing_and_verifying(url, folder, arguments.events)
        if arguments.proofs_at:
            proofs(folder, arguments.proofs_at)


if __name__ == "__main__":
    main()
