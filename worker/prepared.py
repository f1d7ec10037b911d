"""From what was claimed to the calls to make: encoded where the loop that makes them does not wait.

A clerk does it with the claim (`worker.clerk`), so that neither the ids nor the work of writing
them down come to the process that makes the calls; without one the drain does, before each slot.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ledger.states import Kind
from ledger.tasks import Claim, Task
from memos_api import AgentPurge, Call, DeleteOrder, Dialect, MemoryBatch, Owner, UserPurge
from worker.walk import begun, owner_of

__all__ = ["PreparedClaim", "prepare", "prepared"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PreparedClaim(Claim):
    """A claim with its calls.

    Attributes:
        calls: Of each task, in the tasks' order; None where it could not be prepared.
    """

    calls: tuple[Call | None, ...]


def prepared(claim: Claim, dialects: Mapping[str, Dialect]) -> PreparedClaim:
    """Prepare all calls of a claim; the tasks are given without the ids, which the calls have.

    Args:
        claim: As the ledger gave it.
        dialects: By project; of others nothing is prepared, and the tasks stay as they are.
    """
    calls = tuple(_call_of(task, dialects) for task in claim.tasks)
    tasks = tuple(
        task if call is None else task.without_ids()
        for task, call in zip(claim.tasks, calls, strict=True)
    )
    given = {field.name: getattr(claim, field.name) for field in fields(Claim)}
    return PreparedClaim(**(given | {"tasks": tasks, "calls": calls}))


def _call_of(task: Task, dialects: Mapping[str, Dialect]) -> Call | None:
    dialect = dialects.get(task.project)
    if dialect is None:
        return None
    try:
        return prepare(task, dialect)
    except Exception:  # noqa: BLE001 - of one task; the drain tries again, and says what is wrong
        return None


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
