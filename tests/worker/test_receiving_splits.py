"""A message does not depend on how its bytes arrived, nor on where: it may begin in one worker and end in another.

Each framing in the box, cut in two at every place, with a move between the two parts: to a worker of the same code,
which goes on with what its framing had kept, and to one of newer code, which cuts the bytes anew.
"""

import pytest

from house import GENERATION, House, house
from leftovers import eventually
from paceline.wire import Broken, as_framing
from takerbed import Taker
from workerbed import Bed, bed, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")

STREAMS = {
    "raw": b"anything at all",
    "line": b"one\r\n\ntwo\nthree \r four\n",
    r"delimiter:\r\n": b"one\r\n\r\nt\rwo\r\n\nthree\r\n",
    "length:1": b"\x03one\x00\x05three",
    "length:4": b"\x00\x00\x00\x03one\x00\x00\x00\x00\x00\x00\x00\x05three",
    "length:2:little": b"\x03\x00one\x00\x00\x05\x00three",
    "fixed:4": b"one two thr",
    "netstring": b"3:one,0:,12:twelve bytes,",
}


def replies_to(framing: str, stream: bytes) -> bytes:
    """What an echo sends back."""
    made = as_framing(framing, 1 << 20)
    messages, rest = made.cut(None, stream)
    assert not isinstance(rest, Broken)
    return made.join(list(messages))


def move(sender: Bed, seats: House, there: Taker) -> None:
    """The one connection, when all that was sent so far is received."""
    sender.wait_parked()
    tables = sender.worker.tables
    (fd,) = tables.open
    c = tables.parked.pop(fd)
    giving = seats.giving(sender.worker)
    assert giving.try_give(c, giving.takers(any_generation=True), 1)
    assert there.receiving.receive()


@pytest.mark.parametrize("generation", [GENERATION, GENERATION + 1], ids=["same code", "newer code"])
@pytest.mark.parametrize("framing", STREAMS)
def test_at_every_place(framing: str, generation: int) -> None:
    stream = STREAMS[framing]
    expected = replies_to(framing, stream)
    with (
        house(2) as seats,
        bed(lambda message: message, framing=framing) as sender,
        bed(lambda message: message, framing=framing) as receiver,
    ):
        there = Taker(receiver, seats, generation=generation)
        for at in range(len(stream) + 1):
            client = sender.connect()
            before = sender.thread_total("bytes_in")
            client.sendall(stream[:at])
            eventually(lambda: sender.thread_total("bytes_in") == before + at)  # noqa: B023 - it is called here
            move(sender, seats, there)
            client.sendall(stream[at:])
            assert receive_exactly(client, len(expected)) == expected, f"cut at {at}"
            client.close()
        assert receiver.cell("received") == len(stream) + 1
        there.receiving.spare.close()


def test_back_and_forth_after_each_byte() -> None:
    stream = STREAMS["netstring"]
    with (
        house(2) as seats,
        bed(lambda message: message, framing="netstring") as one,
        bed(lambda message: message, framing="netstring") as other,
    ):
        takers = [Taker(one, seats, 0), Taker(other, seats, 1)]
        client = one.connect()
        for at in range(len(stream)):
            holder, there = (one, takers[1]) if at % 2 == 0 else (other, takers[0])
            before = holder.thread_total("bytes_in")
            client.sendall(stream[at : at + 1])
            eventually(lambda: holder.thread_total("bytes_in") == before + 1)  # noqa: B023 - it is called here
            holder.wait_parked()
            tables = holder.worker.tables
            (c,) = holder.connections()
            assert tables.parked.pop(c.fd) is c
            giving = seats.giving(holder.worker, at % 2)
            assert giving.try_give(c, giving.takers(), 1)
            assert there.receiving.receive()
        expected = replies_to("netstring", stream)
        assert receive_exactly(client, len(expected)) == expected
        for taker in takers:
            taker.receiving.spare.close()
