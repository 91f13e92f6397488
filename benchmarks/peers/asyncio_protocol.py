"""asyncio with its fast interfaces: `python -m benchmarks.peers.asyncio_protocol HANDLER [WAY]`.

plain      a Protocol, which is what people write
buffered   a BufferedProtocol, which brings its own memory to receive into.  For the others the loop asks for 256 KiB
           each time, which costs an mmap, mremap and munmap per message, and hides what streams cost beside them.
"""

import asyncio
import ssl
import sys
from typing import Any

from benchmarks.peers import (
    BACKLOG,
    RECEIVE_BYTES,
    Handler,
    handler_from_command_line,
    listen,
    say_listening,
    way_from_command_line,
)


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


class Buffered(asyncio.BufferedProtocol):
    """As Echo or Answer, but received into memory that all connections of the loop share, since it is used at once."""

    room = memoryview(bytearray(RECEIVE_BYTES))
    handler: Handler | None = None

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def get_buffer(self, _hint: int) -> memoryview:
        return self.room

    def buffer_updated(self, count: int) -> None:
        data = bytes(self.room[:count])
        self.write(self.handler(data) if self.handler else data)


def buffered_for(handler: Handler | None) -> type[asyncio.BufferedProtocol]:
    return type("Buffering", (Buffered,), {"handler": staticmethod(handler)}) if handler else Buffered


def protocol_for(handler: Handler | None) -> type[asyncio.Protocol]:
    return type("Answering", (Answer,), {"handler": staticmethod(handler)}) if handler else Echo


async def serve(protocol: type[asyncio.BaseProtocol], tls: ssl.SSLContext | None = None) -> None:
    listener = listen()
    listener.setblocking(False)
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener, backlog=BACKLOG, ssl=tls)
    say_listening(listener)
    await server.serve_forever()


def protocol_from_command_line() -> type[asyncio.BaseProtocol]:
    chosen = buffered_for if way_from_command_line("plain", "buffered") == "buffered" else protocol_for
    return chosen(handler_from_command_line())


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(protocol_from_command_line())))
