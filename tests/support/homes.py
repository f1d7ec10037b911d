"""A ready home: keys and a migrated ledger, with settings that lead nowhere else."""

from ledger import Keys, upgrade
from ledger.settings import Settings

__all__ = ["CLOSED_REDIS", "make_home"]

# Nothing listens on port 1: ringing fails at once, and no server of this machine is rung.
CLOSED_REDIS = "redis://127.0.0.1:1/0"


def make_home(folder, **changed):
    """Make keys and ledger in *folder* and give the settings that find them."""
    settings = Settings(home=folder, **{"redis_url": CLOSED_REDIS, **changed})
    Keys.create(settings.keys_dir)
    upgrade(settings.ledger_url)
    return settings
