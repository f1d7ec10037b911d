"""Reads a file through without writing anything: what it orders, and how much of it is faulty."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from ledger.errors import RequestError
from ledger.fold import Folder
from ledger.settings import Settings
from ledger.states import Kind
from producer.files.jsonl import RequestRow
from producer.files.layout import Layout
from producer.files.orders import Row, accepted, check_together, read_orders, read_rows
from producer.files.rejects import Reject, RejectLog
from producer.files.source import Source
from producer.files.terms import Terms, TermsCheck
from producer.plan import Totals, plan

__all__ = ["CheckReport", "MostErrors", "check_file", "count_lines", "nothing_to_do"]

_LIMIT: Final = re.compile(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_WHOLE: Final = 100
_IDS_AT_ONCE: Final = 4_096


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a file would become.

    Attributes:
        requests: Requests.
        requested: Ids in them, repeats included; a purge counts one.
        unique: Ids after folding repeats; a purge counts one.
        rejected: Lines that would not be taken.
        totals: Calls, time, lanes, the first due date, and what would be on hold.
        lines: Lines or rows that would be taken.
    """

    requests: int
    requested: int
    unique: int
    rejected: int
    totals: Totals
    lines: int


@dataclass(frozen=True, kw_only=True)
class MostErrors:
    """How many lines may be faulty: a number, or a percentage of all that hold something."""

    number: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `100` or `2.5%`.

        Raises:
            RequestError: It is neither.
        """
        found = _LIMIT.fullmatch(text)
        if found is None or (found[2] and float(found[2]) > _WHOLE):
            msg = "--max-errors is a number of lines such as 100, or a percentage such as 2.5%."
            raise RequestError(msg)
        if found[1]:
            return cls(number=int(found[1]))
        return cls(percent=float(found[2]))

    def exceeded(self, *, rejected: int, taken: int) -> bool:
        """Whether that is more than may be."""
        if self.percent is None:
            return rejected > (self.number or 0)
        return rejected * _WHOLE > self.percent * (rejected + taken)


def check_file(
    source: Source,
    *,
    layout: Layout,
    terms: Terms,
    settings: Settings,
    rejects: RejectLog,
    recent_purges: Callable[[str], int] = lambda _project: 0,
    memories: int | None = None,
) -> CheckReport:
    """Tell what the file would become; what only the ledger knows, such as a used key, is left out.

    Args:
        source: The file.
        layout: How to read it.
        terms: What holds for all of it.
        settings: Projects, and ids a call.
        rejects: Takes the lines that would not be taken.
        recent_purges: Gives a project's purges of the last hour.
        memories: How many memories the user of the whole file has, when that is known.

    Raises:
        RequestError: As `import_file`.
    """
    lines = repeats = requests = requested = unique = 0
    totals = Totals()
    purges: Counter[str] = Counter()

    def counted(rows: Iterable[Row]) -> Iterator[Row]:
        nonlocal lines
        for row in rows:
            lines += _lines_of(row)
            yield row

    def repeat() -> None:
        nonlocal repeats
        repeats += 1

    rows = counted(accepted(_checked(source, layout, terms, settings), rejects))
    for asked in read_orders(rows, layout=layout, terms=terms, on_repeat=repeat):
        requests += 1
        project, own, recent = asked.terms["project"], 1, 0
        if asked.kind is Kind.MEMORIES:
            folder, own = Folder(), 0
            ids = iter(asked.ids)
            while some := list(islice(ids, _IDS_AT_ONCE)):
                requested += len(some)
                own += len(folder.fresh(some))
        else:
            requested += 1
            if project not in purges:
                purges[project] = recent_purges(project)
            recent = purges[project]
            purges[project] += 1
        unique += own
        one = plan(
            settings,
            kind=asked.kind,
            subject_named=asked.subject is not None,
            unique=own,
            terms=asked.terms,
            recent_purges=recent,
            memories=memories,
        )
        totals.add(one)
    if requests == 0:
        raise nothing_to_do(source, rejects)
    return CheckReport(
        requests=requests,
        requested=requested + repeats,
        unique=unique,
        rejected=rejects.count,
        totals=totals,
        lines=lines,
    )


def count_lines(
    source: Source, *, layout: Layout, terms: Terms, settings: Settings, rejects: RejectLog
) -> int:
    """Count the lines or rows that would be taken; as `check_file`, and faster.

    Raises:
        RequestError: As `check_file`, but for a file that holds nothing.
    """
    rows = accepted(_checked(source, layout, terms, settings), rejects)
    return sum(map(_lines_of, rows))


def nothing_to_do(source: Source, rejects: RejectLog) -> RequestError:
    """Say that a file orders nothing."""
    if rejects.count == 0:
        return RequestError(f"{source.name} holds nothing to delete; nothing was handed in.")
    first = rejects.first[0]
    return RequestError(
        f"None of the {source.noun.lower()}s of {source.name} could be taken "
        f"({rejects.count:,} rejected); nothing was handed in. {source.noun} {first.line}: "
        f"{first.reason}"
    )


def _lines_of(row: Row) -> int:
    return len(row) if isinstance(row, list) else 1


def _checked(
    source: Source, layout: Layout, terms: Terms, settings: Settings
) -> Iterator[Row | Reject]:
    check_together(layout, terms)
    check = TermsCheck(settings)
    given = terms.shared()
    if (fault := check.fault(given)) is not None:
        raise fault
    for row in read_rows(source, layout):
        if isinstance(row, RequestRow):
            fault = check.fault({**given, **row.terms}) if row.terms else None
            if fault is not None:
                yield Reject(line=row.line, reason=str(fault))
                continue
        yield row
