"""What a chunk's read-back means for it: done, due again, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, update

from ledger.counting import Tally
from ledger.divide import Part, divide
from ledger.macs import Macs
from ledger.schema import chunk
from ledger.states import ChunkState, Sight

__all__ = ["GROWTH", "Verdict", "judge_chunk"]

_NS: Final = 1_000_000_000
# With the default pause of 2 s and three sightings, 70 s pass before something is given up: a
# deletion that takes effect a minute late is waited for.
GROWTH: Final = 5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was seen of each item of a chunk, in the order of its ids (one for a purge)."""

    sights: Sequence[Sight]

    def items(self, *wanted: Sight) -> list[int]:
        """Indices of the items with one of these sights."""
        return [item for item, sight in enumerate(self.sights) if sight in wanted]


def judge_chunk(
    conn: Connection,
    macs: Macs,
    one: Row[Any],
    verdict: Verdict,
    *,
    tally: Tally,
    now_ns: int,
    pause_s: float,
    most_sightings: int,
) -> None:
    """Settle a delivered chunk whose items were all read back.

    Absent items are done. An item whose read-back failed to the end is `unknown`. Present ones are
    deleted again after a pause that grows fivefold each time, and given up as `still_present`
    after `most_sightings`. Of a disputed chunk only what is seen to be gone is done: what was
    refused and is still there, or cannot be seen, stays a dead letter for the reason it had.

    Args:
        conn: The transaction.
        macs: Makes the MACs of parts.
        one: The chunk's row, all columns, state `delivered`.
        verdict: One sight per item.
        tally: Takes the change of counts; the caller applies it.
        now_ns: The ledger's clock.
        pause_s: First pause before deleting again, in seconds.
        most_sightings: How often something may be seen still there.
    """
    present = verdict.items(Sight.PRESENT)
    unknown = verdict.items(Sight.UNKNOWN)
    absent = verdict.items(Sight.ABSENT)
    was = one.disputed or ("already_absent" if one.was_absent else "acknowledged")
    if was != "already_absent":
        tally.move(one.request_id, len(absent), out_of=was, into="verified_absent")
    stays: list[int] = []
    if one.disputed:
        stays, unknown = unknown, []
    if one.disputed == "refused":
        stays, present = sorted([*stays, *present]), []
    tally.move(one.request_id, len(unknown), out_of=was, into="unknown")
    sightings = one.sightings + 1
    given_up = sightings > most_sightings
    if given_up:
        tally.move(one.request_id, len(present), out_of=was, into="still_present")
    else:
        tally.move(one.request_id, len(present), out_of=was, into="pending")
        tally.add(one.request_id, "retried", 1 if present else 0)
    again = Part(
        items=present,
        state=ChunkState.DEAD if given_up else ChunkState.DUE,
        due_ns=0 if given_up else now_ns + int(pause_s * GROWTH**one.sightings * _NS),
        sightings=sightings,
        last_reason="still_present",
    )
    parts = [
        again,
        Part(items=unknown, state=ChunkState.DEAD, last_reason="unverifiable"),
        Part(
            items=stays,
            state=ChunkState.DEAD,
            last_reason=one.last_reason,
            doubtful=int(one.disputed == "unknown"),
        ),
        Part(items=absent, state=ChunkState.DONE),
    ]
    parts = [part for part in parts if part.items]
    if len(parts) > 1:
        divide(conn, macs, [one], parts)
        return
    only = parts[0]
    conn.execute(
        update(chunk)
        .where(chunk.c.id == one.id)
        .values(
            state=only.state,
            due_ns=only.due_ns,
            sightings=only.sightings or one.sightings,
            last_reason=only.last_reason or one.last_reason,
            reading=0,
            burnt=0,
            disputed=None,
            doubtful=only.doubtful,
            was_absent=one.was_absent if only.state != ChunkState.DUE else 0,
        )
    )
