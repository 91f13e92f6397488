r"""A chat: what one says, all others read, also those who say nothing; and nobody notices when the code is reloaded.

    paceline serve examples/chat.py:Room --workers 1
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'hello\n' >&3; head -n 2 <&3"

A room is in the memory of one worker, so there is one of them; with more, each would have a room of its own.
"""

import paceline


@paceline.message(framing="line")
class Room:
    def __init__(self) -> None:
        self.members: dict[str, paceline.Connection] = {}

    def connected(self, connection: paceline.Connection) -> bytes:
        self.members[connection.peer] = connection
        return b"%d here" % len(self.members)

    def arrived(self, connection: paceline.Connection) -> None:
        """It was connected before the code was reloaded."""
        self.members[connection.peer] = connection

    def disconnected(self, connection: paceline.Connection) -> None:
        self.members.pop(connection.peer, None)

    def __call__(self, message: bytes, connection: paceline.Connection) -> None:
        for member in list(self.members.values()):
            try:
                member.send(connection.peer.encode() + b": " + message)
            except BlockingIOError:  # it does not read: the others need not wait for it
                print(f"{member.peer} misses a message")
            except BrokenPipeError:  # it is about to leave
                pass
