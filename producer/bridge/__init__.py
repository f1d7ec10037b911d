"""The queue bridge: other services' messages become requests in the ledger.

A message is taken out of its queue only after the ledger has committed what it orders; one that
comes twice is one request; one that cannot be an order is parked, and stops no other.
"""

from producer.bridge.bridge import run_bridge
from producer.bridge.progress import BridgeProgress, StreamProgress, StreamState
from producer.bridge.source import IntakeSource, Message, Parked, QueueFault, SourceError

__all__ = [
    "BridgeProgress",
    "IntakeSource",
    "Message",
    "Parked",
    "QueueFault",
    "SourceError",
    "StreamProgress",
    "StreamState",
    "run_bridge",
]
