"""A MemOS, Cloud and self-hosted, with switches for what goes wrong and for what it lies about.

`SimulatorProcess` runs it in a process of its own; `python -m memos_api.simulator` by hand.
"""

from __future__ import annotations

from memos_api.simulator.process import CallRecord, SimulatorControl, SimulatorProcess

__all__ = ["CallRecord", "SimulatorControl", "SimulatorProcess"]
