"""The ways in: whoever owes a deletion hands it in here.

    with Producer.from_settings() as producer:
        receipt = producer.delete_memories(ids, user_id="u-17", reason="gdpr-17")
        producer.wait(receipt.id)

A request is recorded in the ledger before the call returns; nothing else can lose it.
"""

from ledger.model import Receipt, RequestView
from producer.many import SmallRequest
from producer.submit import Producer, WaitTimeoutError

__all__ = ["Producer", "Receipt", "RequestView", "SmallRequest", "WaitTimeoutError"]
