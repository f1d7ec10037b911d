"""The ledger's tables. Impossible rows are refused by the database itself.

Two clocks. Columns ending in `_at` are wall time, microseconds since 1970 in UTC, for people and
the audit. Columns ending in `_ns` are the ledger's own clock (`ledger.clock`), nanoseconds, for
leases, slots and pauses; nothing else is ever compared with them.

Ids stand once per chunk as a JSON array, not a row each: 3 million ids/s against 0.6 on SQLite.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from ledger.blobs import Blob
from ledger.duty_tables import heartbeat, key_check, key_epoch, lease, parked_message
from ledger.log_tables import (
    BIG,
    checkpoint,
    event,
    event_body,
    leaf,
    metadata,
    origin,
    pruning,
    subtree,
    unsealed,
)
from ledger.states import Certainty, ChunkState, Kind, Lane, RequestState, Result, Sight

__all__ = [
    "FOREVER_NS",
    "account",
    "attempt",
    "checkpoint",
    "chunk",
    "clock",
    "event",
    "event_body",
    "heartbeat",
    "key_check",
    "key_epoch",
    "leaf",
    "lease",
    "metadata",
    "origin",
    "parked_message",
    "project",
    "pruning",
    "readback",
    "request",
    "subtree",
    "unsealed",
]

# Parked: not before somebody says so (a stream still comes in, a hold, a probe under way).
FOREVER_NS: Final = 2**62
# `urgency` of work that is due in more than three days, or never.
NOT_URGENT: Final = 2**31 - 1


def _one_of(column: str, values: type) -> CheckConstraint:
    words = ", ".join(f"'{value.value}'" for value in values)  # type: ignore[attr-defined]
    return CheckConstraint(f"{column} IS NULL OR {column} IN ({words})", name=f"{column}_known")


def _flag(name: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, server_default="0")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


clock = Table(
    "clock",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("source", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

account = Table(
    "account",
    metadata,
    Column("name", Text, primary_key=True),
    Column("interval_ns", BigInteger, nullable=False),
    _number("next_slot_ns"),
    # Until then slots are farther apart, for calls that may depart late (`ledger.slots`).
    _number("leeway_until_ns"),
    _number("paused_until_ns"),
    Column("pause_reason", Text),
    # Answers in a row that said "back off"; the pause doubles with each.
    _number("strikes"),
    # Slots given out so far: every tenth is the bulk lane's.
    _number("booked"),
    # Quarters of a read-back that deletions have paid for: four deletions, one read-back.
    _number("read_credit"),
    _number("erasure_tag"),
    _number("bulk_tag"),
    _number("claimed_ns"),
    # Stopped by a person until a person resumes it.
    _flag("paused"),
    Column("paused_at", BigInteger),
    Column("stop_reason", Text),
    # When a pause was last committed: what was claimed before it must not depart any more.
    _number("halted_ns"),
    CheckConstraint("interval_ns > 0", name="interval_positive"),
    CheckConstraint("(paused = 1) = (stop_reason IS NOT NULL)", name="stop_has_reason"),
)

project = Table(
    "project",
    metadata,
    Column("name", Text, primary_key=True),
    Column("account", Text, ForeignKey("account.name"), nullable=False),
    _flag("paused"),
    Column("pause_reason", Text),
    Column("paused_at", BigInteger),
    _number("erasure_tail"),
    _number("bulk_tail"),
    # The breaker: failures in a row, until when no call of it departs, since when and why.
    _number("failures"),
    _number("open_until_ns"),
    Column("broken_at", BigInteger),
    Column("break_reason", Text),
    _number("halted_ns"),
    CheckConstraint("(paused = 1) = (pause_reason IS NOT NULL)", name="pause_has_reason"),
    CheckConstraint("(broken_at IS NULL) = (break_reason IS NULL)", name="break_has_reason"),
)

request = Table(
    "request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, ForeignKey("project.name"), nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    # As ordered (under the header MAC), and as in force: a sample that finds something turns full.
    Column("verify", Text, nullable=False),
    Column("verify_now", Text, nullable=False),
    Column("result", Text),
    Column("certainty", Text),
    Column("reason", Text),
    Column("principal", Text, nullable=False),
    Column("subject", Text),
    Column("subject_ref", Text),
    Column("idempotency_ref", Text),
    Column("fingerprint", Text, nullable=False),
    Column("salt", Blob, nullable=False),
    Column("header_mac", Blob, nullable=False),
    Column("closing_mac", Blob),
    Column("chunk_size", Integer, nullable=False),
    _number("chunks"),
    # Number of the next chunk; halves are numbered after the submitted ones.
    _number("next_no"),
    _number("requested"),
    _number("unique_ids"),
    _number("pending"),
    _number("acknowledged"),
    _number("verified_absent"),
    _number("already_absent"),
    _number("still_present"),
    _number("refused"),
    _number("unknown"),
    _number("cancelled"),
    _number("attempts"),
    _number("retried"),
    _flag("held"),
    # Chunks are still parked although the request is open: the sweep goes on releasing them.
    _flag("releasing"),
    Column("urgency", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("not_before", BigInteger),
    Column("finished_at", BigInteger),
    Column("second_look_at", BigInteger),
    # Why it is held, a short code; only while it is.
    Column("hold_reason", Text),
    # Somebody cancelled it: nothing more of it is sent, and the sweep takes its due chunks out.
    _flag("cancelling"),
    # W3C trace context of whoever handed it in, so that a call days later links to it.
    Column("traceparent", Text),
    # Of a purge: what appeared after it was handed in goes too (under the header MAC).
    _flag("include_later"),
    # Of a purge: how many of those its last look showed, and how many leftovers it was to delete
    # one by one.
    _number("later"),
    _number("leftovers"),
    # JSON array of what the last look could not check (`ledger.walks`).
    Column("not_checked", Text),
    # How many ids the sample draws; None without one.
    Column("drawn", BigInteger),
    # Its user's list left out an id that is there: it is read back id by id from then on.
    _flag("by_id"),
    # What the look long after a purge's end came to; `looking` while it is under way.
    Column("second_look", Text),
    # Id of the purge whose second look brought this request about, or of the one that it applies
    # again after the memory store was restored.
    Column("follows", Text),
    # Which pseudonym key `subject_ref` and `salt` were made with (`ledger.epochs`).
    Column("key_epoch", Integer, nullable=False, server_default="0"),
    # Something of it was found not to be what was ordered.
    _flag("tampered"),
    # Its names are being taken out (`ledger.scrubbing`), or are out.
    Column("scrub", Text),
    Column("scrubbed_at", BigInteger),
    # Nothing of it is left but this row.
    _flag("bare"),
    UniqueConstraint("project", "idempotency_ref", name="one_request_per_key"),
    _one_of("kind", Kind),
    _one_of("lane", Lane),
    _one_of("state", RequestState),
    _one_of("result", Result),
    _one_of("certainty", Certainty),
    CheckConstraint(
        "(finished_at IS NULL) = (state NOT IN ('complete', 'partial', 'failed', 'cancelled'))",
        name="final_has_end",
    ),
    CheckConstraint("(finished_at IS NULL) = (result IS NULL)", name="end_has_result"),
    CheckConstraint(
        "state = 'receiving' OR unique_ids = pending + acknowledged + verified_absent"
        " + already_absent + still_present + refused + unknown + cancelled",
        name="counts_add_up",
    ),
    CheckConstraint(
        "pending >= 0 AND acknowledged >= 0 AND verified_absent >= 0 AND already_absent >= 0"
        " AND still_present >= 0 AND refused >= 0 AND unknown >= 0 AND cancelled >= 0"
        " AND requested >= unique_ids",
        name="counts_not_negative",
    ),
    CheckConstraint(
        "state = 'receiving' OR closing_mac IS NOT NULL OR state = 'cancelled'",
        name="closed_has_mac",
    ),
    CheckConstraint("pending = 0 OR finished_at IS NULL", name="final_has_nothing_pending"),
    CheckConstraint(
        "second_look IN ('looking', 'absent', 'found', 'unknown')", name="second_look_known"
    ),
    Index(
        "request_second_look",
        "second_look_at",
        sqlite_where=text("second_look_at IS NOT NULL AND second_look IS NULL"),
        postgresql_where=text("second_look_at IS NOT NULL AND second_look IS NULL"),
    ),
    CheckConstraint("scrub IN ('begun', 'done')", name="scrub_known"),
    CheckConstraint(
        "scrub IS NULL OR (finished_at IS NOT NULL AND subject IS NULL)",
        name="scrubbed_has_no_name",
    ),
    Index(
        "request_of_subject",
        "subject_ref",
        sqlite_where=text("subject_ref IS NOT NULL"),
        postgresql_where=text("subject_ref IS NOT NULL"),
    ),
    Index(
        "request_to_scrub",
        "finished_at",
        sqlite_where=text("scrubbed_at IS NULL AND finished_at IS NOT NULL"),
        postgresql_where=text("scrubbed_at IS NULL AND finished_at IS NOT NULL"),
    ),
    Index(
        "request_to_strip",
        "finished_at",
        sqlite_where=text("bare = 0 AND scrubbed_at IS NOT NULL"),
        postgresql_where=text("bare = 0 AND scrubbed_at IS NOT NULL"),
    ),
    Index(
        "request_tampered",
        "id",
        sqlite_where=text("tampered = 1"),
        postgresql_where=text("tampered = 1"),
    ),
    Index(
        "request_looking",
        "id",
        sqlite_where=text("second_look = 'looking'"),
        postgresql_where=text("second_look = 'looking'"),
    ),
    Index("request_by_age", "created_at", "id"),
    # How many purges a project ordered lately.
    Index("request_of_project", "project", "kind", "created_at"),
    Index(
        "request_unfinished",
        "state",
        "touched_at",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

chunk = Table(
    "chunk",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("request_id", Text, ForeignKey("request.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("no", BigInteger, nullable=False),
    Column("parent", BigInteger),
    Column("account", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("urgency", Integer, nullable=False),
    Column("tag", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    # JSON array of the exact ids ([] for a purge), and each one's place among the request's
    # unique ids: `first`, `first + 1`, … unless `places` (a JSON array) says otherwise.
    Column("ids", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("places", Text),
    Column("mac", Blob, nullable=False),
    _number("due_ns"),
    _number("lease_until_ns"),
    # Number of the latest claim, and the fencing token of every later write.
    _number("fence"),
    # Calls that count against the limit of attempts (not those answered "back off").
    _number("burnt"),
    # An earlier call may have been applied: "not found" then proves nothing about the ids.
    _flag("doubtful"),
    # Times that a read-back found something of it still there.
    _number("sightings"),
    # MemOS said it knew none of it: deleted by an earlier try, or never there.
    _flag("was_absent"),
    _flag("reading"),
    Column("last_reason", Text),
    # Number of the chunk whose unknown ids are being hunted (`ledger.hunt`), and what this part of
    # it waits for: the number of another part, or -1 for the end of the search.
    Column("hunt", BigInteger),
    Column("waits_on", BigInteger),
    # A dead letter that a person gave up for good.
    _flag("discarded"),
    # What a purge left behind, by id: its ids are in no count, the purge's list judges them.
    _flag("leftover"),
    # Of a submitted one: root over its ids' leaves, and its MAC (`ledger.items`).
    # It was given up (the count its ids are under), and is read back before that is believed.
    Column("disputed", Text),
    UniqueConstraint("request_id", "no", name="chunk_number_once"),
    _one_of("state", ChunkState),
    CheckConstraint("n > 0", name="chunk_not_empty"),
    CheckConstraint("disputed IN ('refused', 'unknown')", name="dispute_known"),
    CheckConstraint("(state = 'leased') = (lease_until_ns > 0)", name="lease_only_when_leased"),
    Index(
        "chunk_ready",
        "account",
        "project",
        "lane",
        "urgency",
        "tag",
        sqlite_where=text("state = 'due' AND due_ns = 0"),
        postgresql_where=text("state = 'due' AND due_ns = 0"),
    ),
    Index(
        "chunk_waiting",
        "due_ns",
        sqlite_where=text("state = 'due' AND due_ns > 0"),
        postgresql_where=text("state = 'due' AND due_ns > 0"),
    ),
    Index(
        "chunk_leased",
        "lease_until_ns",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
    Index("chunk_of_request", "request_id", "state", "no"),
    Index(
        "chunk_hunting",
        "request_id",
        "hunt",
        sqlite_where=text("waits_on IS NOT NULL"),
        postgresql_where=text("waits_on IS NOT NULL"),
    ),
    Index(
        "chunk_dead",
        "project",
        "request_id",
        "no",
        sqlite_where=text("state = 'dead' AND discarded = 0"),
        postgresql_where=text("state = 'dead' AND discarded = 0"),
    ),
)

readback = Table(
    "readback",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("request_id", Text, ForeignKey("request.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("chunk_id", BigInteger),
    Column("account", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("urgency", Integer, nullable=False),
    # `list`: the user's or agent's list, page by page. `id`: one memory of a chunk.
    Column("kind", Text, nullable=False),
    # `verify`: after the settle time. `probe`: is a doubtful chunk gone already?
    Column("purpose", Text, nullable=False),
    # Index of the id inside its chunk.
    Column("item", Integer),
    Column("page", Integer, nullable=False, server_default="1"),
    # Of a list: the walk so far (`ledger.walks`); goes with the row when that is judged.
    Column("seen", Text),
    # A list of nobody, read before reads by id: does the store answer at all?
    _flag("control"),
    Column("state", Text, nullable=False),
    Column("sight", Text),
    _number("due_ns"),
    _number("lease_until_ns"),
    _number("fence"),
    _number("burnt"),
    Column("last_reason", Text),
    CheckConstraint("kind IN ('list', 'id')", name="readback_kind_known"),
    CheckConstraint("purpose IN ('verify', 'probe')", name="readback_purpose_known"),
    CheckConstraint("state IN ('due', 'leased', 'done')", name="readback_state_known"),
    CheckConstraint("(kind = 'id') = (item IS NOT NULL)", name="readback_names_its_id"),
    CheckConstraint("(state = 'done') = (sight IS NOT NULL)", name="done_has_sight"),
    _one_of("sight", Sight),
    Index(
        "readback_ready",
        "account",
        "project",
        "lane",
        "urgency",
        "due_ns",
        sqlite_where=text("state = 'due'"),
        postgresql_where=text("state = 'due'"),
    ),
    Index(
        "readback_waiting",
        "due_ns",
        sqlite_where=text("state = 'due'"),
        postgresql_where=text("state = 'due'"),
    ),
    Index(
        "readback_leased",
        "lease_until_ns",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
    Index("readback_of_request", "request_id", "state"),
)

attempt = Table(
    "attempt",
    metadata,
    # A claim's random id and the call's place in it.
    Column("claim", Text, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("chunk_id", BigInteger),
    Column("readback_id", BigInteger),
    Column("fence", BigInteger, nullable=False),
    Column("call", Text, nullable=False),
    Column("worker", Text, nullable=False),
    Column("slot_ns", BigInteger, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("reason", Text),
    Column("http_status", Integer),
    Column("code", BigInteger),
    Column("took_us", BigInteger),
    _flag("stale"),
    CheckConstraint("call IN ('delete', 'list', 'read')", name="call_known"),
    CheckConstraint("(chunk_id IS NULL) <> (readback_id IS NULL)", name="attempt_of_one_thing"),
    Index("attempt_of_request", "request_id"),
    # The few whose calls are under way: what a lapsed lease closes.
    Index(
        "attempt_open",
        "request_id",
        "fence",
        sqlite_where=text("outcome IS NULL"),
        postgresql_where=text("outcome IS NULL"),
    ),
)
