r"""A chat: what one says, all read, also those who say nothing; and nobody is disconnected when the code is reloaded.

    paceline serve examples/chat.py:Room --workers 1
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\n' >&3; head -n 2 <&3"

A room is in the memory of one worker, so there is one of them; with more, each would have a room of its own.  For the
moment of a reload there are two: what is said while connections move reaches those who are where the speaker is.
"""

import paceline


@paceline.message(framing="line")
class Room:
    def __init__(self) -> None:
        self.members: set[paceline.Connection] = set()

    def connected(self, connection: paceline.Connection) -> bytes:
        self.members.add(connection)
        return b"%d here" % len(self.members)

    def arrived(self, connection: paceline.Connection) -> None:
        """It was connected before the code was reloaded."""
        self.members.add(connection)

    def disconnected(self, connection: paceline.Connection) -> None:
        self.members.discard(connection)

    def __call__(self, message: bytes, connection: paceline.Connection) -> None:
        for member in list(self.members):
            try:
                member.send(connection.peer.encode() + b": " + message)
            except BlockingIOError:  # it does not read: the others need not wait for it
                print(f"{member.peer} misses a message")
            except BrokenPipeError:  # it has moved, or is about to leave
                self.members.discard(member)
