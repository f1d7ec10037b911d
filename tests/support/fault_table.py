"""The table at the end of `make faults`: which fault was shown how often, and what came of it."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import Verdict

__all__ = ["FaultReport", "FaultTable", "Row", "fault_report", "fault_rows"]

_KEY = "fault_report"
_NUMBER = re.compile(r"F([1-9][0-9]{0,2})")
_COLUMNS = ("fault", "test", "runs", "lost", "unordered", "doubled", "excess", "heals", "result")
_WIDEST = 70

FaultReport = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: a fault and a test that shows it.

    Attributes:
        fault: Its number in the catalogue, such as `F13`.
        test: The test's function.
        runs: How often it ran, with other parameters or seeds.
        lost: Of all runs, as the oracle counts; None when no oracle was asked.
        unordered: As `lost`.
        doubled: As `lost`.
        excess: Calls above the rate in the worst window of all runs.
        heals_s: The longest time from the end of the fault to the end of the work; None where that
            was not measured.
        result: `passed` or `failed`.
    """

    fault: str
    test: str
    runs: int
    lost: int | None
    unordered: int | None
    doubled: int | None
    excess: int | None
    heals_s: float | None
    result: str


@pytest.fixture
def fault_report(request: pytest.FixtureRequest) -> Iterator[FaultReport]:
    """A function that adds what the oracle found, and how long healing took, to the table.

    Call it as `fault_report(verdict, heals_s=…, runs=…)`; each is optional.
    """
    notes: list[dict[str, Any]] = []

    def report(
        verdict: Verdict | None = None, *, heals_s: float | None = None, runs: int = 1
    ) -> None:
        counts = ("lost", "unordered", "doubled", "excess")
        found = {name: None if verdict is None else getattr(verdict, name) for name in counts}
        notes.append({**found, "heals_s": heals_s, "runs": runs})

    yield report
    request.node.user_properties += [(_KEY, note) for note in notes]


class FaultTable:
    """Pytest plugin that collects the rows, prints them, and writes them down.

    Args:
        file: For the rows, as JSON.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._faults: dict[str, list[str]] = {}
        self._reports: dict[str, list[Any]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which test shows which faults."""
        for item in session.items:
            numbers = [one for mark in item.iter_markers("fault") for one in mark.args]
            if wrong := [one for one in numbers if not _NUMBER.fullmatch(str(one))]:
                message = f"{item.nodeid} is marked with {wrong}; the catalogue's are F1, F2, …"
                raise pytest.UsageError(message)
            self._faults[item.nodeid] = numbers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what came of each phase."""
        self._reports.setdefault(report.nodeid, []).append(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print and write the table."""
        rows = fault_rows(self._faults, self._reports)
        terminalreporter.section("faults shown")
        for line in lines_of(rows):
            terminalreporter.write_line(line)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def fault_rows(faults: dict[str, list[str]], reports: dict[str, list[Any]]) -> list[Row]:
    """Make the rows: one for each fault and test function, its parameters taken together."""
    cases: dict[tuple[str, str], list[list[Any]]] = {}
    for node, phases in reports.items():
        for fault in faults.get(node, ()):
            cases.setdefault((fault, node.partition("[")[0]), []).append(phases)
    rows = [_row(fault, test, runs) for (fault, test), runs in cases.items()]
    return sorted(rows, key=lambda row: (int(row.fault[1:]), row.test))


def _row(fault: str, test: str, cases: Sequence[Sequence[Any]]) -> Row:
    last = [phases[-1] for phases in cases]
    notes = [note for report in last for key, note in report.user_properties if key == _KEY]
    good = all(phase.outcome == "passed" for phases in cases for phase in phases)
    return Row(
        fault=fault,
        test=test.rpartition("::")[2],
        runs=sum(note["runs"] for note in notes) or len(cases),
        lost=_put_together(sum, notes, "lost"),
        unordered=_put_together(sum, notes, "unordered"),
        doubled=_put_together(sum, notes, "doubled"),
        excess=_put_together(max, notes, "excess"),
        heals_s=_put_together(max, notes, "heals_s"),
        result="passed" if good else "failed",
    )


def _put_together(how: Callable[..., Any], notes: Sequence[dict[str, Any]], name: str) -> Any:
    known = [note[name] for note in notes if note[name] is not None]
    return how(known) if known else None


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Give the table as lines of text; a dash stands for what was not asked."""
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    shown = {row.fault for row in rows}
    failed = sum(row.result != "passed" for row in rows)
    return [*texts, f"{len(shown)} faults shown by {len(rows)} tests, {failed} of them failed."]


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.lost, row.unordered, row.doubled, row.excess)
    return (
        row.fault,
        row.test[:_WIDEST],
        str(row.runs),
        *("–" if count is None else str(count) for count in counts),  # noqa: RUF001 - a dash
        "–" if row.heals_s is None else f"{row.heals_s:.1f} s",  # noqa: RUF001 - a dash
        row.result,
    )
