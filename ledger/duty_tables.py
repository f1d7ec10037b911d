"""Tables of what goes on around requests: duties, processes, keys, unusable messages."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from ledger.log_tables import metadata

__all__ = ["heartbeat", "key_check", "key_epoch", "lease", "parked_message"]

# Queue messages that cannot be an order. What they said is not kept, it may hold names.
parked_message = Table(
    "parked_message",
    metadata,
    Column("id", Text, primary_key=True),
    # Which queue (`redis`) and which stream of it, and the message's place there.
    Column("broker", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("position", Text, nullable=False),
    # A slug of a closed list, and the sentence that says which part of the message is wrong.
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    # Keyed digest of the bytes: the sender can prove which message it was, nobody can guess it.
    Column("body_ref", Text, nullable=False),
    Column("parked_at", BigInteger, nullable=False),
    UniqueConstraint("broker", "stream", "position", "body_ref", name="parked_once"),
    Index("parked_by_age", "parked_at", "id"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
)

# Pseudonym keys: each was in force from its beginning until the next one's.
key_epoch = Table(
    "key_epoch",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=False),
    Column("began_at", BigInteger, nullable=False),
    Column("destroyed_at", BigInteger),
)

# The fingerprint of the order and pseudonym keys that this ledger's rows are made with.
key_check = Table(
    "key_check",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("process", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("beat_ns", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
)
