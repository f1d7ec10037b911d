"""Slots: the moments at which calls of an account may depart (GCRA without burst).

An account's row holds its next free slot. Claims book one or more and move it on, so all workers
together depart evenly spaced, whatever they do otherwise. A booked slot that is not used is lost:
the rate is then lower, never higher.

Why 0.995 of the limit: L + 1 calls spaced by 1 / (0.995 L) span 1.005 s, so one call may come 5 ms
later than the others before some window of one second holds L + 1 of them. Of these 5 ms a
departure may use 3 (`LATE_NS`); the rest is for the way to the server. 20 ms would be too many.

An account may have leeway for a while: its slots are then spaced by 1 / (0.9 L), so that its calls
may come 100 ms late (`LEEWAY_NS`) and no second holds too many all the same. It lasts until
a full limit after the last call that may be so late, whoever claims meanwhile.
"""

import math
from dataclasses import dataclass
from typing import Final

__all__ = [
    "AHEAD_NS",
    "HORIZON_NS",
    "LATE_NS",
    "LEEWAY_AHEAD_NS",
    "LEEWAY_NS",
    "SHARE_S",
    "Booking",
    "book",
    "interval_ns",
    "most_at_once",
]

PACE: Final = 0.995
LATE_NS: Final = 3_000_000
HORIZON_NS: Final = 1_000_000_000
# Nobody claims before the next free slot is this near. However many workers there are, no more
# than this and one claim is booked ahead, and a pause does not reach what is.
AHEAD_NS: Final = 150_000_000
LEEWAY_PACE: Final = 0.9
LEEWAY_NS: Final = 100_000_000
# L + 1 calls span so much at that pace; after the last one that may be late, for as long.
_LEEWAY_SPAN_NS: Final = math.ceil(1_000_000_000 / LEEWAY_PACE)
# Workers that need leeway take long to claim, and not all of them as long: the one that leads by
# most would have all slots, for the others would find the next free one too far ahead.
LEEWAY_AHEAD_NS: Final = 500_000_000
SHARE_S: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Booking:
    """Slots given to one claim, in ascending order, and what its account's row holds after them."""

    slots: tuple[int, ...]
    next_slot_ns: int
    leeway_until_ns: int = 0


def interval_ns(rate_per_second: float) -> int:
    """Nanoseconds between two slots at a limit of `rate_per_second` calls."""
    return math.ceil(1_000_000_000 / (PACE * rate_per_second))


def most_at_once(interval: int) -> int:
    """How many slots one claim may book: about 200 ms of the rate, at least one."""
    return max(1, int(SHARE_S * 1_000_000_000 / interval))


def book(
    *,
    next_slot_ns: int,
    now_ns: int,
    lead_ns: int,
    interval: int,
    wanted: int,
    leeway: bool = False,
    leeway_until_ns: int = 0,
) -> Booking:
    """Book up to `wanted` slots.

    Args:
        next_slot_ns: The account's next free slot.
        now_ns: The ledger's clock.
        lead_ns: How long it may take from here to a departure (commit and hand-over); an earlier
            slot might be missed. With leeway half of it will do, or what is 100 ms less than it.
        interval: Nanoseconds between slots.
        wanted: How many calls could depart; 0 or more.
        leeway: Whether these calls may depart 100 ms late.
        leeway_until_ns: Until when slots are spaced for such calls, whoever books.

    Returns:
        Slots no farther than one second away; none when the next free one is.
    """
    if leeway:
        # What takes all of the lead is still in time then; and waiting for slots is time lost.
        lead_ns = max(lead_ns // 2, lead_ns - LEEWAY_NS)
    start = max(next_slot_ns, now_ns + lead_ns)
    apart = interval
    if leeway or start < leeway_until_ns:
        apart = math.ceil(interval * PACE / LEEWAY_PACE)
    slots = []
    for place in range(min(wanted, most_at_once(apart))):
        slot = start + place * apart
        if slot - now_ns > HORIZON_NS:
            break
        slots.append(slot)
    if not slots:
        return Booking(slots=(), next_slot_ns=next_slot_ns, leeway_until_ns=leeway_until_ns)
    if leeway:
        leeway_until_ns = max(leeway_until_ns, slots[-1] + _LEEWAY_SPAN_NS)
    return Booking(
        slots=tuple(slots), next_slot_ns=slots[-1] + apart, leeway_until_ns=leeway_until_ns
    )
