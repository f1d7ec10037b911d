"""One MemOS client per project, opened inside the process's loop."""

from collections.abc import Mapping

from ledger import projects
from ledger.errors import SettingsError
from ledger.settings import Settings
from memos_api import Cloud, Dialect, MemosClient, SelfHosted

__all__ = ["dialect_of", "dialects_of", "open_clients"]


def dialect_of(project: projects.Project) -> Dialect:
    """Give the dialect that a project's settings say."""
    if project.dialect is projects.Dialect.SELF_HOSTED:
        return SelfHosted(
            cubes=project.cubes,
            searches=project.search is not False,
            missing_is_empty=project.missing_is_empty,
        )
    return Cloud(searches=bool(project.search), missing_is_empty=project.missing_is_empty)


def dialects_of(settings: Settings) -> dict[str, Dialect]:
    """Give the dialect of each project that calls can be made for: there is a key."""
    return {
        name: dialect_of(project)
        for name, project in settings.projects.items()
        if project.api_key is not None
    }


async def open_clients(settings: Settings, *, in_flight: int) -> Mapping[str, MemosClient]:
    """Open a client for each project that has a key, on the running event loop.

    Raises:
        SettingsError: No project has a key, so nothing could ever be sent.
    """
    clients = {
        name: MemosClient(
            base_url=project.base_url,
            api_key=project.api_key.get_secret_value(),
            deadline_s=settings.call_deadline_seconds,
            in_flight=in_flight,
            dialect=dialect_of(project),
        )
        for name, project in settings.projects.items()
        if project.api_key is not None
    }
    if not clients:
        msg = (
            "No project has an API key, so nothing can be sent; set MEMOS_API_KEY (or a secret "
            "file `memos_api_key`) for the project `default`."
        )
        raise SettingsError(msg)
    for client in clients.values():
        await client.__aenter__()
    return clients
