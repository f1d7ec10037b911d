"""`expunge dev`: the whole service on this machine, kept running until somebody ends it."""

from expunge.dev.run import run_dev

__all__ = ["run_dev"]
