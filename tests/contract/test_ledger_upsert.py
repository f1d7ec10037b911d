"""The first of several writers wins, and each is told whether it was the first."""

from ledger.schema import heartbeat
from ledger.upsert import insert_missing


def test_the_first_writer_is_told_so_and_the_second_changes_nothing(world):
    row = {"process": "p", "role": "drain", "beat_ns": 1, "beat_at": 1}

    def insert(release):
        return world.database.write(
            lambda conn: insert_missing(conn, heartbeat, **row, release=release)
        )

    assert insert("1") is True
    assert insert("2") is False
    assert [one.release for one in world.rows(heartbeat)] == ["1"]
