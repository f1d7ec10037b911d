"""Certificates of deletion: what was sealed of a request's end, with the proof that it was.

Whoever has the file and the log's public key checks it without the ledger (docs/formats.md).
"""
