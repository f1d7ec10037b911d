"""Fixtures for servers: one of each for the session, more for tests that break theirs."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer

__all__ = [
    "ledger_url",
    "make_valkey",
    "postgres",
    "postgres_url",
    "valkey",
    "valkey_server",
]


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The session's valkey; ask for `valkey` in a test, which hands it out empty."""
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """The session's valkey, running and empty; a test that stops one takes `make_valkey`."""
    if valkey_server.pid is None:
        valkey_server.start()
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server


@pytest.fixture
def make_valkey() -> Iterator[Callable[[], ValkeyServer]]:
    """A function that starts another valkey, for this test alone to stop, freeze and kill."""
    servers: list[ValkeyServer] = []

    def start() -> ValkeyServer:
        servers.append(ValkeyServer())
        return servers[-1].start()

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's PostgreSQL cluster."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty PostgreSQL database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """The URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.db"
        path.touch()
        return f"sqlite:///{path}"
    return request.getfixturevalue("postgres_url")
