"""The directory that the processes of one worker share: counters, a pulse, temporary files.

It is made by the supervisor, is empty then, and goes with it. Nothing in it is needed by the work.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from ledger.errors import SettingsError
from worker.pulse import Pulse

__all__ = ["METRICS_VARIABLE", "Folder"]

METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for its directory when it is first imported."""
_TRIES: Final = 10
_PAUSE_S: Final = 0.1


class Folder:
    """Paths inside the directory.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | Path) -> None:
        """Keep the path."""
        self.path = Path(path)

    @classmethod
    def make(cls) -> "Folder":
        """Make a new one, for this user's eyes only.

        Raises:
            SettingsError: There is no place for temporary files.
        """
        try:
            folder = cls(tempfile.mkdtemp(prefix="expunge-worker-"))
            folder.metrics.mkdir()
            folder.temporary.mkdir()
            folder.celery_pulse()
        except OSError:
            msg = "No directory for temporary files can be written to; set TMPDIR to one that can."
            raise SettingsError(msg) from None
        return folder

    @property
    def metrics(self) -> Path:
        """Where counters and histograms of all processes are."""
        return self.path / "metrics"

    @property
    def temporary(self) -> Path:
        """Where the processes' own temporary files are."""
        return self.path / "temporary"

    def celery_pulse(self) -> Pulse:
        """Give the pulse of Celery's main process."""
        return Pulse(self.path / "celery.pulse")

    def remove(self) -> None:
        """Remove the directory, also when a process that is ending still writes into it."""
        for _ in range(_TRIES):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                return
            time.sleep(_PAUSE_S)
