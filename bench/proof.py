"""What proof costs: bytes of the record for a call, and the time of one certificate.

One SQLite ledger: a batch of ids is claimed and recorded by a hundred calls at a time, sealed,
and certified. Tables are measured page by page (SQLite's dbstat), their indexes with them.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import text

from ledger import Keys, Kind, Ledger, Order, ReadbackPolicy, upgrade
from ledger.audit.published import Published
from ledger.audit.sealing import Sealer
from ledger.certificates.checking import check_certificate
from ledger.certificates.issuing import issue
from ledger.engine import Database
from ledger.tasks import Delivered, Settlement

_RECORD: Final = ("event", "event_body", "leaf", "subtree", "unsealed")
_AT_ONCE: Final = 100


def main() -> None:
    """Measure and print; JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--certificates", type=int, default=50)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = _measure(Path(folder), asked.calls, asked.certificates)
    for name, value in found.items():
        print(f"{name:<40} {value}")
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(found, indent=2))


def _measure(folder: Path, calls: int, certificates: int) -> dict[str, object]:
    url = f"sqlite:///{folder / 'ledger.db'}"
    upgrade(url)
    keys = Keys.create(folder / "keys")
    with Ledger.open(url, keys=keys) as ledger, closing(Database(url)) as database:
        ledger.register(projects={"shop": "acme"}, rates={"acme": 5_000.0})
        order = Order(project="shop", kind=Kind.MEMORIES, verify="none")
        intake = ledger.begin(order, chunk_size=1)
        intake.add(f"memory-{number}" for number in range(calls))
        receipt = intake.finish()
        before = _sizes(database)
        batches = _carry_out(ledger)
        ledger.sweep(max_attempts=8, policy=ReadbackPolicy())
        published = Published(folder / "audit")
        sealer = Sealer(database, keys_dir=folder / "keys", published=published, owner="bench")
        while (sealed := sealer.round()) is not None and sealed.more:
            pass
        after = _sizes(database)
        assert ledger.status(receipt.id).finished_at is not None
        public = published.keys()
        took = []
        for _ in range(certificates):
            began = time.perf_counter()
            made = issue(database, receipt.id, keys=public)
            took.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert check_certificate(made, public).good
        checked = time.perf_counter() - began
        bodies = _bodies(database)
    grown = {name: after[name] - before[name] for name in after}
    return {
        "calls": calls,
        "batches": batches,
        "calls a batch": round(calls / batches, 1),
        "bytes a call": round(sum(grown.values()) / calls, 1),
        **{f"bytes a call, {name}": round(size / calls, 2) for name, size in grown.items()},
        **{f"payload bytes of {name}": size for name, size in bodies.items()},
        "certificate, median ms": round(sorted(took)[len(took) // 2] * 1e3, 2),
        "certificate, slowest ms": round(max(took) * 1e3, 2),
        "verify offline, ms": round(checked * 1e3, 2),
        "certificate, bytes": len(made),
    }


def _carry_out(ledger: Ledger) -> int:
    batches = 0
    while True:
        claim = ledger.claim(worker="drain-1-00000000", capacity=_AT_ONCE, lead_s=0.0, lease_s=60)
        if claim.tasks:
            batches += 1
            done = [
                Settlement(
                    task=task,
                    move=Delivered(),
                    outcome="acknowledged",
                    reason="acknowledged",
                    http_status=200,
                    code=0,
                )
                for task in claim.tasks
            ]
            for request_id in ledger.record(done):
                ledger.advance(request_id, policy=ReadbackPolicy())
        elif claim.wake_ns is None:
            return batches
        else:
            time.sleep(claim.wake_ns / 1e9)


def _sizes(database: Database) -> dict[str, int]:
    """Give the bytes of the pages of each table of the record, its indexes with it."""
    query = text(
        "SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_master m"
        " ON m.name = d.name GROUP BY m.tbl_name"
    )
    rows = database.read(lambda conn: {row[0]: row[1] for row in conn.execute(query)})
    return {name: int(rows.get(name) or 0) for name in _RECORD}


def _bodies(database: Database) -> dict[str, int]:
    query = text(
        "SELECT e.type, max(length(b.payload)) FROM event e JOIN event_body b ON b.event = e.id"
        " GROUP BY e.type"
    )
    rows = database.read(lambda conn: {row[0]: row[1] for row in conn.execute(query)})
    return {str(name): int(size) for name, size in rows.items()}


if __name__ == "__main__":
    main()
