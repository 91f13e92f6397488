"""bench/patience.py, with the clock in the test's hands."""

from typing import Any

from paceline.bench.patience import GONE_NS, SECOND, Patience
from paceline.bench.troubles import Kind


def look(patience: Patience, at: float, **seen: Any) -> Kind | None:
    facts = {
        "answered": 0,
        "dropped": 0,
        "is_any_up": False,
        "failing": None,
        "losing": Kind.TIMEOUT,
        "is_waiting": False,
        **seen,
    }
    return patience.look(int(at * SECOND), **facts)


def test_refused_for_two_seconds_is_gone() -> None:
    patience = Patience(10 * SECOND, 0)
    assert look(patience, 2.0, failing=Kind.REFUSED) is None
    assert look(patience, 2.1, failing=Kind.REFUSED) is Kind.REFUSED
    assert patience.verdict is Kind.REFUSED
    assert GONE_NS == 2 * SECOND


def test_as_long_as_one_connection_is_left_it_is_not() -> None:
    patience = Patience(10 * SECOND, 0)
    assert look(patience, 9.0, failing=Kind.REFUSED, is_any_up=True) is None
    assert look(patience, 10.9, failing=Kind.REFUSED) is None
    assert look(patience, 11.1, failing=Kind.REFUSED) is Kind.REFUSED


def test_a_connection_made_since_counts() -> None:
    patience = Patience(10 * SECOND, 0)
    patience.connected(5 * SECOND)
    assert look(patience, 6.9, failing=Kind.REFUSED) is None


def test_none_up_without_a_failure_is_no_reason() -> None:
    """An open loop at one message a minute with --new-connection."""
    assert look(Patience(10 * SECOND, 0), 59.0) is None


def test_time_outs_alone_end_it_after_two_and_a_bit() -> None:
    patience = Patience(10 * SECOND, 0)
    assert look(patience, 10.1, dropped=4, is_any_up=True) is None
    assert look(patience, 21.9, dropped=8, is_any_up=True) is None
    assert look(patience, 22.1, dropped=8, is_any_up=True) is Kind.TIMEOUT


def test_a_reply_between_them_is_hope() -> None:
    patience = Patience(10 * SECOND, 0)
    look(patience, 15.0, dropped=4, answered=1, is_any_up=True)
    assert look(patience, 36.0, dropped=5, answered=1, is_any_up=True) is None
    assert look(patience, 60.0, dropped=5, answered=2, is_any_up=True) is None
    assert look(patience, 99.0, dropped=5, answered=2, is_any_up=True) is None  # none since then


def test_a_server_that_closes_every_connection_at_once_is_given_up_too() -> None:
    patience = Patience(10 * SECOND, 0)
    patience.connected(22 * SECOND)
    assert look(patience, 22.1, dropped=99, is_any_up=True, losing=Kind.CLOSED) is Kind.CLOSED


def test_when_nothing_ends_at_all_it_is_over_too() -> None:
    patience = Patience(10 * SECOND, 0)
    assert look(patience, 21.0, is_any_up=True, is_waiting=True) is None
    assert look(patience, 22.1, is_any_up=True, is_waiting=True) is Kind.UNANSWERED


def test_where_nothing_is_due_nothing_need_end() -> None:
    patience = Patience(10 * SECOND, 0)
    assert look(patience, 50.0, is_any_up=True) is None
    assert look(patience, 71.0, is_any_up=True, is_waiting=True) is None
