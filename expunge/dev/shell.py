"""How another shell finds a dev stack: a config file, a directory of secrets, and a file to source.

The key stands in neither of the two files: it is a secret file of mode 0600.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Final

from ledger.settings import Settings, environment_name, setting_fields
from ledger.streams import DEFAULT_STREAM

__all__ = ["write_shell_files"]

_SECRETS: Final = "secrets"
# Given by `env`, or only to this stack's own processes.
_NOT_IN_CONFIG: Final = frozenset(
    {
        *("memos_api_key", "memos_base_url", "redis_url", "config", "home"),
        *("ledger_admin_url", "health_address", "health_port"),
    }
)


def write_shell_files(settings: Settings) -> Path:
    """Write `expunge.toml`, `secrets/` and `env` into the folder of the settings' config file.

    Args:
        settings: The stack's own.

    Returns:
        The file to source.

    Raises:
        TypeError: The settings name no config file.
    """
    if settings.config is None:
        raise TypeError("The settings of a dev stack name a config file.")
    folder = settings.config.parent
    secrets = folder / _SECRETS
    secrets.mkdir(mode=0o700, exist_ok=True)
    if settings.memos_api_key is not None:
        _write(secrets / "memos_api_key", settings.memos_api_key.get_secret_value() + "\n")
    _write(settings.config, _config(settings))
    env = folder / "env"
    _write(env, _exports(settings, secrets))
    return env


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whatever it was before."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _config(settings: Settings) -> str:
    lines = ["# Written by `expunge dev` at each start."]
    for field in setting_fields():
        value = getattr(settings, field)
        if field not in _NOT_IN_CONFIG and value is not None:
            number = isinstance(value, int | float)
            lines.append(f"{field} = {_toml(value if number else str(value))}")
    lines += ["", f"[streams.{_toml(DEFAULT_STREAM)}]", 'principal = "dev"', ""]
    return "\n".join(lines)


def _toml(value: str | float) -> str:
    """Give a number, or a text as TOML's basic string, which is JSON's but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _exports(settings: Settings, secrets: Path) -> str:
    given = {
        "EXPUNGE_CONFIG": str(settings.config),
        # For what commands keep besides, such as how far an import is.
        "EXPUNGE_HOME": str(secrets.parent),
        "EXPUNGE_REDIS_URL": settings.redis_url,
        "EXPUNGE_SECRETS_DIR": str(secrets),
        "MEMOS_BASE_URL": settings.memos_base_url,
    }
    # What the shell has of its own would go before the config file.
    others = sorted({environment_name(field) for field in setting_fields()} - set(given))
    lines = [
        "# Written by `expunge dev` at each start, for shells: . env",
        f"unset {' '.join(others)}",
        *(f"export {name}={shlex.quote(value)}" for name, value in given.items()),
        "",
    ]
    return "\n".join(lines)
