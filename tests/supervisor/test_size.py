"""How many workers and seats, by example."""

import pytest

from paceline.settings import Settings
from paceline.supervisor.size import size_of, why_no_room


@pytest.mark.parametrize(
    ("workers", "most", "cores", "expected"),
    [
        (None, None, 2, (2, 18)),
        (None, None, 1, (1, 18)),
        (None, None, 64, (64, 514)),
        (None, 8, 64, (8, 18)),
        (None, 8, 4, (4, 18)),
        (3, None, 2, (3, 26)),
        (1, 1, 2, (1, 4)),
        (8, 8, 2, (8, 18)),
        (300, None, 2, (300, 2050)),
        (1024, None, 2, (1024, 2050)),
        (None, None, 2000, (1024, 2050)),
    ],
)
def test_numbers(workers: int | None, most: int | None, cores: int, expected: tuple[int, int]) -> None:
    size = size_of(Settings(workers=workers, max_workers=most), cores, "the machine has so many")
    assert (size.workers, size.seats) == expected


def test_beyond_the_cores() -> None:
    assert size_of(Settings(workers=3), 2, "").exceeds_cores
    assert not size_of(Settings(workers=2), 2, "").exceeds_cores


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Settings(threads=8), ""),
        (Settings(threads=4, workers=8), ""),
        (Settings(threads=9), "threads = 9: there is room for 8 in each worker"),
        (Settings(threads=8, workers=9), "workers = 9: there is room for 8 (--max-workers)"),
    ],
)
def test_what_a_reload_has_no_room_for_is_said(settings: Settings, why: str) -> None:
    said = why_no_room(settings, size_of(Settings(), 2, ""), 8)
    assert said.startswith(why)
    assert bool(said) is bool(why)
