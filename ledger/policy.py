"""How a request is read back, and which of its ids: `full`, `sample:N` or `none`."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from ledger.errors import RequestError
from ledger.states import Kind

__all__ = ["MAX_SAMPLE", "Verify", "default_verify", "draw", "parse_verify"]

MAX_SAMPLE: Final = 1_000
_SAMPLE: Final = re.compile(r"sample:([0-9]{1,6})")


@dataclass(frozen=True, kw_only=True)
class Verify:
    """A parsed policy: `sample` is the number of ids for `sample:N`, None for the other two."""

    full: bool
    sample: int | None = None

    @property
    def none(self) -> bool:
        """True when nothing is read back."""
        return not self.full and self.sample is None


def parse_verify(text: str) -> Verify:
    """Read a policy.

    Raises:
        RequestError: It is none of `full`, `none`, `sample:1` to `sample:1000`.
    """
    if text in ("full", "none"):
        return Verify(full=text == "full")
    match = _SAMPLE.fullmatch(text)
    if match and 1 <= int(match[1]) <= MAX_SAMPLE:
        return Verify(full=False, sample=int(match[1]))
    msg = (
        "The verify policy is none of `full`, `none` and `sample:N` with N from 1 to "
        f"{MAX_SAMPLE}; to read back more, ask for `full`."
    )
    raise RequestError(msg)


def default_verify(kind: Kind, *, subject_named: bool) -> str:
    """Give the policy for those who ask for none.

    Full where it is cheap (a list tells of every id at once), else a sample of 50: reading an id
    costs a call, where deleting a hundred costs one.
    """
    return "full" if kind is not Kind.MEMORIES or subject_named else "sample:50"


def draw(*, request_id: str, generation: int, population: int, size: int) -> list[int]:
    """Draw `size` distinct places out of 0 to `population` - 1, ascending.

    Anyone can repeat the draw: the i-th candidate is SHA-256 of
    `expunge-draw/v1`, the request id, the generation and i (one to a line), modulo `population`;
    candidates seen before are passed over.
    """
    if size >= population:
        return list(range(population))
    drawn: set[int] = set()
    candidate = 0
    while len(drawn) < size:
        text = f"expunge-draw/v1\n{request_id}\n{generation}\n{candidate}\n"
        drawn.add(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % population)
        candidate += 1
    return sorted(drawn)
