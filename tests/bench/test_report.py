"""bench/report.py: what people read."""

from bench.results import made
from paceline.bench.report import progress_text, text_of
from paceline.bench.tally import Effort
from paceline.bench.troubles import Kind


def test_the_whole() -> None:
    text = text_of(made())
    assert text.startswith("paceline bench h:1 · raw · 3 bytes · 64 connections · closed loop\n")
    for words in (
        "100,000 answered of 100,000 sent in 10.00 s",
        "10,000 a second",
        "625.0 KiB/s",
        "from when each was sent, within 1 %",
        "p99.99 ",
        "10.10 ms",
        "errors        none",
        "1 process, busy for 0.50 of a core",
    ):
        assert words in text, words
    assert text.endswith("core\n")
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_an_open_loop_says_how_late_the_generator_was() -> None:
    text = text_of(made(plan={"rate": 10_000.0}, tally={"late_sum_ns": 10**9, "late_ns": 2_000_000}))
    assert "open loop at 10,000 a second" in text
    assert "from when each was due" in text
    assert "sent 10.00 µs late on average, 2.00 ms at most" in text


def test_errors_have_a_unit_a_meaning_and_an_example() -> None:
    text = text_of(made(errors={Kind.RESET: 1, Kind.WRONG: 20}, tally={"example": "sent b'a', got b'b'"}))
    assert "reset       1 connection: the server reset the connection; its log should say why" in text
    assert "20 messages: the reply was not the message sent" in text
    assert "sent b'a', got b'b'" in text


def test_the_rest_of_the_settings() -> None:
    plan = {"connections": 1000, "processes": 2, "new_connection": True, "check": True, "slow_bytes_s": 2048}
    text = text_of(made(plan=plan, efforts=(Effort(1, 0.5, 0), Effort(1, 0.25, 0)), tally={"connections": 50_000}))
    for words in (
        "1,000 connections",
        "a connection per message",
        "read at 2.0 KiB/s each",
        "2 processes",
        "replies checked",
        "50,000, 5,000 a second",
        "busy for 0.50 and 0.25 of a core",
    ):
        assert words in text, words


def test_an_interrupted_one_says_so() -> None:
    assert "interrupted" in text_of(made(is_interrupted=True))


def test_slow_rates_keep_their_digits() -> None:
    assert "throughput    0.25 a second" in text_of(made(seconds=400_000.0))


def test_what_came_later_is_said_apart_and_one_is_one() -> None:
    plan = {"connections": 1}
    text = text_of(made(plan=plan, tally={"in_time": 99_000}))
    assert "99,000 answered of 100,000 sent in 10.00 s, 1,000 later" in text
    assert " · 1 connection · " in text
    assert progress_text(1.0, 1, 1.0, 0) == "1 s · 1 reply · 1 a second · 0 errors"


def test_progress() -> None:
    assert progress_text(3.2, 12_345, 4_000.4, 1) == "3 s · 12,345 replies · 4,000 a second · 1 error"
