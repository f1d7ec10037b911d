"""One MemOS client per project, opened inside the process's loop."""

import secrets
from collections.abc import Mapping

from ledger import projects
from ledger.errors import SettingsError
from ledger.settings import Settings
from ledger.states import Kind
from ledger.tasks import Task
from memos_api import (
    AgentPurge,
    Call,
    Cloud,
    DeleteOrder,
    Dialect,
    MemoryBatch,
    MemosClient,
    Owner,
    SelfHosted,
    UserPurge,
)
from worker.walk import begun, owner_of

__all__ = ["dialect_of", "open_clients", "prepare"]


def dialect_of(project: projects.Project) -> Dialect:
    """Give the dialect that a project's settings say."""
    if project.dialect is projects.Dialect.SELF_HOSTED:
        return SelfHosted(
            cubes=project.cubes,
            searches=project.search is not False,
            missing_is_empty=project.missing_is_empty,
        )
    return Cloud(searches=bool(project.search), missing_is_empty=project.missing_is_empty)


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


def prepare(task: Task, dialect: Dialect) -> Call:
    """Encode a task's call before its slot.

    A batch becomes a `MemoryBatch`, which cannot be empty, and only kind `user` or `agent` becomes
    a purge: no list of ids, whatever it holds, can turn into one.

    Raises:
        ValueError: The task names nothing.
    """
    if task.call == "read":
        return dialect.read(task.ids[0])
    if task.control:
        nobody: Owner = ("user", f"expunge-control-{secrets.token_hex(16)}")
        return dialect.look(nobody, leg=dialect.legs(None)[0], page=1)
    if task.call == "list":
        walk = begun(task, dialect)
        return dialect.look(owner_of(task), leg=walk.legs[0], page=walk.page)
    return dialect.delete(_order(task))


def _order(task: Task) -> DeleteOrder:
    if task.kind is Kind.MEMORIES or task.leftover:
        return MemoryBatch(memory_ids=task.ids)
    subject = task.subject or ""
    if task.kind is Kind.AGENT:
        return AgentPurge(agent_id=subject)
    return UserPurge(user_id=subject)
