"""Times and crews in words."""

import pytest

from paceline.supervisor.sentences import crew_text, size_text, span_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.0002, "1 ms"),
        (0.014, "14 ms"),
        (0.0949, "95 ms"),
        (0.096, "0.1 s"),
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


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (65536, "64 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (33_030_144, "31.5 MiB"),
        (2 << 30, "2.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_a_size_has_the_unit_that_people_use(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
