"""What the simulated server is like where documents leave it open, or lie."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, get_args

from memos_api.simulator.lies import lies_from

if TYPE_CHECKING:
    from memos_api.simulator.lies import Lie

__all__ = ["Backend", "Settings", "UnknownIdPolicy"]

UnknownIdPolicy = Literal["all_or_nothing", "partial", "accept"]
Backend = Literal["postgres", "honest"]


@dataclass(slots=True, kw_only=True)
class Settings:
    """What is not documented, or differs between servers.

    Attributes:
        unknown_id_policy: For a batch with unknown ids: `all_or_nothing` answers 40307 and deletes
            none, `partial` answers 40307 and deletes the known ones, `accept` answers success.
        soft_delete: A deleted memory stays readable by id, with status `deleted`.
        errors_as_http: Failures come with HTTP 400, 401, 403, 404 or 500 instead of 200.
        max_ids: Most ids a call; more are answered 40305. None without limit.
        unknown_user: Answer 40308 for a purge of a user never seen; else success.
        latency_s: Seconds before each answer.
        jitter_s: Up to so many seconds more, by chance.
        backend: Of a self-hosted server. `postgres` does as MemOS 2.0.33 was seen to do, `honest`
            keeps to pages, user and kinds, answers success to a purge, and finds by search.
        database_down: Nothing is deleted, and each dialect says of it what it says then.
        lies: What is not so, or not done; all of them at once.
        comes_back_s: For the lie `comes_back`: seconds until a deleted memory shows again.
    """

    unknown_id_policy: UnknownIdPolicy = "all_or_nothing"
    soft_delete: bool = False
    errors_as_http: bool = False
    max_ids: int | None = None
    unknown_user: bool = True
    latency_s: float = 0.0
    jitter_s: float = 0.0
    backend: Backend = "postgres"
    database_down: bool = False
    lies: list[Lie] = field(default_factory=list)
    comes_back_s: float = 60.0

    def change(self, members: dict[str, object]) -> None:
        """Set these; `lies` replaces all lies. None is set when one is wrong.

        Raises:
            ValueError: An unknown name, a value outside of a closed list, or of the wrong type.
        """
        known = {item.name for item in fields(self)}
        if unknown := set(members) - known:
            raise ValueError(f"unknown settings {sorted(unknown)}; known: {sorted(known)}")
        checked = {name: self._checked(name, value) for name, value in members.items()}
        for name, value in checked.items():
            setattr(self, name, value)

    def _checked(self, name: str, value: object) -> object:
        if name == "lies":
            return lies_from(value)  # type: ignore[arg-type]  # it refuses what is no list
        choices = _CHOICES.get(name)
        if choices is not None and value not in choices:
            raise ValueError(f"{name} is one of {list(choices)}, not {value!r}")
        flag = isinstance(value, bool)
        if (name in _FLAGS and not flag) or (
            name in _SECONDS and (flag or not isinstance(value, int | float))
        ):
            raise ValueError(f"{name} is {'a flag' if name in _FLAGS else 'seconds'}: {value!r}")
        return value


_FLAGS = frozenset({"soft_delete", "errors_as_http", "unknown_user", "database_down"})
_SECONDS = frozenset({"latency_s", "jitter_s", "comes_back_s"})
_CHOICES = {"unknown_id_policy": get_args(UnknownIdPolicy), "backend": get_args(Backend)}
