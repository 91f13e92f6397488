"""Lines under uvloop, in the three ways people write them: `python -m benchmarks.peers.uvloop_lines HANDLER WAY`.

each      the handler for each line, a write for each reply: how it is usually written
joined    the handler for each line, one write for all replies of a piece of data: the careful way
inlined   the handler's work written into the loop (upper only), one write: no function call per line at all
"""

import asyncio
import sys
from typing import Any

import uvloop

from benchmarks.peers import Handler, handler_from_command_line
from benchmarks.peers.asyncio_protocol import serve

HANDLER: Handler = handler_from_command_line() or bytes


class Each(asyncio.Protocol):
    """Cuts lines, answers each with a write of its own."""

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def lines(self, data: bytes) -> list[bytes]:
        lines = (self.rest + data if self.rest else data).split(b"\n")
        self.rest = lines.pop()
        return lines

    def data_received(self, data: bytes) -> None:
        for line in self.lines(data):
            self.write(HANDLER(line) + b"\n")


class Joined(Each):
    """One write for all that came together."""

    def data_received(self, data: bytes) -> None:
        replies = [HANDLER(line) for line in self.lines(data)]
        replies.append(b"")
        self.write(b"\n".join(replies))


class Inlined(Each):
    """The same bytes go out, but nothing of the user's is called."""

    def data_received(self, data: bytes) -> None:
        lines = (self.rest + data if self.rest else data).split(b"\n")
        self.rest = lines.pop()
        lines = [line.upper() for line in lines]
        lines.append(b"")
        self.write(b"\n".join(lines))


uvloop.run(serve({"each": Each, "joined": Joined, "inlined": Inlined}[sys.argv[2]]))
