"""Connections by a proxy: the first thing that comes says who the peer is, and nothing else is read before it.

The header is looked at where it lies, in the kernel's buffer, and taken out when all of it is there: what comes behind
it is left for whoever reads the connection, be that a framing or a whole-connection call.  No thread is held meanwhile.
Until then the connection is UNNAMED (lifecycle.py), and has a deadline of its own; what is no header ends it.
"""

from paceline.host import streams
from paceline.wire.proxy import LONGEST, NoHeader, parse
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.ending import Ending
from paceline.worker.lifecycle import Event, after
from paceline.worker.worker import Worker


class Naming:
    """The headers of one worker's connections."""

    def __init__(self, worker: Worker, ending: Ending) -> None:
        self.worker = worker
        self.ending = ending

    def go_on(self, c: Connection, me: Member) -> bool:
        """Look at what has arrived.  False: more is to come; else it has a name now, or is closed.  Its owner's."""
        try:
            is_all = streams.is_at_end(c.fd)  # asked first: what comes after that is looked at again
            seen = streams.peek(c.fd, LONGEST)
            header = parse(seen) if seen else None
        except BlockingIOError:
            return False
        except OSError:
            self.ending.lose(c, me)
            return True
        except NoHeader as error:
            self.worker.log.say("header-refused", peer=streams.peer_text(c.fd), why=str(error))
            c.reason = "broken"
            self.ending.close(c, me)
            return True
        if header is None:
            if seen and not is_all:
                return False
            c.reason = "peer"  # it went before it had said it, as a health check does that only connects
            self.ending.close(c, me)
            return True
        keeper = self.worker.doorkeeper
        if header.source and keeper is not None and not keeper.takes_named(c.fd, header.source):
            c.reason = "refused"
            self.ending.close(c, me)
            return True
        streams.receive(c.fd, header.length)  # all of it is there
        if c.owed is not None:
            c.owed -= header.length
        c.remember_peer(header.source or streams.peer_text(c.fd))
        c.phase = after(c.phase, Event.SECURE if c.way_in.secures else Event.NAMED)
        return True
