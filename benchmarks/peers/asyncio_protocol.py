"""The standard library's event loop with the fastest interface it has, a Protocol (streams are slower)."""

import asyncio
import sys
from typing import Any

from benchmarks.peers import BACKLOG, Handler, handler_from_command_line, listen, say_listening


class Echo(asyncio.Protocol):
    """Every piece of data is its own reply."""

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


class Answer(Echo):
    """Every piece of data is a message for the handler, which runs in the loop."""

    handler: Handler

    def data_received(self, data: bytes) -> None:
        self.write(self.handler(data))


def protocol_for(handler: Handler | None) -> type[asyncio.Protocol]:
    return type("Answering", (Answer,), {"handler": staticmethod(handler)}) if handler else Echo


async def serve(protocol: type[asyncio.Protocol]) -> None:
    listener = listen()
    listener.setblocking(False)
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG)
    say_listening(listener)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(protocol_for(handler_from_command_line()))))
