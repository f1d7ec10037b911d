"""`expunge healthcheck`: how a process of this machine is, for containers without curl."""

from enum import StrEnum
from pathlib import Path

import typer

__all__ = ["add_to"]

_LIMIT_S = 5.0
_OK = 200


class _Process(StrEnum):
    WORKER = "worker"
    BRIDGE = "bridge"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("healthcheck")(healthcheck)


def healthcheck(
    process: _Process = typer.Argument(help="What listens there."),
    ready: bool = typer.Option(False, "--ready", help="Ask whether it is ready, not just alive."),
    port: int | None = typer.Option(
        None, min=0, max=65_535, envvar="EXPUNGE_HEALTH_PORT", help="Its health port."
    ),
    address: str | None = typer.Option(
        None, envvar="EXPUNGE_HEALTH_ADDRESS", help="Its address; default 127.0.0.1."
    ),
    config: Path | None = typer.Option(
        None, envvar="EXPUNGE_CONFIG", help="The config file, for port and address."
    ),
) -> None:
    """Ask a worker or bridge how it is; exit code 0 when it is well, 1 when not."""
    # Not `ledger.settings`: reading them all takes longer than the whole check may.
    from expunge.exit_codes import EXIT_UNEXPECTED  # noqa: PLC0415
    from expunge.health.asking import ask  # noqa: PLC0415

    if config is not None and (port is None or address is None):
        found = _from_file(config)
        port = found.get("health_port") if port is None else port  # type: ignore[assignment]
        address = address or found.get("health_address")  # type: ignore[assignment]
    if not port:
        from ledger.errors import SettingsError  # noqa: PLC0415

        msg = (
            "No health port is known. Set EXPUNGE_HEALTH_PORT, for the process and for this "
            "command, to the same free port (0 takes any, which nobody here can know)."
        )
        raise SettingsError(msg)
    wanted = "ready" if ready else "alive"
    path = "/readyz" if ready else "/livez"
    try:
        reply = ask(address or "127.0.0.1", port, path=path, limit_s=_LIMIT_S)
    except (OSError, ValueError) as error:
        typer.echo(f"{process.value} is not {wanted}: no answer ({type(error).__name__})")
        raise typer.Exit(EXIT_UNEXPECTED) from None
    if reply.process != process.value:
        typer.echo(f"{process.value} is not {wanted}: another process answers at its port")
        raise typer.Exit(EXIT_UNEXPECTED)
    if reply.status != _OK:
        why = ", ".join(reply.failed) or f"HTTP {reply.status}"
        typer.echo(f"{process.value} is not {wanted}: {why}")
        raise typer.Exit(EXIT_UNEXPECTED)
    typer.echo(f"{process.value} is {wanted}")


def _from_file(path: Path) -> dict[str, object]:
    """Read the config file as far as it goes; the process itself says what is wrong with it."""
    import tomllib  # noqa: PLC0415

    try:
        return tomllib.loads(path.expanduser().read_text())
    except (OSError, ValueError):
        return {}
