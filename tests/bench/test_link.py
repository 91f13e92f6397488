"""bench/link.py: runs of messages, and what is expected next."""

from paceline.bench.link import LONGEST_EXPECTED, Link


def test_runs_are_answered_oldest_first() -> None:
    link = Link(7)
    link.sent(3, 100)
    link.sent(2, 200)
    link.sent(1, 200)
    assert link.under_way == 6
    assert link.answered(2) == [(100, 2)]
    assert link.answered(2) == [(100, 1), (200, 1)]
    assert link.answered(2) == [(200, 2)]
    assert (link.under_way, link.oldest) == (0, 0)
    assert link.ask == link.answer == 13


def test_what_is_expected_is_the_only_run_answered_at_once() -> None:
    link = Link(0)
    link.look_forward(b"ok\n", b"go\n")
    assert link.expect is None  # nothing is under way
    link.sent(2, 100)
    link.look_forward(None, b"go\n")
    assert link.expect is None  # not known
    link.look_forward(b"ok\n", b"go\n")
    assert bytes(link.expect or b"") == b"ok\nok\n"
    assert link.again == b"go\ngo\n"
    link.sent(1, 200)
    link.look_forward(b"ok\n", b"go\n")
    assert link.expect is None  # two runs
    link.answered(2)
    link.look_forward(b"ok\n", b"go\n")
    assert bytes(link.expect or b"") == b"ok\n"
    assert link.again == b"go\n"


def test_a_rest_of_either_kind_makes_it_unknown() -> None:
    for name in ("rest", "out"):
        link = Link(0)
        link.sent(1, 1)
        setattr(link, name, b"x")
        link.look_forward(b"ok\n", b"go\n")
        assert link.expect is None


def test_long_ones_are_not_expected_at_once() -> None:
    link = Link(0)
    link.sent(1, 1)
    link.look_forward(b"x" * (LONGEST_EXPECTED + 1), b"go")
    assert link.expect is None


def test_a_new_connection_begins_with_nothing_under_way() -> None:
    link = Link(0)
    link.sent(3, 1)
    link.sent(1, 2)
    link.clear()
    assert (link.under_way, link.oldest, len(link.runs), link.fd) == (0, 0, 0, -1)
