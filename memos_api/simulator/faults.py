"""Switches for what goes wrong: each says where, how often and with what numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from enum import StrEnum

__all__ = ["Fault", "FaultKind", "Faults"]


class FaultKind(StrEnum):
    """What a fault does to a call; *applied* means that the memories are gone."""

    HTTP_429 = "http_429"  # refused, with Retry-After when `retry_after` is given
    HTTP_5XX = "http_5xx"  # refused with `status` (503), with Retry-After when given
    CODE = "code"  # refused with the body code `code` at `status` (200)
    QUOTA = "quota"  # code 40304, not applied
    SUCCESS_WITHOUT_EFFECT = "success_without_effect"
    FAILURE_AFTER_EFFECT = "failure_after_effect"  # applied, answers `code` (50000) at `status`
    DELAYED_EFFECT = "delayed_effect"  # answered at once, shows after `seconds`
    SLOW_ANSWER = "slow_answer"  # applied, answered after `seconds`
    SLOW_BODY = "slow_body"  # applied, headers at once, the body drips over `seconds`
    STALL = "stall"  # applied, headers at once, then nothing for `seconds`
    RESET_AFTER_APPLYING = "reset_after_applying"  # TCP RST instead of an answer
    RESET_BEFORE_APPLYING = "reset_before_applying"
    RESET_THEN_APPLYING = "reset_then_applying"  # TCP RST now, shows after `seconds`
    HALF_EFFECT = "half_effect"  # answers success, and only every second memory is gone
    WIDER_EFFECT = "wider_effect"  # answers success; all of the owners' memories are gone
    HTML = "html"  # a proxy's page with `status` (502), not applied
    EMPTY = "empty"  # applied, `status` (202) without a body
    TRUNCATED = "truncated"  # applied, the connection ends in mid-body


@dataclass(slots=True, kw_only=True)
class Fault:
    """One switch. Of several that match a call, the first that fires counts.

    Attributes:
        kind: What happens.
        endpoint: `delete`, `list`, `read`, `search` or `any`.
        probability: Share of the matching calls that it hits.
        count: Fires at most so often; None without end.
        from_call: First matching call it may hit, from 0.
        to_call: First matching call it no longer hits; None without end.
        retry_after: Seconds or a date to send as Retry-After; None sends none.
        status: HTTP status of the answer; None takes the kind's own.
        code: Body code of the answer.
        seconds: Length of delays.
    """

    kind: FaultKind
    endpoint: str = "delete"
    probability: float = 1.0
    count: int | None = None
    from_call: int = 0
    to_call: int | None = None
    retry_after: str | None = None
    status: int | None = None
    code: int = 50000
    seconds: float = 1.0
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    @classmethod
    def from_json(cls, members: dict[str, object]) -> Fault:
        """Build one from JSON members.

        Raises:
            ValueError: An unknown member or kind.
        """
        known = {item.name for item in fields(cls) if item.init}
        if unknown := set(members) - known:
            raise ValueError(
                f"Unknown members of a fault: {sorted(unknown)}; known: {sorted(known)}"
            )
        values = dict(members)
        values["kind"] = FaultKind(str(values.get("kind")))
        if values.get("retry_after") is not None:
            values["retry_after"] = str(values["retry_after"])
        return cls(**values)  # type: ignore[arg-type]  # the simulator's own tests send the types


class Faults:
    """The switches in force, with chance from a seed so that a run can be repeated."""

    def __init__(self, *, seed: int) -> None:
        """Start with none."""
        self._seed = seed
        self._chance = random.Random(f"faults {seed}")  # noqa: S311  # has to be repeatable
        self._faults: list[Fault] = []

    def replace(self, faults: list[Fault]) -> None:
        """Put *faults* in force instead of the present ones, and start chance anew."""
        self._faults = faults
        self._chance = random.Random(f"faults {self._seed}")  # noqa: S311  # has to be repeatable

    def strike(self, endpoint: str) -> Fault | None:
        """Tell which fault hits this call, and count it."""
        hit: Fault | None = None
        for fault in self._faults:
            if fault.endpoint not in {endpoint, "any"}:
                continue
            number = fault.seen
            fault.seen += 1
            in_range = fault.from_call <= number and (
                fault.to_call is None or number < fault.to_call
            )
            spent = fault.count is not None and fault.fired >= fault.count
            if hit is not None or not in_range or spent:
                continue
            if fault.probability >= 1 or self._chance.random() < fault.probability:
                fault.fired += 1
                hit = fault
        return hit
