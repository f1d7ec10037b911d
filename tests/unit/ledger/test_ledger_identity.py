"""Ids of requests and events."""

import uuid
from types import SimpleNamespace

from ledger import identity


def test_an_id_is_a_uuid_of_version_seven_that_tells_its_moment(monkeypatch):
    monkeypatch.setattr(
        "ledger.clock.time", SimpleNamespace(time_ns=lambda: 1_795_389_563_674_999_999)
    )
    made = uuid.UUID(identity.new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_795_389_563_674
    assert str(made) == str(uuid.UUID(str(made)))


def test_ids_of_one_moment_differ_and_later_ones_stand_behind(monkeypatch):
    now = [1_795_389_563_674_000_000]
    monkeypatch.setattr("ledger.clock.time", SimpleNamespace(time_ns=lambda: now[0]))
    first = {identity.new_id() for _ in range(10_000)}
    now[0] += 1_000_000
    assert len(first) == 10_000
    assert max(first) < identity.new_id()
