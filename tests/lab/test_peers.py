"""lab/peers.py: the handler; its servers are started and asked in test_starting.py."""

import os
import socket
import threading

from paceline.lab import peers


def test_the_answer_is_the_process() -> None:
    for message in (b"quick", b"wait 1\n", b"compute 10", b"both 10 1"):
        assert peers.answer(message) == b"%d" % os.getpid()


def test_work() -> None:
    assert peers.compute(10) == 0 + 1 + 2 + 3 + 4 + 5 + 6 + 7 + 0 + 1


def test_a_conversation_lasts_until_the_client_leaves() -> None:
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=peers.converse, args=(theirs,))
    serving.start()
    with ours:
        ours.settimeout(10)
        ours.sendall(b"qui")
        ours.sendall(b"ck\nquick\n")
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as lines:
            assert lines.readlines() == [b"%d\n" % os.getpid()] * 2
    serving.join(10)
    assert not serving.is_alive()
    assert theirs.fileno() == -1
