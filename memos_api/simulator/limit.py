"""The account's rate limit: no more than so many calls in any window of a second."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["RateLimit"]


@dataclass(slots=True, kw_only=True)
class RateLimit:
    """Sliding window over the arrivals, exact to the call.

    Attributes:
        per_second: Calls a second; None without limit. Below 1 the window is `1/per_second` s.
        count_refused: Refused calls fill the window too, so that who keeps knocking stays out.
        style: `429` answers HTTP 429, `40300` that body code at HTTP 200.
        retry_after: Whether a 429 tells how long to wait.
    """

    per_second: float | None = None
    count_refused: bool = False
    style: Literal["429", "40300"] = "429"
    retry_after: bool = True
    _arrivals: deque[float] = field(default_factory=deque)

    def admit(self, now: float) -> float:
        """Take in a call that arrived at *now*; 0.0 when it may pass, else the seconds to wait."""
        if self.per_second is None:
            return 0.0
        window = max(1.0, 1 / self.per_second)
        most = max(1, math.floor(self.per_second * window + 1e-9))
        arrivals = self._arrivals
        while arrivals and arrivals[0] <= now - window:
            arrivals.popleft()
        full = len(arrivals) >= most
        if not full or self.count_refused:
            arrivals.append(now)
        if not full:
            return 0.0
        return max(arrivals[-most] + window - now, 0.001)
