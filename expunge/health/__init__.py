"""How a process is: `/livez`, `/readyz` and `/metrics` on a port of its own (ADR 8).

Imports nothing by itself, so that `expunge healthcheck` answers at once.
"""

__all__: list[str] = []
