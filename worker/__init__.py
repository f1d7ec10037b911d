"""The way out: Celery workers that drain the ledger, and the steward that looks after them."""

__all__: list[str] = []
