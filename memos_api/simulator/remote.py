"""A synchronous client of the simulator's control side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

from memos_api.simulator.journal import CallRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from memos_api.simulator.lies import Lie

__all__ = ["Remaining", "Seeded", "SimulatorControl", "worst_window"]


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """What was put in: memory ids by user."""

    by_user: dict[str, list[str]]

    @property
    def users(self) -> list[str]:
        """User ids in order."""
        return list(self.by_user)

    @property
    def memory_ids(self) -> list[str]:
        """All memory ids, user after user."""
        return [memory_id for ids in self.by_user.values() for memory_id in ids]


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What is really left, whatever the lies in force say of it.

    Attributes:
        total: Memories in all; archived ones count, deleted ones that are still shown do not.
        users: How many by user: those asked about, or all that have any.
        ids: Those of the ids asked about.
        vectors: Deleted memories that a search still finds: of the ids asked about, or all.
    """

    total: int
    users: dict[str, int]
    ids: list[str]
    vectors: list[str] = field(default_factory=list)


def worst_window(arrivals: Sequence[float], seconds: float) -> int:
    """Count the most arrivals in any window of *seconds*, its end excluded.

    Two pointers over the sorted arrivals: a fullest window may always start at an arrival, so only
    those are tried.
    """
    times = sorted(arrivals)
    first = worst = 0
    for last, arrival in enumerate(times):
        while arrival - times[first] >= seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


class SimulatorControl:
    """Seeds, switches faults, and reads what arrived and what is left."""

    def __init__(self, base_url: str) -> None:
        """Talk to the simulator whose API has this base URL (or any URL of that server)."""
        root = httpx.URL(base_url).copy_with(raw_path=b"/_simulator/")
        self._http = httpx.Client(base_url=root, trust_env=False, timeout=60.0)

    def __enter__(self) -> Self:
        """Use as a context manager to close the connection at the end."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def seed(
        self,
        *,
        users: int = 1,
        memories: int = 1,
        seed: int = 0,
        category: str | None = None,
        created_ms: int | None = None,
        cube: str | None = None,
        api_key: str | None = None,
    ) -> Seeded:
        """Make *users* users with *memories* memories each; ids follow from *seed*.

        Args:
            users: How many users.
            memories: How many memories each.
            seed: Another one gives other ids.
            category: fact, preference, tool, skill, profile or event; None mixes them.
            created_ms: Creation time of all, epoch milliseconds; None counts on by minutes.
            cube: Where a self-hosted server keeps them; None is its default cube, `default`.
            api_key: Which project; None is the first.
        """
        answer = self._post(
            "seed",
            users=users,
            memories=memories,
            seed=seed,
            category=category,
            created_ms=created_ms,
            cube=cube,
            api_key=api_key,
        )
        return Seeded(by_user=answer["users"])

    def seed_ids(
        self,
        ids: Iterable[str],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        category: str | None = None,
        created_ms: int | None = None,
        cube: str | None = None,
        api_key: str | None = None,
    ) -> Seeded:
        """Keep exactly these ids as memories of a user (default `user-given`) or an agent."""
        answer = self._post(
            "seed",
            ids=list(ids),
            user_id=user_id or "user-given",
            agent_id=agent_id,
            category=category,
            created_ms=created_ms,
            cube=cube,
            api_key=api_key,
        )
        return Seeded(by_user=answer["users"])

    def set_faults(self, *faults: dict[str, object]) -> None:
        """Put these faults in force instead of the present ones.

        Args:
            faults: Members as in `memos_api.simulator.faults.Fault`, for example
                `{"kind": "http_429", "retry_after": "1", "count": 3}`.
        """
        self._post("faults", faults=list(faults))

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._post("faults", faults=[])

    def set_limit(
        self,
        per_second: float | None,
        *,
        count_refused: bool = False,
        style: str = "429",
        retry_after: bool = True,
    ) -> None:
        """Limit each account to *per_second* calls; None lifts the limit."""
        self._post(
            "limit",
            per_second=per_second,
            count_refused=count_refused,
            style=style,
            retry_after=retry_after,
        )

    def set_settings(self, **settings: object) -> dict[str, object]:
        """Change what the documentation leaves open, and lies; give what is in force.

        Args:
            settings: Members of `settings.Settings`; `lies` replaces all lies.

        Raises:
            ValueError: An unknown name or value.
        """
        return self._post("settings", **settings)

    def set_lies(self, *lies: Lie | str) -> None:
        """Put these lies in force instead of the present ones; none at all for an honest server.

        Raises:
            ValueError: An unknown lie; the message names the known ones.
        """
        self._post("settings", lies=list(lies))

    def pass_time(self, seconds: float) -> None:
        """Move the simulator's clock ahead for all that is to happen later.

        Delayed deletions and `comes_back` go by it; rate limits and the journal do not.

        Raises:
            ValueError: Less than 0.
        """
        self._post("pass_time", seconds=seconds)

    def remaining(
        self,
        *,
        ids: Iterable[str] | None = None,
        users: Iterable[str] | None = None,
        api_key: str | None = None,
    ) -> Remaining:
        """Tell the truth of what is left, which of *ids* and how much of each of *users*."""
        request: dict[str, object] = {"api_key": api_key}
        if ids is not None:
            request["ids"] = list(ids)
        if users is not None:
            request["users"] = list(users)
        answer = self._post("remaining", **request)
        return Remaining(
            total=answer["total"],
            users=answer["users"],
            ids=answer["ids"],
            vectors=answer["vectors"],
        )

    def journal(self, *, after: int = 0) -> list[CallRecord]:
        """Give all calls from sequence number *after* on, in order of arrival."""
        calls: list[CallRecord] = []
        while True:
            page = self._post("journal", after=after + len(calls))["calls"]
            if not page:
                return calls
            calls.extend(CallRecord.from_row(row) for row in page)

    def worst_window(self, seconds: float, *, endpoint: str | None = None) -> int:
        """Count the most calls that arrived in any window of *seconds*, refused ones included.

        Args:
            seconds: Length of the window; its end is excluded.
            endpoint: Only `delete`, `list`, `read` or `search`; None counts all.
        """
        calls = self.journal()
        return worst_window(
            [call.at_s for call in calls if endpoint in {None, call.endpoint}], seconds
        )

    def reset(self) -> None:
        """Forget memories, journal and faults; limit, settings (with lies) and clock stay."""
        self._post("reset")

    def _post(self, action: str, **request: object) -> dict[str, Any]:
        answer = self._http.post(action, json=request)
        members: dict[str, Any] = answer.json()
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"The simulator refused {action!r}: {members.get('error')}")
        return members
