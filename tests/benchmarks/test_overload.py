"""benchmarks/overload.py: what becomes of messages that are due at a rate, and how it is summed up."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from benchmarks import overload
from benchmarks.measure import usable_cores
from benchmarks.overload import ANSWERED, OUTCOMES, REFUSED, Phase, Scenario, Sent, normal_after_s, send, words_of
from benchmarks.running import MeasurementError

pytestmark = pytest.mark.usefixtures("nothing_left")

UNSENT = OUTCOMES.index("unsent")


def answered(due_s: float, took_s: float, late_s: float = 0.0) -> Sent:
    return Sent(due_s, due_s + late_s, due_s + took_s, ANSWERED)


def test_a_phase_is_summed_up() -> None:
    phase = Phase(3.0, 10.0, 12.0, [answered(10.0, 0.010, 0.004)] * 6)
    phase.messages += [Sent(11.0, 11.0, 11.02, REFUSED)] * 2 + [Sent(11.5, None, 11.5, UNSENT)] * 2
    assert phase.goodput == 3.0
    assert phase.p99_ms(from_due=True) == pytest.approx(10.0)
    assert phase.p99_ms(from_due=False) == pytest.approx(6.0)
    assert phase.refused_p50_ms() == pytest.approx(20.0)
    assert phase.late_ms() == pytest.approx(4.0)
    assert phase.shares() == {"answered": 0.6, "refused": 0.2, "unsent": 0.2}


def test_when_it_is_normal_again() -> None:
    quick = [answered(10.0 + at / 100, 0.01) for at in range(100)]
    assert normal_after_s(Phase(0.3, 10.0, 11.0, quick), 0.02) == 0.0
    late = [answered(10.0 + at / 100, 0.5 if at < 25 else 0.01) for at in range(100)]
    assert normal_after_s(Phase(0.3, 10.0, 11.0, late), 0.02) == pytest.approx(0.3)
    lost = [*quick[:50], *(Sent(10.5 + at / 100, 10.5, 11.5, REFUSED) for at in range(9)), *quick[60:]]
    assert normal_after_s(Phase(0.3, 10.0, 11.0, lost), 0.02) == pytest.approx(0.6)


def test_messages_belong_to_the_phase_in_which_they_were_due() -> None:
    sent = [answered(at / 10, 0.01) for at in range(30)]
    phases = list(overload._phases([(0.3, 1.0), (3.0, 2.0)], sent))
    assert [(phase.times, len(phase.messages)) for phase in phases] == [(0.3, 10), (3.0, 20)]


@contextmanager
def serving(answers: int) -> Iterator[int]:
    """Echoes on a thread for each connection; hangs up on who asks when so many were answered."""
    left = iter(range(answers))

    def converse(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            while (received := connection.recv(64)) and next(left, None) is not None:
                connection.sendall(received)

    threads: list[threading.Thread] = []

    def accept_all() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=converse, args=(listener.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threads.append(threading.Thread(target=accept_all))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


def outcomes(sent: list[Sent]) -> dict[str, int]:
    names = [OUTCOMES[each.outcome] for each in sent]
    return {name: names.count(name) for name in OUTCOMES if name in names}


@pytest.mark.parametrize("is_fresh", [False, True])
def test_every_message_comes_to_an_end(is_fresh: bool) -> None:
    scenario = Scenario("some", "", 1, 20, is_fresh=is_fresh)
    with serving(20) as port:
        found = send(words_of(scenario, port, 10.0), [(50.0, 0.2), (100.0, 0.1)], usable_cores())
    assert outcomes(found) == {"answered": 20}
    assert [each.due_s for each in found] == pytest.approx(
        [at / 50 for at in range(10)] + [0.2 + at / 100 for at in range(10)]
    )
    assert all(each.sent_s is not None and each.due_s <= each.sent_s <= each.done_s for each in found)


def test_whoever_finds_no_connection_free_or_is_not_answered_is_counted() -> None:
    """The one that the server never answers keeps the only connection, until its patience is over."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = words_of(Scenario("some", "", 1, 1), listener.getsockname()[1], 0.2)
        found = send(words, [(100.0, 0.1)], usable_cores())
    assert outcomes(found) == {"unsent": 9, "given up": 1}


def test_who_is_hung_up_on_is_refused() -> None:
    with serving(1) as port:
        found = send(words_of(Scenario("some", "", 1, 1), port, 10.0), [(100.0, 0.02)], usable_cores())
    assert found[0].outcome == ANSWERED
    assert found[1].outcome == REFUSED


def test_a_wrong_option_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="--fresh goes with one message"):
        send([*words_of(Scenario("some", "", 1, 1, in_flight=2, is_fresh=True), 1, 1.0)], [(1.0, 1.0)], usable_cores())
