"""bench/plan.py: what goes together, shares, and the way to a load process and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.bench.plan import ANY, Plan, part_of
from paceline.errors import UsageError


def plan(**changed: Any) -> Plan:
    return Plan(**{"address": "127.0.0.1:1", "messages": (b"hello",), "source": "5 bytes", **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"duration_s": None}, "without an end"),
        ({"processes": 3, "connections": 2}, "at least -c 3"),
        ({"processes": 3, "count": 2}, "at least -n 3"),
        ({"new_connection": True, "in_flight": 2}, "raise -c"),
        ({"reply_size": 5, "framing": "line"}, "leave --reply-size out"),
        ({"reply_size": ANY, "in_flight": 2}, "cannot tell several replies apart"),
        ({"reply_size": 7, "check": True}, "--check"),
        ({"messages": (b"a", b"bc")}, "messages of different sizes in raw"),
        ({"messages": (b"a" * (1 << 20),), "in_flight": 1000}, "under way on one connection"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(**changed)


def test_different_sizes_go_with_a_framing_or_a_reply_size() -> None:
    plan(messages=(b"a", b"bc"), framing="line")
    assert plan(messages=(b"a", b"bc"), reply_size=3).raw_reply_size == 3
    assert plan().raw_reply_size == 5


def test_it_goes_to_a_process_and_comes_back() -> None:
    one = plan(messages=(b"\0\xff", b"ab"), rate=0.1, count=7, slow_bytes_s=3, check=True, framing="length:4")
    assert Plan.from_json(one.to_json()) == one


def test_the_settings_name_the_messages_without_holding_them() -> None:
    settings = plan(messages=(b"ab", b"c"), framing="line").settings()
    assert settings["messages"].keys() == {"count", "bytes", "sha256"}
    assert (settings["messages"]["count"], settings["messages"]["bytes"]) == (2, 3)
    other = plan(messages=(b"a", b"bc"), framing="line").settings()
    assert settings["messages"]["sha256"] != other["messages"]["sha256"]


@given(st.integers(0, 1000), st.integers(1, 20))
def test_parts_are_even_and_adjoin(whole: int, parts: int) -> None:
    shares = [part_of(whole, parts, part) for part in range(parts)]
    assert sum(count for count, _ in shares) == whole
    assert max(count for count, _ in shares) - min(count for count, _ in shares) <= 1
    assert [first for _, first in shares] == [sum(count for count, _ in shares[:part]) for part in range(parts)]


def test_a_share() -> None:
    whole = plan(connections=5, processes=2, count=9)
    assert [whole.share(process) for process in (0, 1)] == [(3, 0, 5), (2, 3, 4)]
    assert plan().share(0) == (64, 0, None)
