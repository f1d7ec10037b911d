"""Who gets the next slots: lanes and the read-backs' share. Pure functions.

Every tenth slot of an account is the bulk lane's, so erasures come first and bulk never starves.
Read-backs take at most a fifth of the calls while deletions wait: each deletion pays a quarter of
one.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ledger.states import Lane

__all__ = ["Picked", "pick"]

BULK_EVERY: Final = 10
QUARTERS: Final = 4
# So that credit saved up over hours cannot turn a second of deletions into one of reads.
MOST_CREDIT: Final = 40

D = TypeVar("D")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Picked(Generic[D, R]):
    """What goes into the slots, in order, and the account's read credit afterwards."""

    work: tuple[D | R, ...]
    read_credit: int


def pick(
    *,
    slots: int,
    booked: int,
    read_credit: int,
    deletions: Mapping[Lane, Sequence[D]],
    reads: Mapping[Lane, Sequence[R]],
) -> Picked[D, R]:
    """Fill `slots` slots.

    Args:
        slots: How many there are.
        booked: Slots that the account gave out before; decides which are the bulk lane's.
        read_credit: Quarters of a read-back paid for so far, 0 to 40.
        deletions: Chunks that are due, by lane, in the order of the line.
        reads: Read-backs that are due, by lane.
    """
    waiting = {lane: deque(deletions.get(lane, ())) for lane in Lane}
    looking = {lane: deque(reads.get(lane, ())) for lane in Lane}
    work: list[D | R] = []
    credit = read_credit
    for place in range(slots):
        bulk_first = (booked + place) % BULK_EVERY == BULK_EVERY - 1
        order = (Lane.BULK, Lane.ERASURE) if bulk_first else (Lane.ERASURE, Lane.BULK)
        must_pay = any(waiting.values())
        may_look = credit >= QUARTERS or not must_pay
        # The lane comes first: or the erasures' read-backs would take the bulk lane's slots, since
        # five goes into ten.
        lane = next((one for one in order if waiting[one] or (looking[one] and may_look)), None)
        if lane is None:
            break
        if looking[lane] and may_look:
            work.append(looking[lane].popleft())
            credit -= QUARTERS if must_pay else 0
        else:
            work.append(waiting[lane].popleft())
            credit = min(credit + 1, MOST_CREDIT)
    return Picked(work=tuple(work), read_credit=credit)
