"""The simulator's control side under `/_simulator`: for tests and demos, without a key.

Only callers on the same machine are answered.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from memos_api.simulator.documents import utc
from memos_api.simulator.faults import Fault
from memos_api.simulator.limit import RateLimit
from memos_api.simulator.memory import CATEGORIES, DEFAULT_CUBE, Owner
from memos_api.simulator.state import Project, generate
from memos_api.simulator.wire import read_body, send_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from memos_api.simulator.wire import Receive, Scope, Send
    from memos_api.simulator.world import World

__all__ = ["control"]

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_JOURNAL_PAGE = 2_000


async def control(world: World, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one control request: POST with a JSON object."""
    body = await read_body(receive)
    name = scope["path"].removeprefix("/_simulator").strip("/")
    action = _ACTIONS.get(name)
    client = scope.get("client")
    if action is None or client is None or client[0] not in _LOOPBACK:
        await send_json(send, 404, {"error": f"Known are: {', '.join(sorted(_ACTIONS))}."})
        return
    try:
        request = json.loads(body or b"{}")
        answer = action(world, request)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        await send_json(send, 400, {"error": f"{type(error).__name__}: {error}"})
        return
    await send_json(send, 200, answer)


def _seed(world: World, request: dict[str, Any]) -> object:
    """Keep generated memories (users, memories each, seed) or given ones (ids, user_id)."""
    project = _project(world, request)
    category = CATEGORIES.index(request["category"]) if request.get("category") else None
    created_ms = request.get("created_ms")
    if created_ms is not None:
        utc(created_ms)  # it has to be a date, for answers give it as one
    cube = request.get("cube") or DEFAULT_CUBE
    if "ids" in request:
        owner: Owner = ("user", request["user_id"])
        if request.get("agent_id") is not None:
            owner = ("agent", request["agent_id"])
        project.add(request["ids"], owner, category=category, created_ms=created_ms, cube=cube)
        return {"users": {owner[1]: request["ids"]}}
    made: dict[str, list[str]] = {}
    for user, ids in generate(
        users=request.get("users", 1),
        memories=request.get("memories", 1),
        seed=request.get("seed", 0),
    ):
        project.add(ids, ("user", user), category=category, created_ms=created_ms, cube=cube)
        made[user] = ids
    return {"users": made}


def _faults(world: World, request: dict[str, Any]) -> object:
    """Put these faults in force instead of the present ones."""
    world.faults.replace([Fault.from_json(item) for item in request["faults"]])
    return {}


def _limit(world: World, request: dict[str, Any]) -> object:
    """Set the rate limit of every account; an empty request lifts it."""
    world.limit(RateLimit(**request))
    return {}


def _settings(world: World, request: dict[str, Any]) -> object:
    """Change what the documentation leaves open, and lies; answers the settings in force."""
    world.settings.change(request)
    return asdict(world.settings)


def _pass_time(world: World, request: dict[str, Any]) -> object:
    """Move the clock of delayed effects ahead."""
    world.clock.pass_time(request["seconds"])
    return {}


def _remaining(world: World, request: dict[str, Any]) -> object:
    """Count what is left, in all, of each user, and of the ids and users asked about.

    That is the truth, whatever lies are in force: archived memories are left, and deleted ones that
    are still shown are not. Vectors that outlived their memory are told apart.
    """
    project = _project(world, request)
    project.settle(world.clock.now())
    ids = request.get("ids")
    asked = frozenset(ids or ())
    users = request.get("users")
    counts = {
        name: len(held)
        for (kind, name), held in project.owners.items()
        if held and kind == "user" and users is None
    }
    if users is not None:
        counts = {name: len(project.of(("user", name))) for name in users}
    return {
        "total": sum(len(held) for held in project.owners.values()),
        "users": counts,
        "ids": [name for name in ids if project.alive(name)] if ids is not None else [],
        "vectors": [
            name
            for held in project.vectors.values()
            for name in held
            if ids is None or name in asked
        ],
    }


def _journal(world: World, request: dict[str, Any]) -> object:
    """Give a page of calls as rows, from sequence number `after` on."""
    first = request.get("after", 0)
    page = world.journal.records[first : first + _JOURNAL_PAGE]
    return {
        "calls": [record.to_row() for record in page],
        "total": len(world.journal.records),
    }


def _reset(world: World, _request: dict[str, Any]) -> object:
    """Forget memories, journal and faults."""
    world.reset()
    return {}


def _ready(_world: World, _request: dict[str, Any]) -> object:
    """Say that the simulator serves."""
    return {"ready": True}


def _project(world: World, request: dict[str, Any]) -> Project:
    key = request.get("api_key")
    return world.projects[key] if key is not None else next(iter(world.projects.values()))


_ACTIONS: dict[str, Callable[[World, dict[str, Any]], object]] = {
    "seed": _seed,
    "faults": _faults,
    "limit": _limit,
    "settings": _settings,
    "pass_time": _pass_time,
    "remaining": _remaining,
    "journal": _journal,
    "reset": _reset,
    "ready": _ready,
}
