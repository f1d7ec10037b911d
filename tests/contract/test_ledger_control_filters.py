"""What a filter finds on each database is what it says in plain Python."""

import random
from collections import defaultdict

from hypothesis import given, settings
from sqlalchemy import insert

from ledger.clock import to_wall
from ledger.filters import parse_filter
from ledger.schema import chunk, request
from ledger.states import (
    FINAL_REQUEST_STATES,
    Certainty,
    ChunkState,
    Kind,
    Lane,
    RequestState,
    Result,
)
from tests.support.filters import DEAD_REASONS, FILTERS, NOW, PROJECTS, REASONS, matches

DAY_US = 86_400_000_000
NOW_US = to_wall(NOW)


def any_request(number, chance):
    """A row as no run would bring about that quickly, but that every rule of the schema allows."""
    when = lambda: NOW_US + chance.randrange(-5, 6) * DAY_US  # noqa: E731
    state = chance.choice(list(RequestState))
    final = state in FINAL_REQUEST_STATES
    return {
        "id": f"r{number}",
        "project": chance.choice(PROJECTS),
        "account": "acme",
        "kind": chance.choice(list(Kind)),
        "lane": chance.choice(list(Lane)),
        "state": state,
        "verify": "full",
        "verify_now": "full",
        "result": chance.choice(list(Result)) if final else None,
        "certainty": chance.choice([None, *Certainty]) if final else None,
        "reason": chance.choice([None, *REASONS]),
        "principal": "op",
        "fingerprint": "f",
        "salt": b"s",
        "header_mac": b"h",
        "closing_mac": b"c",
        "chunk_size": 10,
        "held": chance.randrange(2),
        "hold_reason": None,
        "cancelling": chance.randrange(2),
        "urgency": 0,
        "created_at": when(),
        "touched_at": when(),
        "submitted_at": when(),
        "due_at": chance.choice([None, when()]),
        "not_before": None,
        "finished_at": when() if final else None,
    }


def any_chunks(row, chance):
    """Some chunks of it, dead letters among them."""
    return [
        {
            "request_id": row["id"],
            "generation": 1,
            "no": no,
            "account": row["account"],
            "project": row["project"],
            "lane": row["lane"],
            "urgency": 0,
            "tag": 0,
            "state": chance.choice([ChunkState.DEAD, ChunkState.DEAD, ChunkState.DONE]),
            "ids": "[]",
            "n": 1,
            "first": no,
            "mac": b"m",
            "last_reason": chance.choice([None, *DEAD_REASONS]),
            "discarded": chance.randrange(2),
        }
        for no in range(chance.randrange(3))
    ]


def test_a_filter_finds_what_it_says_on_every_database(worlds):
    chance = random.Random(3)
    with worlds.open() as world:
        world.clock.wall_ns = NOW_US * 1_000
        rows = [any_request(number, chance) for number in range(40)]
        world.database.write(lambda conn: conn.execute(insert(request), rows))
        chunks = [one for row in rows for one in any_chunks(row, chance)]
        world.database.write(lambda conn: conn.execute(insert(chunk), chunks))
        dead = defaultdict(set)
        for one in chunks:
            if one["state"] == ChunkState.DEAD and not one["discarded"]:
                dead[one["request_id"]].add(one["last_reason"])
        everything = world.ledger.list_requests(limit=100)
        assert len(everything) == 40

        @settings(max_examples=150 if worlds.kind == "sqlite" else 60)
        @given(FILTERS)
        def agree(made):
            expected = [view.id for view in everything if matches(made, view, dead)]
            assert [view.id for view in world.ledger.list_requests(filter=made)] == expected
            assert world.ledger.find_requests(filter=made) == expected
            assert world.ledger.count_requests(filter=made) == len(expected)

        agree()


def test_all_ids_are_found_however_many_there_are(world, monkeypatch):
    monkeypatch.setattr("ledger.views._IDS_AT_ONCE", 3)
    ids = []
    for number in range(10):
        world.clock.tick(number % 3)  # some of one moment
        ids.append(world.submit([f"m{number}"]).id)
    found = world.ledger.find_requests(filter=parse_filter("state:open"))
    assert found == [view.id for view in world.ledger.list_requests(limit=100)]
    assert sorted(found) == sorted(ids)
