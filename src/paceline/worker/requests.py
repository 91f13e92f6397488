"""Handlers that were written for socketserver, unmodified: an instance for each connection, which holds a thread.

The instance does everything when it is made: setup, handle, finish.  It is given what the standard library gives it:
the connection, the address of the peer as accept(2) tells it, and its server.  That is a `Server`, one for all
connections of a worker, which has what handlers ask theirs for.  What else they ask for, the handler class may bring
along as an attribute `server` (a dispatcher of XML-RPC, a name of a logger).
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

from paceline.worker.held import HeldSocket


class RequestCall:
    """Call it with a connection: the handler class is called as its server would."""

    def __init__(self, make: Callable[..., object], listener: socket.socket) -> None:
        """`make`: the handler class, or a functools.partial of it."""
        self.make = make
        self.server = Server(make, listener)

    def __call__(self, request: HeldSocket) -> None:
        # The name of one that has no name is "", as accept says it (unix(7)).
        self.make(request, request.peer_address, self.server)


class Server:
    """What a handler finds as `self.server`.  Handlers of all connections of the worker share it, each in its thread.

    server_address       where it listens, in the shape of the address family; of several, the first
    server_name          the host's name (as http.server has it), asked for when somebody wants it; server_port
    RequestHandlerClass  the handler
    """

    timeout = None
    allow_reuse_address = True
    allow_reuse_port = False
    daemon_threads = True
    block_on_close = True
    max_children = 0

    def __init__(self, make: Callable[..., object], listener: socket.socket) -> None:
        while isinstance(make, partial):
            make = make.func
        self.RequestHandlerClass = make
        self.server_address = listener.getsockname()
        self.address_family = listener.family
        self.socket_type = listener.type
        self._brought = getattr(make, "server", None)

    @cached_property
    def server_name(self) -> str:
        return socket.getfqdn(self.server_address[0]) if isinstance(self.server_address, tuple) else ""

    @property
    def server_port(self) -> int:
        if not isinstance(self.server_address, tuple):
            raise AttributeError("a Unix socket has no port")  # noqa: TRY004 - asked with hasattr
        return int(self.server_address[1])

    def shutdown(self) -> None:
        """Raises RuntimeError: a handler does not end a Paceline."""
        raise RuntimeError("a handler cannot end the server that runs it; `paceline ctl stop` does, or SIGTERM")

    def shutdown_request(self, request: socket.socket) -> None:
        """End a connection, as a server does after its handler."""
        with suppress(OSError):  # the peer was quicker
            request.shutdown(socket.SHUT_WR)
        self.close_request(request)

    def close_request(self, request: socket.socket) -> None:
        request.close()

    def __getattr__(self, name: str) -> Any:
        """What the handler class has brought along.  Raises AttributeError, which says how to."""
        brought = self.__dict__.get("_brought")
        if brought is not None and not name.startswith("__"):
            with suppress(AttributeError):
                return getattr(brought, name)
        kind = getattr(self.__dict__.get("RequestHandlerClass"), "__name__", "the handler class")
        raise AttributeError(
            f"the handler asks its server for {name!r}, which Paceline's does not have; "
            f"give {kind} a class attribute `server`, an object that has it"
        )
