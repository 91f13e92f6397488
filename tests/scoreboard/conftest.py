"""A board for the tests of this folder, closed at their end."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from paceline.scoreboard.board import Board


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def board(cleanup: ExitStack) -> Board:
    made = Board.create(18, 64)
    cleanup.callback(made.close)
    return made
