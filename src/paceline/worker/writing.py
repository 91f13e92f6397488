"""Replies on the wire: framed, encrypted where that is spoken, and sent as far as the peer takes them now.

Called by the thread that owns the connection, from serving.py.  What the peer does not take waits in `Connection.out`,
as it goes over the wire; nothing else is read of it or made for it until that is gone.
"""

from paceline.host import streams
from paceline.wire import BadReply
from paceline.worker.calls import Calls
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.ending import Ending
from paceline.worker.estimate import BATCH_BYTES
from paceline.worker.worker import Worker

TURN_BYTES = BATCH_BYTES
"""After so many bytes received and sent, a turn is over."""


class Writing:
    """The replies of one worker."""

    def __init__(self, worker: Worker, calls: Calls, ending: Ending) -> None:
        self.worker = worker
        self.calls = calls
        self.ending = ending
        self.join = worker.framing.join

    def put(self, c: Connection, replies: list[bytes], me: Member) -> int:
        """Put replies on the wire, as far as they go now; the rest waits in `c.out`.  How many bytes they are."""
        if not replies or c.is_closed:
            return 0
        try:
            joined = self.join(replies)
            if type(joined) is not bytes:
                joined = bytes(memoryview(joined))  # of a framing of the user's, which may use its buffer again
        except BadReply as error:
            # One of the user's may count wrongly.
            good = replies[: error.index] if isinstance(error.index, int) else []
            moved = self.put(c, good, me) if len(good) < len(replies) else 0
            if not c.is_closed:
                self.calls.refuse(c, f"what the framing cannot send ({error})", me)
            return moved
        except BaseException as error:  # noqa: BLE001 - a framing of the user's
            self.calls.fail_in("the framing's join", c, error, me)
            return 0
        if joined and c.secrecy is not None:
            joined = c.secrecy.seal(joined)
            if c.secrecy.error is not None:  # nothing can be said any more, and a reply may have no end
                self.ending.break_off(c, c.secrecy.error, me)
        if joined:
            c.out = joined if c.out is None else bytes(c.out) + joined
            self.flush(c, me)
        return len(joined)

    def flush(self, c: Connection, me: Member) -> bool:
        """Send what waits.  False: the peer takes no more for now, or is gone (then the connection is closed)."""
        out = c.out
        assert out is not None
        words = me.words
        try:
            while out:
                sent = streams.send(c.fd, out)
                words[me.bytes_out] += sent
                c.sent += sent
                if sent == len(out):
                    break
                out = memoryview(out)[sent:]
        except BlockingIOError:
            c.out = out
            return False
        except OSError:
            self.ending.lose(c, me)
            return False
        c.out = None
        if c.armed:
            c.armed = False
            self.worker.poller.want_output(c.fd, False)
        return True

    def send_of_file(self, c: Connection, me: Member) -> int | None:
        """Send a piece of the file that is the reply; how many bytes.  None: the peer takes no more now, or is gone."""
        if c.secrecy is not None:  # the kernel cannot encrypt it on its way
            piece = self.calls.read_of_file(c, TURN_BYTES, me)
            c.out = c.secrecy.seal(piece) or None if piece else None
            if c.secrecy.error is not None:
                self.ending.break_off(c, c.secrecy.error, me)
            return len(piece)
        try:
            sent = self.calls.send_of_file(c, TURN_BYTES, me)
        except BlockingIOError:
            c.out = b""  # room is waited for as for bytes that could not be sent
            return None
        except OSError:
            self.ending.lose(c, me)
            return None
        me.words[me.bytes_out] += sent
        c.sent += sent
        return sent
