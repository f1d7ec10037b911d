"""The MemOS contract: orders, calls, outcomes, read-back, and a simulator of the server."""

from __future__ import annotations

from memos_api.calls import Call, delete_call, list_call, read_call, search_call
from memos_api.client import MemosClient, Reply
from memos_api.cloud import CLOUD, Cloud
from memos_api.departure import KeptBackError
from memos_api.dialects import SEARCH, Dialect
from memos_api.orders import AgentPurge, DeleteOrder, MemoryBatch, Owner, UserPurge
from memos_api.outcomes import Answer, Outcome, classify
from memos_api.readback import CATEGORIES, Item, Listing, Sight
from memos_api.self_hosted import SelfHosted

__all__ = [
    "CATEGORIES",
    "CLOUD",
    "SEARCH",
    "AgentPurge",
    "Answer",
    "Call",
    "Cloud",
    "DeleteOrder",
    "Dialect",
    "Item",
    "KeptBackError",
    "Listing",
    "MemoryBatch",
    "MemosClient",
    "Outcome",
    "Owner",
    "Reply",
    "SelfHosted",
    "Sight",
    "UserPurge",
    "classify",
    "delete_call",
    "list_call",
    "read_call",
    "search_call",
]
