"""The tree of commands."""

import resource
import sys
from importlib.metadata import PackageNotFoundError, version

import typer

from expunge.cli import (
    auditing,
    bridging,
    certifying,
    checking,
    completing,
    configuring,
    controlling,
    dead,
    demonstrating,
    developing,
    doctoring,
    finding,
    importing,
    keeping,
    looking,
    pausing,
    reapplying,
    running,
    sealing,
    submitting,
    watching,
)
from expunge.cli.failing import FailingGroup

__all__ = ["app", "main"]

app = typer.Typer(
    name="expunge",
    cls=FailingGroup,
    no_args_is_help=True,
    add_completion=False,
    # Locals hold ids.
    pretty_exceptions_show_locals=False,
    pretty_exceptions_enable=False,
    help="Carries out deletions in MemOS, reads back what is left, and keeps the record of it.",
    epilog="Exit codes: 0 done, 1 unexpected, 2 bad input, 3 some rejected or failed, 5 not found, "
    "6 conflict, 7 wait ran out, 8 ledger unreachable, 9 verification failed, 10 refused, "
    "130 interrupted.",
)


def _show_version(value: bool) -> None:
    if value:
        try:
            typer.echo(version("expunge"))
        except PackageNotFoundError:
            typer.echo("not installed: run from the source tree")
        raise typer.Exit


@app.callback()
def root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and end."
    ),
) -> None:
    """Take the options that stand before the command; `--debug` is read by FailingGroup."""
    del debug


for part in (
    submitting,
    importing,
    bridging,
    looking,
    watching,
    controlling,
    dead,
    pausing,
    running,
    sealing,
    auditing,
    certifying,
    finding,
    reapplying,
    demonstrating,
    developing,
    doctoring,
    checking,
    configuring,
    keeping,
    completing,
):
    part.add_to(app)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # A core file would hold keys and names; processes that this one starts inherit it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    completing.prepare()
    if sys.argv[1:2] == ["import"]:
        importing.give_way()
    app(prog_name="expunge")
