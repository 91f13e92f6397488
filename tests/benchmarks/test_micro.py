"""The costs of pieces: every statement runs, and the arithmetic is right."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from benchmarks.micro import PIECES, Cost, Piece, cost_of, main, measured, names


@pytest.fixture(scope="module")
def known() -> Iterator[dict[str, Any]]:
    with ExitStack() as held:
        yield names(held)


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_every_statement_runs(piece: Piece, known: dict[str, Any]) -> None:
    assert cost_of(piece.statement, known, loops=1, loop_ns=1000).best > 0


def test_the_empty_loop_is_taken_off_and_the_rest_shared() -> None:
    costs = {"pass": Cost(10, 20), "work": Cost(170, 340), "less": Cost(5, 5)}
    pieces = [Piece("g", "a", "work", 16), Piece("g", "b", "less")]
    assert measured(pieces, costs.__getitem__) == [["g: a", "10", "20"], ["g: b", "0", "0"]]


def test_a_word_that_no_piece_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
