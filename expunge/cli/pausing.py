"""`expunge pause`, `resume` and `pauses`: stopping projects and accounts, and what stands still.

What stands still is also said on stderr by `status` and `list`, so that nobody waits unknowingly.
"""

from typing import TYPE_CHECKING, Any, Final

import typer

from expunge.cli.output import Output, OutputOption, show_many

if TYPE_CHECKING:
    from ledger import Ledger, Pause

__all__ = ["add_to", "pause_record", "warn_of_pauses"]

_COLUMNS: Final = {
    "scope": "scope",
    "name": "name",
    "kind": "kind",
    "reason": "reason",
    "since": "since",
    "seconds left": "seconds_left",
}
_Project = typer.Argument(None, metavar="[PROJECT]", help="The project, as `list` names it.")
_Account = typer.Option(None, metavar="NAME", help="Instead: an account, so all its projects.")


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("pauses")(pauses)


def pause(
    project: str | None = _Project,
    account: str | None = _Account,
    reason: str = typer.Option(help="A short code, which is shown while it stands still."),
) -> None:
    """Let nothing more of a project or account be sent, until somebody resumes it.

    Requests are still taken in. Calls under way are ended as ever; none departs later than 100 ms
    after this command has ended.
    """
    from expunge.cli.values import operator  # noqa: PLC0415

    scope, name = _chosen(project, account)
    with _opened() as ledger:
        stop = ledger.pause_project if scope == "Project" else ledger.pause_account
        changed = stop(name, principal=operator(), reason=reason)
    text = "is paused; nothing of it is sent" if changed else "was paused already"
    typer.echo(f"{scope} {name} {text}.", err=True)


def resume(
    project: str | None = _Project,
    account: str | None = _Account,
    reason: str | None = typer.Option(None, help="A short code for the record; no free text."),
) -> None:
    """Let a project or account go on, whoever or whatever stopped it.

    A project goes on from a refused key or address, too, and from an outage of MemOS; an account
    from a rest after answers such as 429, too.
    """
    from expunge.cli.values import operator  # noqa: PLC0415

    scope, name = _chosen(project, account)
    with _opened() as ledger:
        go = ledger.resume_project if scope == "Project" else ledger.resume_account
        changed = go(name, principal=operator(), reason=reason)
    typer.echo(f"{scope} {name} {'goes on' if changed else 'was not stopped'}.", err=True)


def pauses(output: OutputOption = Output.TABLE) -> None:
    """List what stands still, and why."""
    with _opened() as ledger:
        found = ledger.pauses()
    show_many([pause_record(one) for one in found], output=output, columns=_COLUMNS)
    if not found:
        typer.echo("Nothing stands still.", err=True)


def pause_record(one: "Pause") -> dict[str, Any]:
    """Give a pause's JSON; its id is scope and name."""
    left = one.seconds_left
    return {
        "id": f"{one.scope}/{one.name}",
        "scope": one.scope,
        "name": one.name,
        "kind": one.kind,
        "reason": one.reason,
        "since": None if one.since is None else one.since.isoformat(),
        "seconds_left": None if left is None else round(left, 1),
    }


def warn_of_pauses(ledger: "Ledger") -> None:
    """Say on stderr what stands still, so that nobody waits for it unknowingly."""
    for one in ledger.pauses():
        typer.echo(_sentence(one), err=True)


def _sentence(one: "Pause") -> str:
    what = f"{one.scope.capitalize()} {one.name}"
    left = f"{one.seconds_left or 0:.0f} s"
    if one.kind == "rests":
        return f"{what} rests for {left} more ({one.reason})."
    if one.kind == "broken":
        return f"{what} cannot reach MemOS ({one.reason}); it is tried again in {left}."
    option = "--account " if one.scope == "account" else ""
    return (
        f"{what} is paused ({one.reason}): nothing of it is sent. When the cause is mended "
        f"(docs/operations.md), run: expunge resume {option}{one.name}"
    )


def _chosen(project: str | None, account: str | None) -> tuple[str, str]:
    from ledger.errors import RequestError  # noqa: PLC0415

    if project is not None and account is None:
        return "Project", project
    if account is not None and project is None:
        return "Account", account
    msg = "Give either a project or --account NAME; `expunge config show` lists both."
    raise RequestError(msg)


def _opened() -> "Ledger":
    """Open the ledger, with what the settings name in it: it may be new."""
    from ledger import Keys, Ledger  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    ledger = Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir))
    try:
        ledger.register(
            projects={one.name: one.account for one in settings.projects.values()},
            rates={one.name: one.rate_per_second for one in settings.accounts.values()},
        )
    except BaseException:
        ledger.close()
        raise
    return ledger
