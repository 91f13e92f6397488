"""How many connections are in flight in a way (passing.py): sent into it by anybody, and not yet received.

The kernel knows.  It charges what a datagram takes to the socket that sent it until the datagram is received, and says
the sum (SIOCOUTQ, unix(7)).  All workers send to a seat through one socket that they inherited, so the sum is that of
all of them.  It counts memory rather than datagrams; small records cost the same, a long one counts for several.
"""

import os
import socket

from paceline.host import passing, streams


def charged_bytes(writer: socket.socket) -> int:
    """What is in flight behind this writing end; 0 where the kernel does not tell."""
    return streams.unsent_bytes(writer.fileno())


def charge_of(record: bytes) -> int:
    """What one connection with such a record is charged while it is in flight, at least 1: measured, on a way of our
    own.  Raises OSError when there are no descriptors for that.
    """
    reader, writer = passing.pair()
    try:
        with open(os.devnull, "rb") as something:
            passing.send_connection(writer, something.fileno(), record)
        return max(1, charged_bytes(writer))
    finally:
        reader.close()
        writer.close()
