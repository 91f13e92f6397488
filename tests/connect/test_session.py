"""connect/session.py: what is awaited, and how long it took."""

from paceline.connect.session import Reply, Session, State

TIMEOUT = 1000


def session(*, is_raw: bool = False, timeout_ns: int | None = TIMEOUT) -> Session:
    made = Session(is_raw=is_raw, timeout_ns=timeout_ns)
    made.on_open()
    return made


def test_replies_answer_the_oldest_messages_in_order() -> None:
    s = session()
    s.on_sent(100)
    s.on_sent(200, 2)
    assert s.awaited == 3
    assert s.on_replies([b"a", b"b"], 250) == [Reply(b"a", 150), Reply(b"b", 50)]
    assert s.on_replies([b"c", b"d"], 300) == [Reply(b"c", 100), Reply(b"d", None)]
    assert s.awaited == 0


def test_without_a_framing_the_first_bytes_answer_all_that_is_awaited() -> None:
    s = session(is_raw=True)
    s.on_sent(100)
    s.on_sent(150)
    assert s.on_replies([b"a"], 200) == [Reply(b"a", 100)]
    assert s.on_replies([b"b"], 300) == [Reply(b"b", None)]


def test_what_waited_too_long_is_awaited_no_more() -> None:
    s = session()
    assert s.due_ns is None
    s.on_sent(100, 2)
    s.on_sent(600)
    assert s.due_ns == 100 + TIMEOUT
    assert s.give_up(99 + TIMEOUT) == 0
    assert s.give_up(100 + TIMEOUT) == 2
    assert s.due_ns == 600 + TIMEOUT
    assert s.on_replies([b"a"], 1200) == [Reply(b"a", 600)]


def test_without_a_time_out_nothing_is_given_up() -> None:
    s = session(timeout_ns=None)
    s.on_sent(100)
    assert s.due_ns is None
    assert s.give_up(10**18) == 0
    assert s.awaited == 1


def test_sending_nothing_awaits_nothing() -> None:
    s = session()
    s.on_sent(100, 0)
    assert (s.awaited, s.due_ns) == (0, None)


def test_states() -> None:
    s = Session(is_raw=False, timeout_ns=TIMEOUT)
    states = [s.state]
    s.on_our_end()
    states.append(s.state)
    s.on_open()
    s.on_sent(100)
    s.on_our_end()
    states.append(s.state)
    assert states == [State.CLOSED, State.CLOSED, State.ENDED]
    s.on_closed()
    assert (s.state, s.due_ns, s.awaited) == (State.CLOSED, None, 1)
    s.on_open()
    assert (s.state, s.awaited) == (State.OPEN, 0)
