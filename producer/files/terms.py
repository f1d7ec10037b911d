"""What holds for a whole file, and whether a ledger would take it, asked without a ledger."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from ledger.clock import wall_us
from ledger.errors import RequestError
from ledger.header import make_header
from ledger.keys import Keys
from ledger.macs import Macs
from ledger.model import Order
from ledger.settings import Settings
from ledger.states import Kind, Lane

__all__ = ["Terms", "TermsCheck"]

_MOST_KNOWN: Final = 1_000
# Nothing is written: any key will do.
_NO_KEYS: Final = Keys(order=bytes(32), pseudonym=bytes(32))


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for the whole file; a JSONL line may say otherwise for itself.

    Attributes are those of `Producer.delete_memories`, and `include_later` of `purge_user`. Under
    an idempotency key, the request of a plain or CSV file has that key; where each user or agent
    has a request, it has one derived from key and name; a JSONL line without a key of its own has
    `KEY:LINE`.
    """

    project: str = "default"
    user_id: str | None = None
    lane: Lane | None = None
    verify: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    submitted_at: datetime | None = None
    due_at: datetime | None = None
    not_before: datetime | None = None
    include_later: bool = False

    def shared(self) -> dict[str, Any]:
        """Give all but the user by name, as `Producer` takes them; `include_later` if it is so."""
        given = asdict(self)
        del given["user_id"]
        if not self.include_later:  # what deletes by id has no such thing
            del given["include_later"]
        return given


class TermsCheck:
    """Says what the ledger would say of the terms of a request, whatever its ids are."""

    def __init__(self, settings: Settings) -> None:
        """Check against the projects of these settings."""
        self._settings = settings
        self._macs = Macs(_NO_KEYS)
        # Most lines of a file have the same terms.
        self._known: dict[tuple[tuple[str, Any], ...], RequestError | None] = {}

    def fault(self, given: Mapping[str, Any]) -> RequestError | None:
        """Tell what is wrong with them, or None.

        Args:
            given: As `Terms.shared` gives them.
        """
        key = tuple(sorted(given.items()))
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._ask(given)
        return self._known[key]

    def _ask(self, given: Mapping[str, Any]) -> RequestError | None:
        project = self._settings.projects.get(given["project"])
        if project is None:
            names = ", ".join(sorted(self._settings.projects))
            return RequestError(f"There is no such project in the settings; known are: {names}.")
        if given["lane"] is not None and given["lane"] not in list(Lane):
            return RequestError(f"The lane is none of {', '.join(Lane)}.")
        lane = None if given["lane"] is None else Lane(given["lane"])
        # The kind and its subject do not matter: readers have checked them.
        order = Order(kind=Kind.USER, subject="nobody", **{**given, "lane": lane})
        try:
            make_header(
                order, account=project.account, chunk_size=1, macs=self._macs, now_us=wall_us()
            )
        except RequestError as error:
            return error
        return None
