r"""A class with hooks: what is made once for each worker process, and what is remembered of each connection.

    paceline serve examples/greet.py:Greeter
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'Ada\nbye\n' >&3; cat <&3"

It greets first, asks for a name, and ends the connection at `bye`.
"""

import os

import paceline


@paceline.message(framing="line")
class Greeter:
    """Built once in each worker process; its threads share the one object."""

    def start(self) -> None:
        """Before the first connection: open here what all calls use, a pool of database connections, a model."""
        self.place = f"process {os.getpid()}"

    def connected(self, connection: paceline.Connection) -> bytes:
        """Somebody has connected; what is returned is sent before anything arrives."""
        return f"Welcome to {self.place}, {connection.peer}. Who are you?".encode()

    def __call__(self, line: bytes, connection: paceline.Connection) -> bytes | paceline.Close:
        if connection.state is None:
            connection.state = line.decode("utf-8", "replace").strip() or "nobody"
            return f"Hello {connection.state}. Say something, or bye.".encode()
        if line.strip() == b"bye":
            return paceline.Close(f"Goodbye {connection.state}.".encode())
        return f"{connection.state} said: ".encode() + line

    def disconnected(self, connection: paceline.Connection) -> None:
        """Whoever it was is gone, in whichever way.  What is printed goes to standard error."""
        print(f"{connection.state or 'somebody'} left after {connection.messages} lines")
