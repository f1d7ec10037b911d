"""From errors to exit codes: the message on stderr, a traceback only when asked for."""

import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from expunge.exit_codes import EXIT_INTERRUPTED, EXIT_UNEXPECTED

__all__ = ["FailingGroup"]


class FailingGroup(TyperGroup):
    """The root command; every error of a command below ends here."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as typer has it
        """Run the command, and turn its error into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(
                "Interrupted. Requests that were handed in whole are carried out all the same; a "
                "list of ids that was still being read is not. `expunge list` shows them; under "
                "the same idempotency key, handing in again goes on from there.",
                err=True,
            )
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of our stdout had enough; typer ends quietly
        except Exception as error:
            if type(error).__module__.startswith("typer"):
                raise  # usage errors and exits; typer knows what to do with them
            # Here and not above: importing the ledger takes longer than all of `--help`.
            from ledger.errors import ExpungeError  # noqa: PLC0415

            if ctx.params.get("debug"):
                _show_trace(error)
            if isinstance(error, ExpungeError):
                typer.echo(f"Error: {error}", err=True)
                raise typer.Exit(error.exit_code) from None
            # Not its text: what the error of a library says may hold ids or keys.
            typer.echo(
                f"Error: unexpected {type(error).__name__}. Run it again as `expunge --debug …` to "
                "see where; what was recorded before is kept.",
                err=True,
            )
            raise typer.Exit(EXIT_UNEXPECTED) from None


def _show_trace(error: BaseException) -> None:
    """Show where it was, of it and of what led to it; never the text, which may hold ids."""
    chain: list[BaseException] = []
    last: BaseException | None = error
    while last is not None and last not in chain:
        chain.append(last)
        last = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
    for one in reversed(chain):
        typer.echo("Traceback (most recent call last):", err=True)
        typer.echo("".join(traceback.format_tb(one.__traceback__)), err=True, nl=False)
        typer.echo(type(one).__name__, err=True)
