"""The tables of the record and of the log over it; `ledger.schema` has them all.

What is in them is only added to. Triggers see to that (revision 0005), and on PostgreSQL the rights
of `ledger.grants`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from ledger.blobs import Blob

__all__ = [
    "BIG",
    "checkpoint",
    "event",
    "event_body",
    "leaf",
    "metadata",
    "origin",
    "pruning",
    "subtree",
    "unsealed",
]

BIG = BigInteger().with_variant(Integer, "sqlite")
metadata = MetaData()

event = Table(
    "event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("request", Text),
    Column("type", Text, nullable=False),
    Column("leaf_hash", Blob, nullable=False),
    Index("event_of_request", "request"),
)

event_body = Table(
    "event_body",
    metadata,
    Column("event", Text, ForeignKey("event.id"), primary_key=True),
    Column("payload", Blob, nullable=False),
    Column("salt", Blob, nullable=False),
)

# Events that are in no leaf yet, in about the order they came; a trigger on `event` fills it. What
# commits late is here all the same, where "all after the last one" would pass it over.
unsealed = Table(
    "unsealed",
    metadata,
    Column("seq", BIG, Identity(always=False), primary_key=True),
    Column("event", Text, nullable=False),
)

# The tree (`ledger.audit`): insert-only, and triggers refuse everything else.
leaf = Table(
    "leaf",
    metadata,
    Column("idx", BIG, primary_key=True, autoincrement=False),
    Column("event", Text, ForeignKey("event.id"), nullable=False, unique=True),
    Column("hash", Blob, nullable=False),
)

# Roots of full subtrees of 256, 65,536, … leaves, `level` 1, 2, …
subtree = Table(
    "subtree",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("idx", BIG, primary_key=True, autoincrement=False),
    Column("hash", Blob, nullable=False),
)

# Names of the log: the first one, and another after each restore of an older ledger.
origin = Table(
    "origin",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    # Leaves that were there when it was opened.
    Column("size", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    # Without a gap, from 1.
    Column("no", BIG, primary_key=True, autoincrement=False),
    Column("origin", Text, ForeignKey("origin.name"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", Blob, nullable=False),
    # As it was signed and published.
    Column("note", Text, nullable=False),
    Column("signed_at", BigInteger, nullable=False),
    UniqueConstraint("origin", "size", name="one_root_per_size"),
)

# Bodies of the leaves below an index may be deleted; by which event that was recorded.
pruning = Table(
    "pruning",
    metadata,
    Column("below", BIG, primary_key=True, autoincrement=False),
    Column("event", Text, ForeignKey("event.id"), nullable=False),
)
