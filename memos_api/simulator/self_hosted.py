"""A self-hosted MemOS: what it takes, deletes, reads by id, and answers.

As MemOS 2.0.33 was seen to do on its Postgres backend: failures come with HTTP 200 and code 200,
cubes do not scope a deletion by id, and a purge is called a failure after it was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memos_api.simulator.deleting import carry_out
from memos_api.simulator.documents import another, self_hosted_item
from memos_api.simulator.lies import Lie
from memos_api.simulator.memory import DEFAULT_CUBE
from memos_api.simulator.result import Result
from memos_api.simulator.self_hosted_bodies import (
    is_deletion,
    is_listing,
    is_search,
    is_texts,
    mode_of,
)
from memos_api.simulator.self_hosted_lists import cube_of, search_of

if TYPE_CHECKING:
    from memos_api.simulator.deleting import Course
    from memos_api.simulator.memory import Memory
    from memos_api.simulator.settings import Settings
    from memos_api.simulator.state import Project

__all__ = ["SelfHosted", "failed", "unhandled"]

_OK = 200
_REFUSING = frozenset(
    {
        Lie.NOT_FOUND_THOUGH_THERE,
        Lie.REFUSED_THOUGH_GONE,
        Lie.SUCCESS_FALSE,
        Lie.SUCCESS_FALSE_THOUGH_GONE,
    }
)


def failed(message: str = "Failed to delete memories") -> Result:
    """Build the answer to a deletion that failed, or is said to have."""
    return Result(code=_OK, http_status=200, message=message, data={"status": "failure"})


def unhandled(message: str = "internal error") -> Result:
    """Build the answer to what went wrong on the server."""
    return Result(code=500, http_status=500, message=message)


class SelfHosted:
    """The endpoints of a self-hosted server."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings."""
        self._settings = settings

    def delete(self, project: Project, body: object, course: Course) -> Result:
        """Answer `POST /product/delete_memory`: exactly one mode of three.

        The modes are memory_ids, file_ids, and filter with user_id and session_id. No memory here
        has a file, a session, or what a filter might ask for, so those match nothing.
        """
        if not is_deletion(body):
            return _invalid()
        mode = mode_of(body)
        if isinstance(mode, str):
            return failed(mode)
        kind, ids = mode
        result = self._deleted(project, body, kind, course)
        result.kind, result.ids = kind, ids
        return result

    def _deleted(self, project: Project, body: dict[str, Any], kind: str, course: Course) -> Result:
        settings = self._settings
        down = settings.database_down
        if kind == "memories":
            ids = body["memory_ids"]
            # PostgreSQL takes no NUL in a text: the statement fails, and that is only logged.
            lost = settings.backend == "postgres" and any("\0" in one for one in ids)
            if down or lost:
                return _succeeded(0)
            return self._said(carry_out(project, ids, course, settings))
        if down:
            return failed()
        if kind == "files":
            return _succeeded(0)
        applied = carry_out(project, _matching(project, body), course, settings, purge=True)
        if settings.backend == "postgres":
            # It deletes, then reads an attribute that was removed, and calls that a failure.
            result = failed()
            result.applied = applied
            return result
        return self._said(applied)

    def _said(self, applied: int) -> Result:
        """Answer success, or what the lies in force say instead."""
        result = _succeeded(applied)
        if not _REFUSING.isdisjoint(self._settings.lies):
            result = failed()
            result.applied = applied
        elif Lie.CODE_FAILS_SUCCESS_TRUE in self._settings.lies:
            result.code = 500
        return result

    def read(self, project: Project, memory_id: str) -> Result:
        """Answer `GET /product/get_memory/{id}`, which looks into the default cube only."""
        found = [
            self_hosted_item(one, self._settings.lies) for one in self._found(project, [memory_id])
        ]
        message = f"Memory with ID {memory_id} not found"
        return Result(
            code=_OK,
            http_status=200,
            message="Memory retrieved successfully" if found else message,
            data=found[0] if found else None,
            kind="memories",
            ids=(memory_id,),
        )

    def read_many(self, project: Project, body: object) -> Result:
        """Answer `POST /product/get_memory_by_ids`, whose body is a bare array."""
        if not is_texts(body):
            return _invalid()
        items = [self_hosted_item(one, self._settings.lies) for one in self._found(project, body)]
        return Result(
            code=_OK,
            http_status=200,
            message="Memories retrieved successfully",
            data={"memories": items},
            kind="memories",
            ids=tuple(body),
        )

    def _found(self, project: Project, ids: list[str]) -> list[Memory]:
        if self._settings.database_down or Lie.BY_ID_BLIND in self._settings.lies:
            return []
        shown = [one for memory_id in dict.fromkeys(ids) if (one := project.shown(memory_id))]
        found = [one for one in shown if one.cube == DEFAULT_CUBE]
        if Lie.OTHER_ID in self._settings.lies:
            return [another(project, one) for one in found]
        return found

    def list(self, project: Project, body: object) -> Result:
        """Answer `POST /product/get_memory`: the memories of one cube."""
        if not is_listing(body):
            return _invalid()
        cube, user = body["mem_cube_id"], body.get("user_id")
        kind, name = ("cube", cube) if user is None else ("user", user)
        if self._settings.database_down:
            result = unhandled("could not connect to server")
        elif Lie.EMPTY_LIST_202 in self._settings.lies:
            result = Result(bodiless=True, http_status=202)
        else:
            result = Result(
                code=_OK,
                http_status=200,
                message="Memories retrieved successfully",
                data=cube_of(project, body, self._settings),
            )
        result.kind, result.ids = kind, (name,)
        return result

    def search(self, project: Project, body: object) -> Result:
        """Answer `POST /product/search`, which finds nothing on Postgres and hides the error."""
        if not is_search(body):
            return _invalid()
        return Result(
            code=_OK,
            http_status=200,
            message="Search completed successfully",
            data=search_of(project, body, self._settings),
            kind="user",
            ids=(body["user_id"],),
        )


def _succeeded(applied: int) -> Result:
    return Result(
        code=_OK,
        http_status=200,
        message="Memories deleted successfully",
        data={"status": "success"},
        applied=applied,
    )


def _invalid() -> Result:
    return Result(code=422, http_status=422, message="Parameter validation error")


def _matching(project: Project, body: dict[str, Any]) -> list[str]:
    """Give the ids of the user's memories, in the cubes named; what narrows more leaves nothing."""
    user, cubes = body.get("user_id"), body.get("writable_cube_ids")
    narrower = (body.get(name) for name in ("filter", "session_id", "conversation_id"))
    if user is None or any(narrower):
        return []
    return [one.id for one in project.of(("user", user)).values() if not cubes or one.cube in cubes]
