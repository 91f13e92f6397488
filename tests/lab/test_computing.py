"""lab/computing.py: amounts are measured out, and bounded."""

from paceline.lab.computing import LARGEST, amount_for, piece_of_work


def test_an_amount_is_bounded_also_where_more_takes_no_longer() -> None:
    assert amount_for(lambda _: None, 1.0) == LARGEST
    assert 1 <= amount_for(piece_of_work, 0.001) < LARGEST


def test_at_least_one_and_more_for_longer() -> None:
    assert amount_for(piece_of_work, 1e-9) == 1
    assert amount_for(piece_of_work, 0.01) > amount_for(piece_of_work, 0.001) / 2


def test_a_piece_of_work_computes() -> None:
    assert piece_of_work(4) == 0 + 1 + 4 + 9 % 7
