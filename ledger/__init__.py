"""The ledger: requests, work, leases, rate and outcomes in SQL, the only truth of Expunge."""

from ledger.intake import Intake
from ledger.keys import Keys
from ledger.migrate import upgrade
from ledger.model import Counts, Order, Receipt, RequestView
from ledger.pauses import Pause
from ledger.readback import ReadbackPolicy
from ledger.states import Certainty, Kind, Lane, RequestState, Result
from ledger.store import Ledger

__all__ = [
    "Certainty",
    "Counts",
    "Intake",
    "Keys",
    "Kind",
    "Lane",
    "Ledger",
    "Order",
    "Pause",
    "ReadbackPolicy",
    "Receipt",
    "RequestState",
    "RequestView",
    "Result",
    "upgrade",
]
