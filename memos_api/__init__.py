"""The MemOS contract: orders, calls, outcomes, read-back, and a simulator of the server."""

from __future__ import annotations

from memos_api.calls import Call, delete_call, list_call, read_call
from memos_api.client import MemosClient, Reply
from memos_api.departure import KeptBackError
from memos_api.orders import AgentPurge, DeleteOrder, MemoryBatch, UserPurge
from memos_api.outcomes import Answer, Outcome, classify
from memos_api.readback import Listing, Sight

__all__ = [
    "AgentPurge",
    "Answer",
    "Call",
    "DeleteOrder",
    "KeptBackError",
    "Listing",
    "MemoryBatch",
    "MemosClient",
    "Outcome",
    "Reply",
    "Sight",
    "UserPurge",
    "classify",
    "delete_call",
    "list_call",
    "read_call",
]
