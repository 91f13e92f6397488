"""uvloop with a Protocol, inside TLS: `python -m benchmarks.peers.uvloop_tls HANDLER CERTIFICATE KEY`."""

import uvloop

from benchmarks.peers import handler_from_command_line, tls_from_command_line
from benchmarks.peers.asyncio_protocol import protocol_for, serve

uvloop.run(serve(protocol_for(handler_from_command_line()), tls_from_command_line()))
