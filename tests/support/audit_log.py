"""A ledger with its sealer, and what a test does to them."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from ledger import Keys
from ledger.audit.exporting import export_lines
from ledger.audit.faults import Kind, Verdict
from ledger.audit.published import Published
from ledger.audit.sealing import Sealed, Sealer
from ledger.audit.verifying import verify
from ledger.engine import Database
from ledger.events import EventType, event_rows
from ledger.schema import event, event_body, leaf
from tests.verify_audit_export import Keys as ForeignKeys
from tests.verify_audit_export import faults

__all__ = ["AuditLog"]


@dataclass
class AuditLog:
    """Keys and published files in a folder, and the log of a ledger."""

    database: Database
    folder: Path
    owner: str = "sealer-1"
    kept: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys_dir = self.folder / "keys"
        if not self.keys_dir.exists():
            Keys.create(self.keys_dir)
        self.published = Published(self.folder / "audit")

    def sealer(self, **options) -> Sealer:
        return Sealer(
            self.database,
            keys_dir=self.keys_dir,
            published=self.published,
            owner=options.pop("owner", self.owner),
            **options,
        )

    def add(self, count: int) -> list[str]:
        """Record so many events; gives their ids."""
        rows = [event_rows(EventType.PROJECT_MENDED, {"project": f"p{n}"}) for n in range(count)]

        def work(conn):
            conn.execute(event.insert(), [head for head, _ in rows])
            conn.execute(event_body.insert(), [body for _, body in rows])

        self.database.write(work)
        return [head["id"] for head, _ in rows]

    def seal(self, **options) -> Sealed:
        """Seal all that waits."""
        sealer = self.sealer(**options)
        while True:
            sealed = sealer.round()
            assert sealed is not None
            if not sealed.more:
                sealer.close()
                return sealed

    def grow(self, *counts: int) -> None:
        """Record and seal, a checkpoint for each count."""
        for count in counts:
            self.add(count)
            self.seal()
            self.kept.append(self.note())

    def note(self) -> str:
        note = self.published.checkpoint()
        assert note is not None
        return note

    def verify(self, *kept: str, published: bool = True) -> Verdict:
        note = self.published.checkpoint() if published else None
        keys = self.published.keys()
        return self.database.read(lambda conn: verify(conn, keys=keys, published=note, kept=kept))

    def kinds(self, *kept: str) -> set[Kind]:
        return {fault.kind for fault in self.verify(*kept).faults}

    def export(self) -> list[str]:
        return self.database.read(lambda conn: list(export_lines(conn)))

    def foreign_faults(self, lines: list[str], *kept: str) -> list[str]:
        """What the second verifier says of an export."""
        keys = ForeignKeys(map(str, self.published.keys()))
        return list(faults(io.StringIO("".join(f"{line}\n" for line in lines)), keys, kept))

    def event_at(self, idx: int) -> str:
        query = select(leaf.c.event).where(leaf.c.idx == idx)
        return str(self.database.read(lambda conn: conn.execute(query).scalar_one()))

    def payload(self, event_id: str) -> dict[str, object]:
        query = select(event_body.c.payload).where(event_body.c.event == event_id)
        raw = self.database.read(lambda conn: conn.execute(query).scalar_one())
        loaded: dict[str, object] = json.loads(bytes(raw))
        return loaded
