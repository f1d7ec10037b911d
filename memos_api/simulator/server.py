"""The simulated server: routing, key, limit, faults, rules, answer, in this order."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_api.simulator.control import control
from memos_api.simulator.deleting import Course
from memos_api.simulator.faults import Fault, FaultKind
from memos_api.simulator.result import Result, refusal
from memos_api.simulator.routes import Route, find_route
from memos_api.simulator.self_hosted import failed, unhandled
from memos_api.simulator.wire import read_body, reset, send_badly, send_empty, send_json

if TYPE_CHECKING:
    from memos_api.simulator.deleting import Effect
    from memos_api.simulator.journal import CallRecord
    from memos_api.simulator.state import Project
    from memos_api.simulator.wire import Receive, Scope, Send
    from memos_api.simulator.world import World

__all__ = ["Simulator"]

_REFUSING = frozenset({FaultKind.HTTP_429, FaultKind.HTTP_5XX, FaultKind.CODE, FaultKind.QUOTA})
_MISSENT = frozenset(
    {
        FaultKind.SLOW_BODY,
        FaultKind.STALL,
        FaultKind.HTML,
        FaultKind.EMPTY,
        FaultKind.TRUNCATED,
    },
)
_RESETTING = frozenset({FaultKind.RESET_AFTER_APPLYING, FaultKind.RESET_THEN_APPLYING})
_LATE = frozenset({FaultKind.DELAYED_EFFECT, FaultKind.RESET_THEN_APPLYING})
_EFFECTS: dict[FaultKind, Effect] = {
    FaultKind.SUCCESS_WITHOUT_EFFECT: "none",
    FaultKind.HTML: "none",
    FaultKind.HALF_EFFECT: "half",
    FaultKind.WIDER_EFFECT: "wider",
}
_QUOTA = 40304
_RATE = 40300
_AS_HTTP = {40100: 401, 40103: 401, 40132: 401, 40306: 403, 40001: 404, 40307: 404, 40308: 404}
_SERVER_CODES = 50000
_HEALTH = {"status": "healthy", "service": "memos", "version": "2.0.33"}


@dataclass(slots=True, kw_only=True)
class _Request:
    """One request on its way through the steps."""

    scope: Scope
    send: Send
    route: Route
    record: CallRecord
    project: Project
    body: bytes
    fault: Fault | None = None


class Simulator:
    """The ASGI application."""

    def __init__(self, world: World) -> None:
        """Serve *world*."""
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arrived = time.monotonic()
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode("ascii")
        if path.startswith("/_simulator"):
            await control(self._world, scope, receive, send)
            return
        route = find_route(scope["method"], path)
        record = self._world.journal.arrived(route.endpoint, arrived)
        try:
            await self._answer(scope, receive, send, (route, record))
        finally:
            self._world.journal.answered(record)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, arrival: tuple[Route, CallRecord]
    ) -> None:
        world = self._world
        route, record = arrival
        body = await read_body(receive)
        if route.action == "health":
            # Whatever else is wrong, and never counted against a limit.
            record.status = 200
            await send_json(send, record.status, _HEALTH)
            return
        if route.action == "other":
            await self._not_known(send, *arrival)
            return
        project = self._project(scope, route, record)
        if isinstance(project, Result):
            await self._send(send, record, project)
            return
        limit = world.limits[project.account]
        wait_s = limit.admit(record.at_s)
        if wait_s > 0:
            record.fault = "rate"
            if limit.style == "40300":
                await self._send(send, record, refusal(_RATE))
            else:
                await _send_429(send, record, str(math.ceil(wait_s)) if limit.retry_after else None)
            return
        request = _Request(
            scope=scope, send=send, route=route, record=record, project=project, body=body
        )
        request.fault = world.faults.strike(record.endpoint)
        if request.fault is not None:
            record.fault = request.fault.kind.value
        if world.settings.latency_s or world.settings.jitter_s:
            jitter = world.settings.jitter_s * world.chance.random()
            await asyncio.sleep(world.settings.latency_s + jitter)
        await self._carry_out(request)

    async def _not_known(self, send: Send, route: Route, record: CallRecord) -> None:
        if route.dialect == "self_hosted":
            record.status = 404
            await send_json(send, record.status, {"detail": "Not Found"})
            return
        # The Cloud answers an unknown path with 50000 and not with 404.
        await self._send(send, record, refusal(50000))

    async def _carry_out(self, request: _Request) -> None:
        """Do what the call asks, and answer, both as far as the fault lets it."""
        fault, record, send = request.fault, request.record, request.send
        if fault is not None and fault.kind in _REFUSING:
            await self._refuse(send, record, fault)
            return
        if fault is not None and fault.kind is FaultKind.RESET_BEFORE_APPLYING:
            record.status = 0
            reset(request.scope)
            return
        result = self._result(request)
        if fault is None:
            await self._send(send, record, result)
        elif fault.kind in _RESETTING:
            record.status = 0
            reset(request.scope)
        elif fault.kind in _MISSENT:
            record.code = result.code
            record.status = await send_badly(request.scope, send, fault, result.to_json())
        elif fault.kind is FaultKind.FAILURE_AFTER_EFFECT:
            await self._send(send, record, _failure(request.route, fault), status=fault.status)
        else:
            if fault.kind is FaultKind.SLOW_ANSWER:
                await asyncio.sleep(fault.seconds)
            await self._send(send, record, result)

    def _project(self, scope: Scope, route: Route, record: CallRecord) -> Project | Result:
        world = self._world
        if route.dialect == "self_hosted":
            # That server has no keys, and whoever reaches it may do all.
            project: Project | None = next(iter(world.projects.values()))
        else:
            header = next(
                (value for key, value in scope["headers"] if key == b"authorization"), b""
            )
            scheme, _, key = header.decode("latin-1").partition(" ")
            if scheme != "Token" or not key:
                return refusal(40100)
            project = world.projects.get(key)
        if project is None:
            return refusal(40103 if record.endpoint == "delete" else 40132)
        record.project = project.account
        return project

    def _result(self, request: _Request) -> Result:
        """Carry the call out, and note it in the journal."""
        world, record, project = self._world, request.record, request.project
        project.settle(world.clock.now())
        result = self._said(request)
        record.kind, record.n_ids, record.applied = result.kind, len(result.ids), result.applied
        if world.journal.keep_ids:
            # The store's own strings, so that a long journal does not keep each id twice.
            known = project.memories
            record.ids = tuple(known[name].id if name in known else name for name in result.ids)
        return result

    def _said(self, request: _Request) -> Result:
        """Let the rules of the dialect answer."""
        world, route, project = self._world, request.route, request.project
        rules = world.cloud if route.dialect == "cloud" else world.self_hosted
        if route.action == "read":
            return rules.read(project, route.memory_id)
        body = _parse(request.body)
        if route.action == "read_many":
            return world.self_hosted.read_many(project, body)
        if route.action == "list":
            return rules.list(project, body)
        if route.action == "search":
            return rules.search(project, body)
        fault = request.fault
        late = fault is not None and fault.kind in _LATE
        course = Course(
            now=world.clock.now(),
            delay_s=fault.seconds if fault is not None and late else 0.0,
            effect="all" if fault is None else _EFFECTS.get(fault.kind, "all"),
        )
        return rules.delete(project, body, course)

    async def _refuse(self, send: Send, record: CallRecord, fault: Fault) -> None:
        """Answer a call that a fault turned away before it was looked at."""
        if fault.kind is FaultKind.HTTP_429:
            await _send_429(send, record, fault.retry_after)
            return
        if fault.kind is FaultKind.HTTP_5XX:
            record.status = fault.status or 503
            headers = _retry_after(fault.retry_after)
            await send_json(send, record.status, {"detail": "unavailable"}, headers)
            return
        code = _QUOTA if fault.kind is FaultKind.QUOTA else fault.code
        await self._send(send, record, refusal(code), status=fault.status)

    async def _send(
        self, send: Send, record: CallRecord, result: Result, *, status: int | None = None
    ) -> None:
        status = status or result.http_status
        if status is None:
            as_http = result.code != 0 and self._world.settings.errors_as_http
            default = 500 if result.code >= _SERVER_CODES else 400
            status = _AS_HTTP.get(result.code, default) if as_http else 200
        record.status = status
        if result.bodiless:
            await send_empty(send, status)
            return
        record.code = result.code
        await send_json(send, status, result.to_json())


def _failure(route: Route, fault: Fault) -> Result:
    """Build what a dialect says when something failed after all was done."""
    if route.dialect == "cloud":
        return refusal(fault.code)
    return failed() if route.action == "delete" else unhandled()


async def _send_429(send: Send, record: CallRecord, retry_after: str | None) -> None:
    record.status = 429
    members = {"detail": "Too many requests. Please slow down."}
    await send_json(send, record.status, members, _retry_after(retry_after))


def _retry_after(value: str | None) -> tuple[tuple[bytes, bytes], ...]:
    return () if value is None else ((b"retry-after", value.encode("latin-1")),)


def _parse(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except ValueError:  # also bytes that are not UTF-8
        return None
    return value
