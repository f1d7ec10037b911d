"""`expunge completion`: the script that lets a shell complete commands and options."""

from enum import StrEnum

import typer

__all__ = ["add_to", "prepare"]


class Shell(StrEnum):
    """Shells that it is known for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completion")(completion)


def completion(shell: Shell = typer.Argument(help="Whose script.")) -> None:
    """Print the script that completes commands and options in a shell.

    For bash: `source <(expunge completion bash)`, in `~/.bashrc` for every shell to come.
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415

    typer.echo(
        get_completion_script(
            prog_name="expunge", complete_var="_EXPUNGE_COMPLETE", shell=shell.value
        )
    )


def prepare() -> None:
    """Answer the questions of that script; typer does so by itself only with options of its own."""
    from typer._completion_classes import completion_init  # noqa: PLC0415

    completion_init()
