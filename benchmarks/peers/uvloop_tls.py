"""uvloop inside TLS, with a Protocol or a BufferedProtocol.

    python -m benchmarks.peers.uvloop_tls HANDLER plain|buffered CERTIFICATE KEY

plain      for each receive it asks Python's ssl for up to 256 KiB, allocated each time: an mmap, an mremap and a munmap
           per message, unless the process happens to have freed as large a piece before
buffered   receives into memory of the protocol's own: the fastest that uvloop can be inside TLS
"""

import uvloop

from benchmarks.peers import tls_from_command_line
from benchmarks.peers.asyncio_protocol import protocol_from_command_line, serve

uvloop.run(serve(protocol_from_command_line(), tls_from_command_line()))
