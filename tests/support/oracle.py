"""The judge outside the product: compares orders, calls and what is left with the ledger.

`judge` does so when all work is over; `tests.support.stack` gathers what it looks at.

Each invariant is named as in the fault catalogue: I1 nothing lost, I2 nothing unordered, I3 an
order takes effect once, I4 one end each, I5 the rate, I6 a record for every call, I8 bounded
memory, I12 no claim beyond the truth.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ledger import Kind
from memos_api.simulator.journal import CallRecord
from memos_api.simulator.remote import worst_window
from tests.support.audit_replay import replay
from tests.support.ledger_facts import LedgerFacts, Request
from tests.support.producer_journal import Ordered

__all__ = ["Evidence", "Verdict", "judge", "judge_rate"]

WINDOWS_S = (1.0, 10.0, 60.0)
# An arrival is noted up to so much late on a busy machine, so windows of arrivals are shorter.
NOTED_LATE_S = 0.05
# Between two clocks that are read one after the other.
_CLOCKS_APART_US = 5_000
_NOT_FOUND = 40307
_SHOWN = 5
_Named = tuple[str, str]  # kind of order, and id or subject


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that is compared; nothing may be under way any more.

    Attributes:
        orders: The producer's journal.
        calls: The simulator's journal, in order of arrival.
        seeded: Memory ids that were there at first, by user.
        left: Those of them that are there still.
        facts: The ledger.
        rates: Calls a second by account.
        kills: Processes that were killed, or lost the answer of a commit.
        in_flight: Most calls that one process has under way.
        wall_offset_us: What makes the journal's seconds into wall time.
        peaks_mb: Highest resident memory of each process that was looked at.
        budget_mb: How high it may be.
    """

    orders: Sequence[Ordered]
    calls: Sequence[CallRecord]
    seeded: Mapping[str, Sequence[str]]
    left: frozenset[str]
    facts: LedgerFacts
    rates: Mapping[str, float]
    kills: int = 0
    in_flight: int = 64
    wall_offset_us: int = 0
    peaks_mb: Mapping[str, float] = field(default_factory=dict)
    budget_mb: float = 200.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        calls: Calls that MemOS saw.
        lost: Ids and subjects acknowledged, still there, and not reported as such.
        unordered: Ids and subjects that a call named, or that vanished, without an order.
        doubled: Deletions that named something which an earlier one had deleted.
        most_doubled: How many of those the faults explain.
        excess: Calls above the rate in the worst window.
        findings: A sentence for each thing that must not be.
    """

    calls: int
    lost: int
    unordered: int
    doubled: int
    most_doubled: int
    excess: int
    findings: tuple[str, ...]

    def assert_clean(self) -> None:
        """Fail with every finding, if there is one."""
        assert not self.findings, "\n".join(self.findings)


def judge(evidence: Evidence) -> Verdict:
    """Compare everything."""
    lost = sorted(_lost(evidence))
    unordered = sorted(_unordered(evidence))
    doubled = _doubled(evidence)
    excess = judge_rate(evidence)
    findings = [*replay(evidence.facts), *_calls_without_intent(evidence), *_untrue(evidence)]
    if not_over := [one.id for one in evidence.facts.requests.values() if not one.ended]:
        findings.append(f"{len(not_over)} requests have not ended: {_some(not_over)}.")
    if lost:
        findings.append(f"{len(lost)} lost: {_some(lost)}.")
    if unordered:
        findings.append(f"{len(unordered)} deleted without an order: {_some(unordered)}.")
    if doubled.calls > doubled.most:
        findings.append(f"{doubled.calls} deletions were doubled; faults explain {doubled.most}.")
    elif doubled.unexplained:
        findings.append(f"{doubled.unexplained} deletions were doubled for no fault of their own.")
    findings += [f"{calls} calls {where}" for where, calls in excess.items()]
    findings += [
        f"{name} took {peak:.0f} MB at its height, more than {evidence.budget_mb:.0f}."
        for name, peak in evidence.peaks_mb.items()
        if peak > evidence.budget_mb
    ]
    return Verdict(
        calls=len(evidence.calls),
        lost=len(lost),
        unordered=len(unordered),
        doubled=doubled.calls,
        most_doubled=doubled.most,
        excess=max(excess.values(), default=0),
        findings=tuple(findings),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


# -- I1, I2, I12 ----------------------------------------------------------------------------------


def _targets(evidence: Evidence, kind: str, ids: Iterable[str], subject: str | None) -> set[str]:
    return set(evidence.seeded.get(str(subject), ())) if kind != Kind.MEMORIES else set(ids)


def _lost(evidence: Evidence) -> Iterator[str]:
    for order in evidence.orders:
        if order.request_id is None:
            continue
        request = evidence.facts.requests.get(order.request_id)
        left = _targets(evidence, order.kind, order.ids, order.subject) & evidence.left
        if request is None:
            yield from left or {f"request {order.request_id}"}
        elif left:
            yield from left - _reported(evidence.facts, request, left)


def _reported(facts: LedgerFacts, request: Request, left: set[str]) -> set[str]:
    """Give those of *left* that the ledger does not claim to be gone."""
    if request.kind != Kind.MEMORIES or "sample" in request.verify:
        return left if request.result in ("partial", "failed", "cancelled") else set()
    given_up = [part for part in facts.parts[request.id] if part.state in ("dead", "cancelled")]
    return {one for part in given_up for one in part.ids} & left


def _unordered(evidence: Evidence) -> set[str]:
    ordered: set[tuple[str, str]] = set()
    may_go: set[str] = set()
    # What a purge left behind is deleted by id.
    purged: set[tuple[str, str]] = set()
    for order in evidence.orders:
        ordered |= {(order.kind.value, one) for one in order.ids or [str(order.subject)]}
        targets = _targets(evidence, order.kind, order.ids, order.subject)
        may_go |= targets
        if order.kind is not Kind.MEMORIES:
            purged |= {(Kind.MEMORIES.value, one) for one in targets}
    expected = ordered | purged
    named = {
        f"{call.kind} {one}"
        for call in evidence.calls
        if call.endpoint == "delete"
        for one in call.ids
        if (call.kind, one) not in expected
    }
    seeded = {one for ids in evidence.seeded.values() for one in ids}
    return named | (seeded - evidence.left - may_go)


def _untrue(evidence: Evidence) -> Iterator[str]:
    for request in evidence.facts.requests.values():
        ids = {one for part in evidence.facts.parts[request.id] for one in part.ids}
        still = _targets(evidence, request.kind, ids, request.subject) & evidence.left
        if still and request.certainty == "verified":
            yield f"Request {request.id} is called verified, and {len(still)} are still there."
        if still and request.state == "complete" and request.certainty is None:
            yield f"Request {request.id} is called complete, and {len(still)} are still there."


# -- I3 -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Doubled:
    """Calls, the most that faults explain taken together, and those that theirs do not explain."""

    calls: int
    most: int
    unexplained: int


def _doubled(evidence: Evidence) -> _Doubled:
    """Count deletions of what an earlier one had deleted, for each order that named it once."""
    orders: Counter[_Named] = Counter()
    for order in evidence.orders:
        orders.update((order.kind.value, one) for one in order.ids or [str(order.subject)])
        if order.kind is not Kind.MEMORIES:
            # Each purge may delete by id what it left behind.
            targets = _targets(evidence, order.kind, order.ids, order.subject)
            orders.update((Kind.MEMORIES.value, one) for one in targets)
    explained, reasons = _explained(evidence.facts)
    effects: Counter[_Named] = Counter()
    again: Counter[_Named] = Counter()
    doubled = unexplained = 0
    for call in evidence.calls:
        if call.endpoint != "delete":
            continue
        named = [(call.kind, one) for one in call.ids]
        twice = [one for one in named if effects[one] >= max(1, orders[one])]
        again.update(twice)
        doubled += bool(twice)
        unexplained += any(again[one] > explained[one] for one in twice)
        # What was refused for one of its ids has to be asked again in parts.
        if call.applied and call.code != _NOT_FOUND:
            effects.update(named)
    return _Doubled(
        calls=doubled,
        most=reasons + evidence.kills * evidence.in_flight,
        unexplained=max(0, unexplained - evidence.kills * evidence.in_flight),
    )


def _explained(facts: LedgerFacts) -> tuple[Counter[_Named], int]:
    """Say how often each id may be named again, and how often anything may be.

    Once for each call with an unknown outcome, and for each time that it was seen still there.
    """
    reasons: Counter[int] = Counter()
    for one in facts.attempts:
        if one.chunk_id is not None and (one.outcome == "unknown" or one.stale):
            reasons[one.chunk_id] += 1
    # Parts of a divided chunk inherit its sightings.
    reasons.update({one.id: one.sightings for one in facts.chunks.values()})
    explained: Counter[_Named] = Counter()
    for chunk_id, times in reasons.items():
        part = facts.chunks[chunk_id]
        request = facts.requests[part.request_id]
        for name in part.ids or (str(request.subject),):
            explained[facts.kind_of(part), name] += times
    return explained, reasons.total()


# -- I5 -------------------------------------------------------------------------------------------


def judge_rate(evidence: Evidence) -> dict[str, int]:
    """Count the calls above the rate: what of which window -> how many; slots and arrivals."""
    slots: dict[str, list[float]] = defaultdict(list)
    for one in evidence.facts.attempts:
        if one.outcome != "unsent":
            account = evidence.facts.requests[one.request_id].account
            slots[account].append(one.slot_ns / 1e9)
    for event in evidence.facts.events:
        if event.type == "calls.intent" and event.payload.get("probe"):
            slots[event.payload["account"]].append(int(event.payload["slot"]) / 1e9)
    arrivals = [call.at_s for call in evidence.calls]
    found: dict[str, int] = {}
    for window in WINDOWS_S:
        for account, times in slots.items():
            rate = evidence.rates[account]
            if (over := worst_window(times, window) - int(rate * window + 1e-6)) > 0:
                found[f"too many slots of {account} in {window:g} s at {rate:g}/s."] = over
        rate = sum(evidence.rates.values())
        if (over := worst_window(arrivals, window - NOTED_LATE_S) - int(rate * window + 1e-6)) > 0:
            found[f"too many arrived in {window:g} s at {rate:g}/s."] = over
    return found


# -- I6 -------------------------------------------------------------------------------------------


def _calls_without_intent(evidence: Evidence) -> Iterator[str]:
    """Each call that arrived has an attempt of its own that was claimed before."""
    claimed: dict[object, list[int]] = defaultdict(list)
    for one in evidence.facts.attempts:
        if one.outcome == "unsent":
            continue
        claimed[one.call].append(one.claimed_us)
        if one.chunk_id is not None:
            part = evidence.facts.chunks[one.chunk_id]
            named = part.ids or (str(evidence.facts.requests[one.request_id].subject),)
            claimed[evidence.facts.kind_of(part), frozenset(named)].append(one.claimed_us)
    arrived: dict[object, list[float]] = defaultdict(list)
    for call in evidence.calls:
        arrived[call.endpoint].append(call.at_s)
        if call.endpoint == "delete" and call.ids:
            arrived[call.kind, frozenset(call.ids)].append(call.at_s)
    for what, times in arrived.items():
        intents = sorted(claimed[what])
        if len(times) > len(intents):
            yield f"{len(times)} calls ({_name(what)}) arrived, and {len(intents)} were claimed."
        for at_s, claimed_us in zip(sorted(times), intents, strict=False):
            if at_s * 1e6 + evidence.wall_offset_us + _CLOCKS_APART_US < claimed_us:
                yield f"A call ({_name(what)}) arrived before it was claimed."


def _name(what: object) -> str:
    return what if isinstance(what, str) else "one set of ids"
