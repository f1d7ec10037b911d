"""The `expunge` command. Data goes to stdout, progress and errors to stderr.

What a command needs is imported when it runs, so that `--help` answers at once.
"""

from expunge.cli.app import app, main

__all__ = ["app", "main"]
