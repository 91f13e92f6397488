"""Text for people: aligned, no wider than the terminal, and harmless."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ctl.picturebed import pictured, seated, thread
from paceline.ctl.rendering import dump_text, shown, status_text

TWO = [seated(0, connections=1200), thread(0, 0, "calling", calls=7), seated(1, "draining", generation=2)]


def test_a_status_is_a_head_a_table_and_what_is_wrong() -> None:
    assert status_text(pictured(TWO)).splitlines() == [
        "127.0.0.1:8888 · app.py:answer · generation 1 · up 3 min 5 s · pid 99 · Paceline 1.0",
        "",
        (
            "worker  pid  state     gen         age  connections  threads busy  "
            "messages  calls  calls/s  oldest call    memory"
        ),
        (
            "     0  100  ready       1  1 min 30 s        1,200           1/8  "
            "       0      7        0      > 0.5 s  21.0 MiB"
        ),
        (
            "     1  101  draining    2  1 min 30 s            0           0/8  "
            "       0      0        0            -  21.0 MiB"
        ),
        "",
        "! generations 1 and 2 are there at the same time: a reload goes on, or calls of old code do",
    ]


def test_a_narrow_terminal_loses_what_matters_least() -> None:
    lines = status_text(pictured(TWO), 80).splitlines()
    assert lines[3].split() == [
        "worker", "pid", "state", "connections", "threads", "busy", "calls/s", "oldest", "call", "memory",
    ]  # fmt: skip
    assert lines[:2] == ["127.0.0.1:8888 · app.py:answer · generation 1 · up 3 min 5 s · pid 99 ·", "Paceline 1.0"]


def test_a_long_target_is_shortened_in_the_middle() -> None:
    picture = replace(pictured(TWO), target="/srv/" + "deep/" * 30 + "app.py:answer")
    head = status_text(picture, 60).split("\n\n")[0].splitlines()
    assert max(map(len, head)) <= 60
    assert head[1].startswith("/srv/deep/")
    assert head[1].endswith("app.py:answer ·")
    assert "…" in head[1]
    assert picture.target in status_text(picture), "where there is no terminal, nothing is left out"


@given(st.integers(1, 200), st.integers(0, 10**12), st.sampled_from(["T", "Z", "S"]))
def test_no_line_is_wider_than_the_terminal(width: int, connections: int, state: str) -> None:
    picture = pictured([seated(0, connections=connections), *TWO[1:]], states={0: state}, supervisor="stopped")
    assert all(len(line) <= max(width, 3) for line in status_text(picture, width).splitlines())


def test_what_is_not_known_is_not_said() -> None:
    text = status_text(pictured([seated(0)], states={0: "?"}, rss_bytes=None))
    assert text.splitlines()[3].split()[-1] == "?"
    assert status_text(pictured([])).splitlines()[2:] == ["! unhealthy: there is no worker"]


def test_a_dump_has_a_section_for_each_worker() -> None:
    text = dump_text(
        [
            {"slot": 0, "pid": 7, "seat": 0, "generation": 1, "state": "ready", "text": "thread 0\n  File x\n"},
            {"slot": 1, "pid": 8, "seat": 1, "generation": 2, "state": "draining", "text": ""},
        ]
    )
    assert text.split("\n") == [
        "worker 0 · pid 7 · ready · generation 1",
        "  thread 0",
        "    File x",
        "",
        "worker 1 · pid 8 · draining · generation 2",
        "  it said nothing",
        "",
    ]
    assert dump_text([]) == "there is no worker\n"


def test_nothing_steers_the_terminal() -> None:
    assert shown("a\x1b[2J\tb\r\n\x9b\u2028") == "a\\x1b[2J\tb\\x0d\n\\x9b\\u2028"
    assert "\x1b" not in dump_text([{"slot": 0, "text": "\x1b]0;title\x07"}])


def test_who_was_kept_out_is_said_below_the_table() -> None:
    assert "refused" not in status_text(pictured(TWO))
    counters = {"refused": 1203, "refused_network": 1200, "refused_crowd": 3, "rate_pauses": 1}
    text = status_text(replace(pictured(TWO), counters=counters))
    assert text.split("\n\n")[2].splitlines() == [
        "refused: 1,203 connections (1,200 by --allow and --deny, 3 by --max-connections-per-address)",
        "accepting paused 1 time for --max-connection-rate",
    ]
    counters = {"refused": 7, "refused_overload": 7, "closed_overload": 2_000, "overloads": 2}
    assert status_text(replace(pictured(TWO), counters=counters)).split("\n\n")[2].splitlines() == [
        "refused: 2,007 connections (2,007 by --queue-timeout)",
        "overloaded 2 times: who was next had waited for too long, and nobody for less",
    ]
    assert "refused: 1 connection (1 by --max-connections-per-address)" in status_text(
        replace(pictured(TWO), counters={"refused": 1, "refused_crowd": 1})
    )
