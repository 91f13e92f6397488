"""Calls that wait at gates, for tests of worker/watcher.py."""

import socket

from leftovers import eventually
from paceline.scoreboard.fields import ThreadState
from paceline.worker.crew import Member
from workerbed import Bed, Gate


class Slow:
    """Echoes lines; those that begin with `slow` wait at a gate of their own."""

    def __init__(self, *names: bytes) -> None:
        self.gates = {name: Gate() for name in names}

    def __call__(self, message: bytes) -> bytes:
        if message in self.gates:
            self.gates[message].wait()
        return message

    def open(self) -> None:
        for gate in self.gates.values():
            gate.open()


def leader_of(worker: Bed) -> Member:
    leader = worker.worker.crew.roles.leader
    assert leader is not None
    return leader


def wait_polling(worker: Bed) -> None:
    eventually(lambda: leader_of(worker).words[leader_of(worker).state] == ThreadState.POLLING)


def enter(worker: Bed, handler: Slow, name: bytes) -> socket.socket:
    """A client whose call waits at its gate."""
    client = worker.connect()
    client.sendall(name + b"\n")
    handler.gates[name].wait_entered()
    return client
