"""Peers whose connection is cut at a random place: what was whole is delivered, what was cut never is.

Each message carries a checksum of itself, and the handler looks at it.  Half of the peers end in order, and must have
the replies to all that was whole and no more; the others break off.

A test prints its seed; PACELINE_SEED repeats it.  PACELINE_LONG=1 makes 10,000 cuts for each framing.
"""

import os
import random
import zlib
from collections.abc import Callable

import pytest

from peer import Peer
from testbed import running

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
CUTS = 10_000 if IS_LONG else 300

APP = {
    "app.py": """
    import zlib

    def check(message):
        text = bytes(message)
        if b"%08x" % zlib.crc32(text[8:]) != text[:8]:
            print("BROKEN", text)
        return text
    """
}

FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "line": lambda text: text + b"\n",
    "length:1": lambda text: len(text).to_bytes(1, "big") + text,
    "length:4": lambda text: len(text).to_bytes(4, "big") + text,
    "delimiter:|+": lambda text: text + b"|+",
    "fixed:24": lambda text: text,
    "netstring": lambda text: b"%d:%s," % (len(text), text),
}


def summed(body: bytes) -> bytes:
    """The message of this body."""
    return b"%08x" % zlib.crc32(body) + body


def frames_of(framing: str, chance: random.Random) -> list[bytes]:
    """Some whole ones, as they are on the wire."""
    frame = FRAMINGS[framing]
    lengths = [
        16 if framing == "fixed:24" else chance.choice((0, 1, 7, 100, 200)) for _ in range(chance.randrange(1, 6))
    ]
    return [frame(summed(bytes(chance.choice(b"0123456789abcdef ") for _ in range(length)))) for length in lengths]


@pytest.mark.timeout(600 if IS_LONG else 60)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_message_that_is_cut_is_never_taken_for_a_whole_one(framing: str) -> None:
    seed = int(os.environ.get("PACELINE_SEED", random.randrange(2**32)))
    print(f"PACELINE_SEED={seed}")
    chance = random.Random(seed)
    with running("app.py:check", "--framing", framing, "--workers", "2", files=APP) as server:
        place = server.places[0]
        for number in range(CUTS):
            frames = frames_of(framing, chance)
            text = b"".join(frames)
            cut = chance.randrange(len(text) + 1)
            with Peer(place) as peer:
                at = chance.randrange(cut + 1)
                peer.send(text[:at], text[at:cut])
                if chance.random() < 0.5:
                    peer.reset()
                    continue
                peer.half_close()
                whole, length = [], 0
                for each in frames:
                    length += len(each)
                    if length <= cut:
                        whole.append(each)
                replies = peer.receive_all()
                assert replies == b"".join(whole), f"cut {number}: {text[:cut]!r} of {text!r}"
        with server.connect() as last:
            last.half_close()
            assert last.receive_all() == b""
    print(f"{CUTS:,} cuts")
    assert "BROKEN" not in server.log
