r"""A framing of your own: what many instruments speak on a serial line, here behind a serial-to-Ethernet box.

    paceline serve examples/own_framing.py:scale
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf '\002W 12500 g\003' >&3; head -c 14 <&3"

Each message stands between the bytes STX and ETX.  A byte of the message that is itself STX, ETX or DLE has a DLE put
in front, so that nothing in a message can be mistaken for its end.

A framing is two methods: `cut` makes messages of what arrives, `join` makes bytes of what is answered.  One object
serves all connections from many threads, so it remembers none of them.  What must be remembered of a connection is its
`rest`: `cut` returns it, and is given it again with the next bytes of that connection.  None means that nothing is
unfinished.

This one looks at each byte in Python.  That is easy to read, and right for instruments.  Where speed counts, let bytes
do the search: data.split(b"\x03") looks at a hundred bytes in the time that a loop looks at one.
"""

from collections.abc import Sequence
from typing import Any

import paceline

STX, ETX, DLE = 0x02, 0x03, 0x10


class StxEtx:
    def __init__(self, *, limit: int) -> None:
        self.limit = limit  # bytes of a message: without a limit, one peer could fill the memory

    def cut(self, rest: Any, data: bytes) -> tuple[list[bytes], Any]:
        """The complete messages, and as rest the unfinished one: [its bytes so far, whether a DLE came last]."""
        messages: list[bytes] = []
        if isinstance(rest, paceline.Broken):
            return messages, rest
        for byte in data:  # which begins and ends anywhere: inside a message, or between a DLE and its byte
            if rest is None:
                if byte != STX:
                    return messages, broken(f"{byte:#04x} where a message begins with STX (0x02)")
                rest = [bytearray(), False]
            elif rest[1] or byte not in (STX, ETX, DLE):
                if len(rest[0]) == self.limit:
                    return messages, broken(f"a message of more than {self.limit} bytes")
                rest[0].append(byte)  # in place, so that the work stays in proportion to the bytes
                rest[1] = False
            elif byte == DLE:
                rest[1] = True
            elif byte == ETX:
                messages.append(bytes(rest[0]))
                rest = None
            else:
                return messages, broken("STX inside a message: the ETX before it is lost")
        return messages, rest

    def join(self, replies: Sequence[bytes]) -> bytes:
        return b"".join([b"\x02" + self.escaped(reply) + b"\x03" for reply in replies])

    def escaped(self, reply: bytes) -> bytes:
        for special in (b"\x10", b"\x02", b"\x03"):  # DLE first, or those put in for the others would be doubled
            reply = reply.replace(special, b"\x10" + special)
        return reply


def broken(what: str) -> paceline.Broken:
    """The rest of a peer that broke the rules: the messages before are answered, then the connection is closed."""
    return paceline.Broken(paceline.BadFrame(f"the peer sent {what}"))


@paceline.message(framing=StxEtx(limit=256))
def scale(message: bytes) -> bytes:
    """`W 12500 g` is a weight, answered in kilograms."""
    match message.split():
        case [b"W", grams, b"g"] if grams.isdigit():
            return b"OK %.3f kg" % (int(grams) / 1000)
    return b"ERROR " + message
