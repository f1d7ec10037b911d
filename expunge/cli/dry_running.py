"""What `--dry-run` says: the calls that would be made, what would hold them, and what is there now.

Nothing is handed in. Where a user or agent is named, MemOS is asked how much of them is there: list
calls that each take a slot of the account and have a record, like those of `expunge doctor`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from expunge.cli.output import Output, show_one
from expunge.cli.values import memory_ids, operator
from expunge.tables import counted

if TYPE_CHECKING:
    from expunge.census import Census
    from ledger import Kind, Ledger
    from ledger.settings import Settings
    from producer.files import CheckReport

__all__ = ["Sights", "looking", "show_file", "try_request"]


class Sights:
    """What a dry run can see of the ledger and of MemOS, as far as both are there."""

    def __init__(self, settings: "Settings", ledger: "Ledger | None", fault: str | None) -> None:
        """Use `looking`."""
        self._settings = settings
        self._ledger = ledger
        self._fault = fault
        self.uncounted = False

    def recent_purges(self, project: str) -> int:
        """Count the purges of the last hour; 0 when nobody can tell or nobody needs to know."""
        ceilings = self._settings.ceilings_of(self._settings.projects[project])
        if ceilings.max_purges_per_hour is None:
            return 0
        if self._ledger is None:
            self.uncounted = True
            return 0
        return self._ledger.recent_purges(project)

    def census(self, project: str, kind: "Kind", subject: str | None) -> "Census | None":
        """Look how many memories somebody has; None without a name.

        Raises:
            RequestError: The name is none.
            LedgerError: The ledger went away meanwhile.
        """
        from expunge.census import Census, take_census  # noqa: PLC0415
        from ledger.ids import check_subject  # noqa: PLC0415

        if subject is None:
            return None
        check_subject(subject, where="The user or agent id")
        where = self._settings.projects[project]
        if where.api_key is None:
            return Census(memories=None, note="no_key")
        if self._ledger is None:
            return Census(memories=None, note=self._fault)
        # A ledger that no worker has seen knows no project, and gives no slot.
        self._ledger.register(
            projects={one.name: one.account for one in self._settings.projects.values()},
            rates={one.name: one.rate_per_second for one in self._settings.accounts.values()},
        )
        return take_census(self._ledger, where, kind=kind, subject=subject, principal=operator())


@contextmanager
def looking(settings: "Settings") -> Iterator[Sights]:
    """Open the ledger when there is one; a dry run goes without, too."""
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.errors import KeysError, LedgerError  # noqa: PLC0415

    ledger, fault = None, None
    try:
        if _is_there(settings.ledger_url):
            ledger = Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir))
        else:
            fault = "no_ledger"
    except KeysError:
        fault = "keys_missing"
    except LedgerError:
        fault = "ledger_unreachable"
    try:
        yield Sights(settings, ledger, fault)
    finally:
        if ledger is not None:
            ledger.close()


def _is_there(url: str) -> bool:
    """Say whether there is a SQLite file: opening it would make one."""
    from pathlib import Path  # noqa: PLC0415

    from sqlalchemy.engine import make_url  # noqa: PLC0415

    parsed = make_url(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").exists()


def try_request(  # noqa: PLR0917 - one caller
    settings: "Settings",
    terms: Mapping[str, Any],
    kind: "Kind",
    ids: Sequence[str] | None,
    subject: str | None,
    output: Output,
) -> None:
    """Check one request as far as that goes, and say what it would be.

    Args:
        settings: Projects, accounts, ceilings.
        terms: As the `Producer` takes them.
        kind: What is ordered.
        ids: As given, with files and `-`; None for a purge.
        subject: Whom a purge is about, or whose the ids are.
        output: The format.

    Raises:
        RequestError: It would not be taken.
    """
    from producer.files.terms import TermsCheck  # noqa: PLC0415
    from producer.plan import plan  # noqa: PLC0415

    if (fault := TermsCheck(settings).fault(terms)) is not None:
        raise fault
    requested, unique = (1, 1) if ids is None else _counted(ids)
    project = terms["project"]
    with looking(settings) as sights:
        recent = sights.recent_purges(project) if ids is None else 0
        census = sights.census(project, kind, subject)
    one = plan(
        settings,
        kind=kind,
        subject_named=subject is not None,
        unique=unique,
        terms=terms,
        recent_purges=recent,
        memories=None if census is None or census.note else census.memories,
    )
    record = {
        "id": None,
        "dry_run": True,
        "project": project,
        "kind": one.kind.value,
        "lane": one.lane.value,
        "verify": one.verify,
        "due_at": None if one.due_at is None else one.due_at.isoformat(timespec="seconds"),
        "requested": requested,
        "unique": unique,
        "calls": one.deletes,
        "readback_calls_least": one.reads_least,
        "readback_calls_most": one.reads_most,
        "seconds": _rounded(one.seconds),
        "hold_reason": one.hold_reason,
        **_memories(census),
    }
    shown = {name.replace("_", " "): value for name, value in record.items()}
    show_one(record, output=output, shown=shown | {"id": "none: nothing was handed in"})
    _tell(sights, census, held=1 if one.hold_reason else 0)


def show_file(
    report: "CheckReport", sights: Sights, census: "Census | None", *, output: Output
) -> None:
    """Say what a file would become."""
    totals = report.totals
    due = totals.first_due
    record: dict[str, Any] = {
        "dry_run": True,
        "requests": report.requests,
        "requested": report.requested,
        "unique": report.unique,
        "rejected": report.rejected,
        "calls": totals.deletes,
        "readback_calls_least": totals.reads_least,
        "readback_calls_most": totals.reads_most,
        "seconds": _rounded(totals.seconds),
        "lanes": {lane.value: number for lane, number in totals.lanes.items()},
        "first_due_at": None if due is None else due.isoformat(timespec="seconds"),
        "held": totals.held,
        **_memories(census),
    }
    if output is not Output.ID:  # there are none
        lanes = ", ".join(f"{number:,} {lane}" for lane, number in record["lanes"].items())
        shown = {name.replace("_", " "): value for name, value in record.items()}
        show_one(record, output=output, shown=shown | {"lanes": lanes})
    _tell(sights, census, held=totals.held)


def _counted(ids: Sequence[str]) -> tuple[int, int]:
    """Check the ids; gives how many, and how many after folding."""
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.fold import Folder  # noqa: PLC0415
    from ledger.ids import check_memory_id  # noqa: PLC0415

    folder, requested, unique = Folder(), 0, 0
    for requested, each in enumerate(memory_ids(ids), start=1):
        check_memory_id(each, where=f"Memory id number {requested}")
        unique += folder.is_new(each)
    if requested == 0:
        msg = "The batch holds no memory id; an empty batch is refused."
        raise RequestError(msg)
    return requested, unique


def _memories(census: "Census | None") -> dict[str, Any]:
    if census is None:
        return {"memories_now": None, "memories_note": "not_looked"}
    return {"memories_now": census.memories, "memories_note": census.note}


def _tell(sights: Sights, census: "Census | None", *, held: int) -> None:
    """Say on stderr what a number alone does not."""
    if held:
        typer.echo(
            f"{counted(held, 'request')} would be on hold, until `expunge release`.", err=True
        )
    if sights.uncounted:
        typer.echo(
            "The ledger could not be asked, so the purges of the last hour were not counted.",
            err=True,
        )
    if census is None or census.note is None:
        return
    if census.memories is None:
        text = f"How many memories are there now could not be looked up ({census.note})."
    else:
        text = f"There may be more memories than were seen ({census.note})."
    typer.echo(text, err=True)


def _rounded(seconds: float) -> float:
    return round(seconds, 1 if seconds > 1 else 3)
