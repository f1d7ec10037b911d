"""The socket of the health port: opened before anything else, so that a taken port is noticed."""

import errno
import socket
from typing import Final

from ledger.errors import SettingsError
from ledger.settings import Settings

__all__ = ["open_listener"]

_BACKLOG: Final = 16


def open_listener(settings: Settings) -> socket.socket | None:
    """Listen on the health port of the settings; None when there is none.

    Raises:
        SettingsError: The address is none of this machine's, or the port cannot be taken.
    """
    if settings.health_port is None:
        return None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.health_address,
            settings.health_port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except (OSError, UnicodeError):
        msg = (
            "EXPUNGE_HEALTH_ADDRESS is no address that this machine knows; "
            "write 127.0.0.1, or 0.0.0.0 inside a container."
        )
        raise SettingsError(msg) from None
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            msg = (
                "EXPUNGE_HEALTH_ADDRESS is no address of this machine; "
                "write 127.0.0.1, or 0.0.0.0 inside a container."
            )
            raise SettingsError(msg) from None
        msg = (
            f"The health port {settings.health_port} cannot be opened "
            f"({error.strerror or type(error).__name__}); another process may listen there. "
            "Set EXPUNGE_HEALTH_PORT to a free one (0 takes any), or unset it for none."
        )
        raise SettingsError(msg) from None
