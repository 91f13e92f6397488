"""Where an address is, for a client: looked up once, before any load process starts."""

import socket
from typing import Any

from paceline.addresses import Address
from paceline.errors import UsageError
from paceline.host.dialing import look_up


def place_of(address: Address) -> tuple[int, Any]:
    """(address family, address) for connect(2).  `:PORT` is this machine.

    Raises ConnectFailed for a name that nobody knows, UsageError for what cannot be connected to.
    """
    match address.kind:
        case "unix":
            return socket.AF_UNIX, address.path
        case "fd":
            raise UsageError(
                f"{address.text} is a listening socket that somebody inherited; bench connects to addresses: HOST:PORT "
                "or unix:PATH"
            )
    if address.port == 0:
        raise UsageError(f"{address.text}: nobody listens on port 0; give the one that the server says it listens on")
    # A server on "localhost" listens on 127.0.0.1 as a rule, and ::1 often comes first.
    family, _, _, _, place = min(look_up(address), key=lambda entry: entry[0] != socket.AF_INET)
    return family, place
