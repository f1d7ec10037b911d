"""The ledger against itself: one end for everything (I4), and a record for every call (I6)."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.support.ledger_facts import Attempt, LedgerFacts

__all__ = ["replay"]

_UNDER_WAY = frozenset({"due", "leased"})


def replay(facts: LedgerFacts) -> Iterator[str]:
    """Give a sentence for each thing that does not fit; to be asked when nothing is under way."""
    yield from _one_end_each(facts)
    yield from _each_place_once(facts)
    yield from _intents(facts)
    yield from _outcomes(facts)


def _one_end_each(facts: LedgerFacts) -> Iterator[str]:
    ends: dict[tuple[str | None, int], list[str]] = defaultdict(list)
    for event in facts.events:
        if event.type == "request.finished":
            ends[event.request_id, event.payload["generation"]].append(event.payload["result"])
    for key, results in ends.items():
        if len(results) > 1:
            yield f"Request {key[0]}, generation {key[1]}, ended {len(results)} times: {results}."
    for request in facts.requests.values():
        recorded = ends.get((request.id, request.generation), [])
        # What was never accepted (a stream given up) ends without an event.
        expected = [request.result] if request.ended and request.id in facts.accepted else []
        if recorded != expected:
            yield f"Request {request.id} is {request.result}, and its events say {recorded}."
        under_way = sum(one.state in _UNDER_WAY for one in facts.parts[request.id])
        if request.ended and (request.pending or under_way):
            yield f"Request {request.id} has ended with {under_way} chunks under way."


def _each_place_once(facts: LedgerFacts) -> Iterator[str]:
    for request_id in facts.accepted & facts.requests.keys():
        request = facts.requests[request_id]
        # What a purge left behind is no part of what was ordered, and has no place in it.
        ordered = [one for one in facts.parts[request.id] if facts.kind_of(one) == request.kind]
        found = Counter(place for one in ordered for place in one.places)
        if found != Counter(range(request.unique)):
            twice = sum(1 for times in found.values() if times > 1)
            missing = len(set(range(request.unique)) - set(found))
            yield f"Request {request.id}: {missing} places are in no chunk, {twice} in several."


def _intents(facts: LedgerFacts) -> Iterator[str]:
    claimed: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for one in facts.attempts:
        claimed[one.claim, facts.requests[one.request_id].account].append(one)
    intended: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for event in facts.events:
        if event.type == "calls.intent" and not event.payload.get("probe"):
            key = (event.payload["claim"], event.payload["account"])
            intended[key].append((event.payload["calls"], event.payload["digest"]))
    for key in claimed.keys() | intended.keys():
        expected = [(len(claimed[key]), _digest(claimed[key]))] if key in claimed else []
        if intended[key] != expected:
            yield f"Claim {key[0]}: its intent is not that of its {len(claimed[key])} attempts."


def _digest(attempts: list[Attempt]) -> str:
    digest = hashlib.sha256()
    for one in sorted(attempts, key=lambda one: one.place):
        line = [one.place, one.call, one.request_id, one.generation, one.chunk_id]
        line += [one.readback_id, one.fence, str(one.slot_ns)]
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False)
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def _outcomes(facts: LedgerFacts) -> Iterator[str]:
    for one in facts.attempts:
        if one.outcome is None:
            yield f"Claim {one.claim}, place {one.place}: the call has no outcome."
    settled = 0
    for event in facts.events:
        if event.type == "calls.outcome" and not event.payload.get("probe"):
            settled += event.payload["calls"] - event.payload["stale"]
        elif event.type == "leases.lapsed":
            settled += event.payload["calls"]
    if settled != len(facts.attempts):
        yield f"{len(facts.attempts)} calls were claimed, and events settle {settled} of them."
