"""asyncio inside TLS: `python -m benchmarks.peers.asyncio_tls HANDLER WAY CERTIFICATE KEY`; see uvloop_tls.py."""

import asyncio

from benchmarks.peers import tls_from_command_line
from benchmarks.peers.asyncio_protocol import protocol_from_command_line, serve

asyncio.run(serve(protocol_from_command_line(), tls_from_command_line()))
