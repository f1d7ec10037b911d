"""A MemOS Cloud that behaves as documented, with switches for what goes wrong.

`SimulatorProcess` runs it in a process of its own; `python -m memos_api.simulator` by hand.
"""

from __future__ import annotations

from memos_api.simulator.process import CallRecord, SimulatorControl, SimulatorProcess

__all__ = ["CallRecord", "SimulatorControl", "SimulatorProcess"]
