"""worker/relief.py: a worker all of whose threads are in calls leaves new connections to others."""

import pytest

from leftovers import eventually
from paceline.worker.gate import Shut
from slowcalls import Slow, enter, wait_polling
from workerbed import bed, receive_exactly


def test_a_saturated_worker_leaves_new_connections_to_its_siblings() -> None:
    handler = Slow(b"slow1", b"slow2")
    with bed(handler, framing="line", threads=2, listen=True) as worker:
        for name in (b"slow1", b"slow2"):
            client = worker.call_in()
            client.sendall(name + b"\n")
            handler.gates[name].wait_entered()
            worker.tick_until_led()
        assert Shut.SATURATED not in worker.worker.gate.reasons, "not before it was so for a whole tick"
        worker.tick(2)
        assert worker.worker.gate.reasons == {Shut.SATURATED}
        assert worker.cell("saturated") == 1
        assert worker.cell("saturations") == 1
        waiting = worker.call_in()
        waiting.sendall(b"ping\n")
        worker.tick(10)
        assert worker.cell("accepted") == 2
        assert len(worker.log.find("saturated")) == 1
        handler.gates[b"slow1"].open()
        assert receive_exactly(waiting, 5) == b"ping\n"
        assert not worker.worker.gate.reasons, "who came back first opened it"
        # Its handler counts as blocking now, so it gave the lead away for this call too, and takes it after its reply.
        eventually(lambda: worker.worker.crew.roles.leader is not None)
        worker.tick()
        assert worker.cell("saturated") == 0
        handler.open()


def test_saturation_says_how_many_wait() -> None:
    handler = Slow(b"slow")
    with bed(handler, framing="line", threads=1, listen=True) as worker:
        client = worker.call_in()
        client.sendall(b"slow\n")
        handler.gates[b"slow"].wait_entered()
        waiting = [worker.call_in() for _ in range(3)]
        worker.tick_until_led()
        eventually(lambda: worker.parts.watcher.relief.waiting() == 3)  # a client is connected a moment earlier
        worker.tick(2)
        said = worker.log.wait_for("saturated")
        assert said == {"threads": 1, "waiting": ", 3 connections wait"}
        worker.look(in_calls=True)
        assert worker.cell("waiting") == 3
        handler.open()
        for client in waiting:
            client.sendall(b"ping\n")
            assert receive_exactly(client, 5) == b"ping\n"


def test_somebody_came_back_while_the_gate_was_being_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader looked at the gate before it was shut, and does not look again: the watcher opens it itself."""
    handler = Slow(b"slow")
    with bed(handler, framing="line", threads=1) as worker:
        gate = worker.worker.gate
        client = enter(worker, handler, b"slow")
        worker.tick_until_led()
        shut = gate.shut

        def shut_late(reason: Shut) -> None:
            handler.open()
            assert receive_exactly(client, 5) == b"slow\n"
            eventually(lambda: worker.worker.crew.roles.leader is not None)
            wait_polling(worker)
            shut(reason)

        monkeypatch.setattr(gate, "shut", shut_late)
        worker.tick(2)
        assert not gate.reasons
        assert worker.cell("saturated") == 0
        assert not worker.log.find("saturated")


def test_a_worker_that_can_make_another_thread_is_not_saturated() -> None:
    handler = Slow(b"slow")
    with bed(handler, framing="line", threads=2) as worker:
        enter(worker, handler, b"slow")
        worker.tick_until_led()
        worker.tick(5)
        assert worker.cell("saturated") == 0
        handler.open()
