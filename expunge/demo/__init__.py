"""`expunge demo`: deletes for real, with real workers, and proves what it did."""

from expunge.demo.run import run_demo

__all__ = ["run_demo"]
