"""`column IN (…)` with the whole list as one value, on both ledgers."""

import pytest
from sqlalchemy import select, text, update

from ledger.among import among
from ledger.schema import chunk, request

_CHUNKS = select(chunk.c.no).where(among(chunk.c.id, "ids")).order_by(chunk.c.no)
_REQUESTS = select(request.c.id).where(among(request.c.id, "some"), request.c.held == 0)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_rows_are_found_by_a_list_of_any_length(world, n):
    receipt = world.submit([f"m{i}" for i in range(7)], chunk_size=1)
    ids = [row.id for row in world.chunks(receipt.id)][:n]
    found = world.database.read(lambda conn: conn.execute(_CHUNKS, {"ids": ids}).scalars().all())
    assert found == list(range(n))


def test_text_is_found_as_it_is_and_nothing_else(world):
    one, other = world.submit(["m"]), world.submit(["m"])
    names = [one.id, "'); DROP TABLE chunk; --", 'a "quoted" one', "ünï", other.id.upper()]
    found = world.database.read(
        lambda conn: conn.execute(_REQUESTS, {"some": names}).scalars().all()
    )
    assert found == [one.id]


def test_it_stands_beside_other_values_in_an_update(world):
    receipt = world.submit([f"m{i}" for i in range(4)], chunk_size=1)
    ids = [row.id for row in world.chunks(receipt.id)]
    change = update(chunk).where(among(chunk.c.id, "row_ids")).values(burnt=chunk.c.burnt + 2)
    world.database.write(lambda conn: conn.execute(change, {"row_ids": ids[1:3]}))
    assert [row.burnt for row in world.chunks(receipt.id)] == [0, 2, 2, 0]


def test_it_is_looked_up_by_key(world):
    world.submit([f"m{i}" for i in range(4)], chunk_size=1)

    def plan(conn):
        dialect = conn.dialect
        how = "EXPLAIN QUERY PLAN " if world.database.is_sqlite else "EXPLAIN "
        if not world.database.is_sqlite:
            conn.execute(text("SET LOCAL enable_seqscan = off"))
        compiled = _CHUNKS.compile(dialect=dialect)
        given = dialect.type_descriptor(compiled.binds["ids"].type)
        value = given.process_bind_param([1, 2], dialect)
        statement = how + compiled.string
        return "\n".join(
            str(row)
            for row in conn.exec_driver_sql(
                statement, (value,) if world.database.is_sqlite else {"ids": value}
            )
        )

    shown = world.database.read(plan)
    assert ("USING INTEGER PRIMARY KEY" if world.database.is_sqlite else "chunk_pkey") in shown
