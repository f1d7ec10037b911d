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
                "Interrupted. What was recorded is carried out all the same; `expunge list` shows "
                "it, and handing in again under the same idempotency key goes on from there.",
                err=True,
            )
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of our stdout had enough; typer ends quietly
        except Exception as error:
            # Here and not above: importing the ledger takes longer than all of `--help`.
            from ledger.errors import ExpungeError  # noqa: PLC0415

            if type(error).__module__.startswith("typer"):
                raise  # usage errors and exits; typer knows what to do with them
            if ctx.params.get("debug"):
                traceback.print_exc()
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
