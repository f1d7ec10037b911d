"""What every test gets: a clean environment, and the servers of `tests.support`."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.fault_table import FaultTable, fault_report
from tests.support.lies_table import lies_lines
from tests.support.missing import NoSkips, requires_all
from tests.support.servers import (
    ledger_url,
    make_valkey,
    postgres,
    postgres_url,
    valkey,
    valkey_server,
)

__all__ = [
    "fault_report",
    "hermetic_environment",
    "ledger_url",
    "make_valkey",
    "postgres",
    "postgres_url",
    "valkey",
    "valkey_server",
]

# No deadline: on a busy machine a slow example is no finding. No database: a run leaves no files.
settings.register_profile("house", deadline=None, database=None, print_blob=True)
settings.load_profile("house")

# PG*: libpq reads its own. The last three make rich and typer write colours into pipes.
_FOREIGN = (
    "EXPUNGE_",
    "MEMOS_",
    "PG",
    "CELERY_",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",
    "CLICOLOR_FORCE",
)


def pytest_addoption(parser):
    parser.addoption(
        "--fault-table",
        metavar="FILE",
        help="print a table of the faults that were shown, and write it to FILE as JSON",
    )


def pytest_configure(config):
    if file := config.getoption("--fault-table"):
        config.pluginmanager.register(FaultTable(Path(file)))
    if requires_all(os.environ):
        config.pluginmanager.register(NoSkips())


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    lines = list(lies_lines([*stats.get("passed", ()), *stats.get("failed", ())]))
    if lines:
        terminalreporter.section("what MemOS said, and what was made of it")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def hermetic_environment(monkeypatch, tmp_path):
    """Take away the machine's settings, and give the ledger a home that goes with the test."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXPUNGE_HOME", str(tmp_path))
