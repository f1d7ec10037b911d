"""One MemOS client per project, opened inside the process's loop."""

from collections.abc import Mapping

from ledger.errors import SettingsError
from ledger.settings import Settings
from ledger.states import Kind
from ledger.tasks import Task
from memos_api import (
    AgentPurge,
    Call,
    DeleteOrder,
    MemoryBatch,
    MemosClient,
    UserPurge,
    delete_call,
    list_call,
    read_call,
)

__all__ = ["open_clients", "prepare"]


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


def prepare(task: Task) -> Call:
    """Encode a task's call before its slot.

    A batch becomes a `MemoryBatch`, which cannot be empty, and only kind `user` or `agent` becomes
    a purge: no list of ids, whatever it holds, can turn into one.

    Raises:
        ValueError: The task names nothing.
    """
    if task.call == "read":
        return read_call(task.ids[0])
    if task.call == "list":
        if task.kind is Kind.AGENT:
            return list_call(agent_id=task.subject, page=task.page)
        return list_call(user_id=task.subject, page=task.page)
    return delete_call(_order(task))


def _order(task: Task) -> DeleteOrder:
    if task.kind is Kind.MEMORIES:
        return MemoryBatch(memory_ids=task.ids)
    subject = task.subject or ""
    if task.kind is Kind.AGENT:
        return AgentPurge(agent_id=subject)
    return UserPurge(user_id=subject)
