"""`expunge cancel`, `hold` and `release`: changing one's mind about one request or many."""

from typing import TYPE_CHECKING

import typer

from expunge.cli.bulk import (
    Assent,
    Choice,
    ConfirmOption,
    DryRunOption,
    FilterOption,
    IdsArgument,
    Verb,
    YesOption,
    run,
)
from expunge.cli.output import Output, OutputOption

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.settings import Settings

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("cancel")(cancel)
    app.command("hold")(hold)
    app.command("release")(release)


def cancel(  # noqa: PLR0917 - typer makes options of them, which are named
    ids: list[str] | None = IdsArgument,
    filter_: str | None = FilterOption,
    reason: str = typer.Option(help="A short code for the record; no free text."),
    yes: bool = YesOption,
    confirm: int | None = ConfirmOption,
    dry_run: bool = DryRunOption,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send nothing more of requests, for good.

    What was sent already stays sent and is read back as ever; the rest is counted as cancelled.
    """
    from ledger import ReadbackPolicy  # noqa: PLC0415

    def act(ledger: "Ledger", settings: "Settings", request_id: str, principal: str) -> bool:
        policy = ReadbackPolicy.of(settings)
        return ledger.cancel(request_id, principal=principal, reason=reason, policy=policy)

    verb = Verb(name="cancel", done="cancelled", still_possible="final:false", act=act)
    run(verb, Choice(ids or [], filter_), Assent(yes=yes, count=confirm), dry_run, output)


def hold(  # noqa: PLR0917 - typer makes options of them, which are named
    ids: list[str] | None = IdsArgument,
    filter_: str | None = FilterOption,
    reason: str = typer.Option(help="A short code, which the request shows while it is held."),
    yes: bool = YesOption,
    confirm: int | None = ConfirmOption,
    dry_run: bool = DryRunOption,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let nothing more of requests be sent until they are released; read-backs wait, too."""

    def act(ledger: "Ledger", _settings: "Settings", request_id: str, principal: str) -> bool:
        return ledger.hold(request_id, principal=principal, reason=reason)

    possible = "final:false held:false cancelling:false"
    verb = Verb(name="hold", done="held", still_possible=possible, act=act)
    run(verb, Choice(ids or [], filter_), Assent(yes=yes, count=confirm), dry_run, output)


def release(  # noqa: PLR0917 - typer makes options of them, which are named
    ids: list[str] | None = IdsArgument,
    filter_: str | None = FilterOption,
    reason: str | None = typer.Option(None, help="A short code for the record; no free text."),
    yes: bool = YesOption,
    confirm: int | None = ConfirmOption,
    dry_run: bool = DryRunOption,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let held requests go on; what waited is due at once."""

    def act(ledger: "Ledger", _settings: "Settings", request_id: str, principal: str) -> bool:
        return ledger.release(request_id, principal=principal, reason=reason)

    verb = Verb(name="release", done="released", still_possible="held:true", act=act)
    run(verb, Choice(ids or [], filter_), Assent(yes=yes, count=confirm), dry_run, output)
