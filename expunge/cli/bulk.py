"""What commands on many requests share: choosing them, counting, asking, telling the outcome."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.output import Output, show_many
from expunge.cli.views import find_views, show_views
from expunge.exit_codes import EXIT_PARTLY, EXIT_REFUSED
from expunge.tables import counted

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.settings import Settings

__all__ = [
    "Assent",
    "Choice",
    "ConfirmOption",
    "DryRunOption",
    "FilterOption",
    "IdsArgument",
    "Verb",
    "YesOption",
    "run",
]

# More than so many are not done by a mere "yes": their number has to be typed.
MOST_BY_YES: Final = 1_000
_COLUMNS: Final = {"id": "id", "outcome": "outcome", "state": "state"}

IdsArgument: Final = typer.Argument(
    None, metavar="[ID]...", help="From receipts or `list`; also `@FILE` or `-`, one a line."
)
FilterOption: Final = typer.Option(
    None, "--filter", help="Instead of ids: all that match, as `list` would show them."
)
YesOption: Final = typer.Option(False, "--yes", help="Do not ask; for more than one request.")
ConfirmOption: Final = typer.Option(
    None, "--confirm", metavar="COUNT", help="How many, typed out; for more than 1,000 requests."
)
DryRunOption: Final = typer.Option(False, "--dry-run", help="Only list what would be touched.")


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What is done, to which requests it can be done at all, and how.

    Attributes:
        name: As in "Really cancel 3 requests?", and `done` as in "3 requests cancelled".
        still_possible: Filter of the requests that it can be done to.
        act: Does it to one request, for the operator named last; False: it was so already.
        widest: Filter for whoever means all of them.
        impossible: What keeps it from being done to the others, after their number.
        preview: Prints what would be touched; None prints the requests.
    """

    name: str
    done: str
    still_possible: str
    act: Callable[["Ledger", "Settings", str, str], bool]
    widest: str = "final:false"
    impossible: str = "have ended or are so already"
    preview: Callable[["Ledger", "Settings", Sequence[str], Output], None] | None = None


@dataclass(frozen=True)
class Choice:
    """Ids as typed, or a filter."""

    ids: Sequence[str]
    filter: str | None


@dataclass(frozen=True, kw_only=True)
class Assent:
    """What was said beforehand to the question whether it shall be done to so many."""

    yes: bool
    count: int | None


def run(verb: Verb, choice: Choice, assent: Assent, dry_run: bool, output: Output) -> None:
    """Do it to the requests that were chosen, once whoever runs it said so.

    Raises:
        RequestError: Neither ids nor a filter were given, or both, or the filter is empty.
        Exit: It was not confirmed, or it could not be done to some of them.
    """
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    wanted = _ids_of(choice)
    settings = load_settings()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        if wanted is None:
            wanted = _matching(ledger, choice.filter or "", verb)
        if dry_run:
            _preview(ledger, settings, verb, wanted, output)
            return
        if choice.filter is not None or len(wanted) > 1:
            _ask(verb, len(wanted), assent)
        if choice.filter is None and len(wanted) == 1:
            # Alone it may fail with its own message and exit code.
            changed = verb.act(ledger, settings, wanted[0], operator())
            record = _record(ledger, wanted[0], "done" if changed else "unchanged")
            show_many([record], output=output, columns=_COLUMNS)
            return
        failed = _do_all(ledger, settings, verb, wanted, output)
    typer.echo(
        f"{len(wanted) - failed:,} of {counted(len(wanted), 'request')} {verb.done}.", err=True
    )
    if failed:
        raise typer.Exit(EXIT_PARTLY)


def _ids_of(choice: Choice) -> list[str] | None:
    """Give the ids that were named; None for a filter."""
    from expunge.cli.values import ids_from  # noqa: PLC0415
    from ledger.errors import RequestError  # noqa: PLC0415

    if bool(choice.ids) == (choice.filter is not None):
        msg = "Give either request ids (also `@FILE` or `-`) or --filter."
        raise RequestError(msg)
    return ids_from(choice.ids) if choice.ids else None


def _matching(ledger: "Ledger", text: str, verb: Verb) -> list[str]:
    from ledger.errors import RequestError  # noqa: PLC0415
    from ledger.filters import Filter, parse_filter  # noqa: PLC0415

    asked = parse_filter(text)
    if not asked.words:
        # Often a variable of a script that was not set.
        msg = f"The filter is empty; to take all that can be {verb.done}, say `{verb.widest}`."
        raise RequestError(msg)
    narrowed = Filter(asked.words + parse_filter(verb.still_possible).words)
    return ledger.find_requests(filter=narrowed)


def _ask(verb: Verb, count: int, assent: Assent) -> None:
    """Go on only when whoever runs it means so many.

    Raises:
        Exit: It was not confirmed; nothing was done.
    """
    what = f"{verb.name} {counted(count, 'request')}"
    many = count > MOST_BY_YES
    if count in (0, assent.count):
        return
    if assent.count is not None:
        refusal = f"This would {what}, not {assent.count:,}; nothing was done."
    elif assent.yes and not many:
        return
    elif not sys.stdin.isatty():
        how = f"--confirm {count}" if many else "--yes"
        refusal = f"This would {what}. To do it, say {how}; to see which, --dry-run."
    elif many:
        typed = typer.prompt(f"To {what}, type their number", default="", err=True)
        if typed.strip().replace(",", "") == str(count):
            return
        refusal = "That is not their number; nothing was done."
    elif typer.confirm(f"Really {what}?", err=True):
        return
    else:
        refusal = "Nothing was done."
    typer.echo(refusal, err=True)
    raise typer.Exit(EXIT_REFUSED)


def _preview(
    ledger: "Ledger", settings: "Settings", verb: Verb, wanted: Sequence[str], output: Output
) -> None:
    from ledger.filters import MOST_VALUES, parse_filter  # noqa: PLC0415

    views = find_views(ledger, wanted)
    found = [view.id for view in views]
    if verb.preview is None:
        show_views(views, output=output)
    else:
        verb.preview(ledger, settings, found, output)
    able = 0
    for first in range(0, len(found), MOST_VALUES):
        ids = ",".join(found[first : first + MOST_VALUES])
        able += ledger.count_requests(filter=parse_filter(f"id:{ids} {verb.still_possible}"))
    missing = len(wanted) - len(views)
    notes = [f"Would {verb.name} {counted(able, 'request')}; nothing was done."]
    if other := len(views) - able:
        notes.append(f"{other:,} {verb.impossible}.")
    if missing:
        notes.append(f"{missing:,} are not in this ledger.")
    typer.echo(" ".join(notes), err=True)
    if missing or other:
        raise typer.Exit(EXIT_PARTLY)


def _do_all(
    ledger: "Ledger", settings: "Settings", verb: Verb, wanted: Sequence[str], output: Output
) -> int:
    """Do it to each, show what came of it, and give the number that it could not be done to."""
    from expunge.cli.values import operator  # noqa: PLC0415
    from ledger.errors import ConflictError, NotFoundError, TamperedError  # noqa: PLC0415

    principal = operator()
    failed = 0
    records = []
    try:
        for request_id in wanted:
            try:
                changed = verb.act(ledger, settings, request_id, principal)
                outcome = "done" if changed else "unchanged"
            except NotFoundError:
                outcome = "not_found"
            except ConflictError:
                outcome = "conflict"
            except TamperedError:
                outcome = "tampered"
            failed += outcome in ("not_found", "conflict", "tampered")
            record = _record(ledger, request_id, outcome)
            if output is Output.JSONL:
                typer.echo(json.dumps(record))
            elif output is Output.ID:
                if outcome in ("done", "unchanged"):
                    typer.echo(request_id)
            else:
                records.append(record)
    finally:
        # Also when the ledger went away in between: what was done is told.
        if output in (Output.TABLE, Output.JSON):
            show_many(records, output=output, columns=_COLUMNS)
    return failed


def _record(ledger: "Ledger", request_id: str, outcome: str) -> dict[str, Any]:
    state = None if outcome == "not_found" else ledger.status(request_id).state.value
    return {"id": request_id, "outcome": outcome, "state": state}
