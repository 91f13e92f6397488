"""Times and crews in words."""

import pytest

from paceline.supervisor.sentences import crew_text, span_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (0.25, "0.2 s"),
        (3.0, "3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (17.4, "17 s"),
        (59.7, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (3659.6, "1 h 1 min"),
        (7800, "2 h 10 min"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


@pytest.mark.parametrize(
    ("workers", "threads", "text"),
    [(2, 64, "2 workers × up to 64 threads"), (1, 8, "1 worker × up to 8 threads"), (4, 1, "4 workers × 1 thread")],
)
def test_crews(workers: int, threads: int, text: str) -> None:
    assert crew_text(workers, threads) == text
