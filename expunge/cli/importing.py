"""`expunge import`: a file of ids, of users or agents to purge, or of whole requests."""

import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from expunge.cli.dry_running import looking, show_file
from expunge.cli.import_output import Receipts, tell_rejects
from expunge.cli.output import Output, OutputOption
from expunge.cli.values import moment, one_of, one_value
from expunge.exit_codes import EXIT_INTERRUPTED, EXIT_PARTLY, EXIT_REFUSED
from expunge.progress import bars

if TYPE_CHECKING:
    from expunge.progress import Bars
    from ledger.settings import Settings
    from producer import Producer
    from producer.files import Layout, MostErrors, RejectLog, Run, Source, Terms

__all__ = ["add_to", "give_way"]

# Of the kernel's: a tenth of a core that others want, and all that they leave.
_NICE: Final = 10
# What reads goes on beside what records (`ledger.behind`), and would keep Python's lock for 5 ms
# each time the database has answered.
_SWITCH_S: Final = 0.0005


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def give_way() -> None:
    """Let this process's threads take turns often, and calls of workers on the same machine first.

    Both for good.
    """
    sys.setswitchinterval(_SWITCH_S)
    with suppress(OSError):
        os.nice(_NICE)


def import_(  # noqa: PLR0917 - typer makes options of them, which are named
    file: str = typer.Argument(help="The file, or `-` for stdin."),
    format_: str | None = typer.Option(
        None,
        "--format",
        help="plain (an id a line), csv, tsv, parquet or jsonl (a request a line) "
        "[default: by the suffix].",
    ),
    kind: str | None = typer.Option(
        None,
        help="What a line or row orders: memories, or the purge of a user or agent; not for jsonl "
        "[default: memories].",
    ),
    map_: list[str] | None = typer.Option(
        None,
        "--map",
        help="memory_id=COLUMN, user_id=COLUMN or agent_id=COLUMN [default: the field's name].",
    ),
    delimiter: str | None = typer.Option(None, help="Between CSV fields [default: a comma]."),
    rejects: Path | None = typer.Option(
        None, help="A new file for lines not taken: line number and reason, as JSON lines."
    ),
    max_errors: str | None = typer.Option(
        None,
        help="Check the whole file first, and hand nothing in when more lines cannot be taken: a "
        "number, or a percentage such as 2.5%.",
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Go on with an import that broke off; repeats nothing."
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Check the whole file, and say which calls it would make; needs no ledger.",
    ),
    user: str | None = typer.Option(None, help="Whose the ids of the whole file are, if known."),
    project: str = typer.Option("default", help="A project of the settings."),
    lane: str | None = typer.Option(None, help="erasure or bulk."),
    verify: str | None = typer.Option(None, help="Read back: full, sample:N or none."),
    reason: str | None = typer.Option(None, help="A short code such as gdpr-17; no free text."),
    idempotency_key: str | None = typer.Option(
        None, help="Handing the same file in again under it records nothing twice."
    ),
    submitted_at: str | None = typer.Option(None, help="When the person asked, with time zone."),
    due: str | None = typer.Option(None, help="When it must be done; a moment with time zone."),
    not_before: str | None = typer.Option(None, help="No call before this moment."),
    include_later: bool = typer.Option(
        False,
        "--include-later",
        help="Of purges: what appears before the read-back goes too, else it is counted and left.",
    ),
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand in a file: one request, one a user (mapped user_id, --kind), or one a line (JSONL).

    Lines that cannot be taken are rejected and counted, the others are handed in, and the exit
    code is 3. A fault of the whole file (no such column, not UTF-8) is 2, and nothing is handed in.
    When it breaks off, the same command with --resume goes on from there.
    """
    from ledger.settings import load_settings  # noqa: PLC0415
    from ledger.states import Kind, Lane  # noqa: PLC0415
    from producer import files  # noqa: PLC0415

    terms = files.Terms(
        project=project,
        user_id=None if user is None else one_value(user, option="--user"),
        lane=one_of(Lane, lane, option="--lane"),
        verify=verify,
        reason=reason,
        idempotency_key=idempotency_key,
        submitted_at=moment(submitted_at, option="--submitted-at"),
        due_at=moment(due, option="--due"),
        not_before=moment(not_before, option="--not-before"),
        include_later=include_later,
    )
    columns = files.parse_map(map_ or [])
    chosen = one_of(files.Format, format_, option="--format") or files.format_by_suffix(file)
    ordered = one_of(Kind, kind, option="--kind")
    most = None if max_errors is None else files.MostErrors.parse(max_errors)
    settings = load_settings()
    with ExitStack() as opened:
        source = opened.enter_context(
            files.open_source(file, binary=chosen is files.Format.PARQUET)
        )
        layout = files.Layout(
            format=chosen or files.guess_format(file, source),
            kind=ordered,
            columns=columns,
            delimiter=delimiter,
        )
        files.check_together(layout, terms)
        log = opened.enter_context(files.RejectLog(rejects, replace=resume))
        task = _Task(
            source=source,
            layout=layout,
            terms=terms,
            settings=settings,
            log=log,
            rejects=rejects,
            shown=opened.enter_context(bars(unit="B")),
            receipts=Receipts(output),
        )
        if dry_run:
            task.try_out(most)
            return
        task.check(most)
        task.hand_in(resume=resume)


class _Task:
    """One import with all that it needs."""

    def __init__(
        self,
        *,
        source: "Source",
        layout: "Layout",
        terms: "Terms",
        settings: "Settings",
        log: "RejectLog",
        rejects: Path | None,
        shown: "Bars",
        receipts: Receipts,
    ) -> None:
        self._source = source
        self._layout = layout
        self._terms = terms
        self._settings = settings
        self._log = log
        self._rejects = rejects
        self._shown = shown
        self._receipts = receipts

    def try_out(self, most: "MostErrors | None") -> None:
        """Tell what would be handed in."""
        from ledger.states import Kind  # noqa: PLC0415
        from producer.files import check_file  # noqa: PLC0415

        user, census = self._terms.user_id, None
        self._show("Checking")
        with looking(self._settings) as sights:
            if user is not None and self._terms.project in self._settings.projects:
                census = sights.census(self._terms.project, Kind.USER, user)
            report = check_file(
                self._source,
                layout=self._layout,
                terms=self._terms,
                settings=self._settings,
                rejects=self._log,
                recent_purges=sights.recent_purges,
                memories=None if census is None or census.note else census.memories,
            )
        self._refuse(most, report.lines)
        show_file(report, sights, census, output=self._receipts.output)
        self._end()

    def check(self, most: "MostErrors | None") -> None:
        """Stop before anything is written when too many lines are faulty."""
        from producer.files import count_lines  # noqa: PLC0415

        if most is None:
            return
        self._show("Checking")
        taken = count_lines(
            self._source,
            layout=self._layout,
            terms=self._terms,
            settings=self._settings,
            rejects=self._log,
        )
        self._refuse(most, taken)
        self._log.start_over()

    def hand_in(self, *, resume: bool) -> None:
        """Hand everything in, or go on with what broke off."""
        from producer import Producer  # noqa: PLC0415
        from producer.files import ImportReport, import_file  # noqa: PLC0415

        with Producer.from_settings(self._settings) as producer:
            run = self._find_run(resume=resume)
            if run is not None and run.progress.done and not _holds(producer, run):
                _say(
                    "It is not certain that this ledger holds what the import had recorded; "
                    "everything is handed in again, and what it holds is not recorded twice."
                )
                run.start_over()
            if run is not None and run.progress.complete:
                _say(
                    f"{self._source.name} was handed in completely ({_moment(run)}), "
                    "nothing to do. Without --resume it is handed in as a new import."
                )
                self._receipts.close(ImportReport.of(run.progress))
                return
            self._show("Reading")
            try:
                report = import_file(
                    producer,
                    self._source,
                    layout=self._layout,
                    terms=self._terms,
                    rejects=self._log,
                    on_receipt=self._receipts.take,
                    run=run,
                )
            except KeyboardInterrupt:
                if run is None:
                    raise
                _say(
                    "Interrupted. What was recorded is carried out all the same; the same command "
                    "with --resume goes on from there and repeats nothing."
                )
                raise typer.Exit(EXIT_INTERRUPTED) from None
        self._receipts.close(report)
        self._end()

    def _find_run(self, *, resume: bool) -> "Run | None":
        """Begin a run, or find the one to go on with; None without a journal."""
        from ledger.errors import RequestError  # noqa: PLC0415
        from ledger.keys import Keys  # noqa: PLC0415
        from ledger.macs import Macs  # noqa: PLC0415
        from producer.files import Journal, import_digest  # noqa: PLC0415

        if self._terms.idempotency_key is not None:
            return None  # the key does it all
        journal = Journal(self._settings.home)
        journal.clear()
        digest = import_digest(
            self._source,
            layout=self._layout,
            terms=self._terms,
            macs=Macs(Keys.load(self._settings.keys_dir)),
        )
        known = None
        try:
            known = journal.find(digest)
            if known is not None and resume:
                if not known.progress.complete:
                    _say(f"Going on with the import of {_moment(known)}.")
                return known
        except RequestError:
            if resume:
                raise
        if known is not None and not known.progress.complete:
            # Before the new one is begun: who stops it now has one import as before.
            _say(
                f"An import of the same file with the same options, of {_moment(known)}, broke off "
                f"or still runs ({known.progress.requests:,} requests noted). This is a new one "
                "and records everything again; --resume would have gone on."
            )
        try:
            return journal.begin(digest)
        except RequestError as error:
            if resume:
                raise
            _say(f"{error} The import goes on; should it break off, --resume cannot go on with it.")
            return None

    def _show(self, title: str) -> None:
        self._source.on_progress = self._shown.add(title, self._source.size)

    def _refuse(self, most: "MostErrors | None", taken: int) -> None:
        rejected = self._log.count
        if most is None or not most.exceeded(rejected=rejected, taken=taken):
            return
        tell_rejects(self._log, self._rejects, noun=self._source.noun)
        _say(
            f"{rejected:,} of {rejected + taken:,} are more than --max-errors allows; nothing was "
            "handed in."
        )
        raise typer.Exit(EXIT_REFUSED)

    def _end(self) -> None:
        tell_rejects(self._log, self._rejects, noun=self._source.noun)
        if self._log.count:
            raise typer.Exit(EXIT_PARTLY)


def _holds(producer: "Producer", run: "Run") -> bool:
    """Whether this ledger is known to hold what the run noted as handed in."""
    from ledger.errors import NotFoundError  # noqa: PLC0415

    if run.progress.last is None:
        return False
    try:
        producer.status(run.progress.last)
    except NotFoundError:
        return False
    return True


def _moment(run: "Run") -> str:
    return f"{run.began_at:%Y-%m-%d %H:%M} UTC"


def _say(text: str) -> None:
    typer.echo(text, err=True)
