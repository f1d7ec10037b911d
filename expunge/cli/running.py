"""`expunge worker` and `expunge simulator`: what runs until it is told to end."""

import typer

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("worker")(worker)
    app.command(
        "simulator",
        # All options are the simulator's own.
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "help_option_names": [],
        },
    )(simulator)


def worker() -> None:
    """Carry out what the ledger holds, until SIGTERM."""
    from ledger.errors import SettingsError  # noqa: PLC0415
    from ledger.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    for project in settings.projects.values():
        if project.key_fault is not None:
            raise SettingsError(project.key_fault)
    without = sorted(name for name, one in settings.projects.items() if one.api_key is None)
    if len(without) == len(settings.projects):
        msg = (
            "No project has an API key, so no call can be made. Set MEMOS_API_KEY, put it into a "
            "secret file `memos_api_key`, or name an api_key_file in the config file."
        )
        raise SettingsError(msg)
    if without:
        names = ", ".join(without)
        typer.echo(f"No API key for: {names}. Requests of these wait.", err=True)
    from expunge.health.listening import open_listener  # noqa: PLC0415
    from ledger.tracing import require_traces  # noqa: PLC0415
    from worker import supervisor  # noqa: PLC0415

    require_traces(settings)
    listener = open_listener(settings)
    steward = "expunge.health.steward_main"
    raise typer.Exit(supervisor.run(settings, steward=steward, listener=listener))


def simulator(ctx: typer.Context) -> None:
    """Serve a simulated MemOS Cloud on 127.0.0.1; see `expunge simulator --help`."""
    from memos_api.simulator.__main__ import main  # noqa: PLC0415

    raise typer.Exit(main(ctx.args))
