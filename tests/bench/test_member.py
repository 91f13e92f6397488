"""bench/member.py: the socket to the parent.  What the process does is in test_run.py."""

import json
import socket
import threading

import pytest

from paceline.bench.member import Control

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_long_line_in_many_pieces_and_what_follows_it() -> None:
    """16 MiB, each byte looked at once: a job with a file of messages is as long as that."""
    ours, theirs = socket.socketpair()
    job, stop = {"plan": "x" * (16 << 20)}, {"stop": True}
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in (job, stop))
    sender = threading.Thread(target=ours.sendall, args=(lines,))
    with ours:
        control = Control(theirs.detach())
        sender.start()
        assert control.wait_heard() == job
        sender.join()
        assert control.is_told_to_stop()
        assert control.wait_heard() == stop
        control._socket.close()
