"""chaos/report.py: the table at the end."""

from chaos.test_result import made
from paceline.chaos.books import Books
from paceline.chaos.catalogue import TABLE
from paceline.chaos.figures import counted, timed
from paceline.chaos.judge import How
from paceline.chaos.report import progress_text, text_of
from paceline.chaos.tally import Tally


def filled() -> tuple[Books, Tally]:
    books = Books()
    books.on_injected(TABLE["kill"], 0.0123)
    books.on_injected(TABLE["reset"], None)
    books.counts["kill"].cut = 5
    books.counts["kill"].worst_stall_s = 1.5
    books.lost_by[How.RESET_AFTER, "kill"] = 3
    books.cut_by.update({(How.PARKED, "kill"): 5, (How.REFUSED, "supervisor"): 2})
    tally = Tally(sent=1_234, connections=9)
    tally.on_answer(1, 2_000_000)
    return books, tally


def test_what_it_says() -> None:
    lines = text_of(made(*filled())).splitlines()
    assert lines[0] == "paceline chaos · the application in the box · 2 workers · 100 connections · seed 7"
    assert "  kill                1         12 ms     12 ms     12 ms       0       5       1.50 s" in lines
    assert "  reset               1                                         0       0      < 50 ms" in lines
    for said in (
        "  messages      1,234 sent, 1 answered once and in order",
        "  lost          3 (kill 3)",
        "  connections   9 made; cut: 5 (kill 5)",
        "  refused       2 (supervisor 2)",
        "  parked        5 disconnected between two messages, 0 of them unexplained",
        "  wrong         0 answered twice, 0 out of order, 0 of somebody else",
        "  waits         p50 2 ms, p99 2 ms, worst stall 2 ms",
    ):
        assert said in lines
    assert lines[-1] == "Every promise was kept."


def test_a_broken_promise_is_told_with_the_command_that_repeats_it() -> None:
    books, tally = filled()
    books.breaks("something went wrong", 4, 1.0)
    books.broken_more = 1_000
    text = text_of(made(books, tally))
    assert "1001 promises were broken:\n  - step 4: something went wrong\n  - and 1,000 more\n" in text
    assert text.endswith(
        "\nrepeat it: paceline chaos --seed 7 --faults kill --for 60s --connections 100 --workers 2 --rate 500 "
        "--pause 0.3s\n"
    )


def test_figures_of_an_abuse_stand_below_its_name() -> None:
    books, tally = filled()
    books.on_figure(timed("drip", "p99", 3.0, "ms", 50.0), 1, 1.0)
    books.on_figure(counted("drip", "not ended", 0, 0), 1, 1.0)
    lines = text_of(made(books, tally)).splitlines()
    at = lines.index("  drip          p99: 3 ms (goal: ≤ 50 ms)")
    assert lines[at + 1] == "                not ended: 0 (goal: ≤ 0)"


def test_when_nothing_was_answered_that_is_said() -> None:
    assert "  waits         nothing was answered" in text_of(made()).splitlines()


def test_the_line_of_progress() -> None:
    assert progress_text(3.2, 1, "kill", 1_000, 0) == "3 s · 1 fault · kill · 1,000 answered"
    assert progress_text(3.2, 2, "kill", 10, 1) == "3 s · 2 faults · kill · 10 answered · 1 promise broken"
