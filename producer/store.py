"""What a producer needs of the ledger; `ledger.Ledger` has it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ledger.errors import RequestError
from ledger.keys import Keys
from ledger.model import Order, Receipt, RequestView

__all__ = ["Intaking", "Store"]


class Intaking(Protocol):
    """One request on its way in; see `ledger.intake.Intake`."""

    def add(self, ids: Iterable[str]) -> None: ...  # noqa: D102
    def finish(self) -> Receipt: ...  # noqa: D102
    def abandon(self) -> None: ...  # noqa: D102


class Store(Protocol):
    """The ledger as producers see it; see `ledger.store.Ledger`."""

    def register(self, *, projects: Mapping[str, str], rates: Mapping[str, float]) -> None: ...  # noqa: D102
    def begin(self, order: Order, *, chunk_size: int) -> Intaking: ...  # noqa: D102
    def take_many(  # noqa: D102
        self, orders: Sequence[tuple[Order, Sequence[str]]], *, chunk_size: int
    ) -> list[Receipt | RequestError]: ...
    def renew(self, keys: Keys) -> None: ...  # noqa: D102
    def status(self, request_id: str) -> RequestView: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
