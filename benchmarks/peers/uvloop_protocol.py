"""uvloop, the fastest event loop for Python, with a Protocol: the strongest peer whose users write Python."""

import uvloop

from benchmarks.peers import handler_from_command_line
from benchmarks.peers.asyncio_protocol import protocol_for, serve

uvloop.run(serve(protocol_for(handler_from_command_line())))
