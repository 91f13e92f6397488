"""lab/layout.py: room for words, and where things go."""

import pytest

from paceline.lab.layout import foot_text, keys_of, spread_out, widest
from paceline.lab.texts import same
from paceline.stats.spread import Spread


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([0.5, 2.0], [0.5, 2.0]),
        ([1.0, 1.0, 1.0], [1.0, 1.5, 2.0]),
        ([2.9, 3.0], [2.25, 2.75]),
        ([-1.0, 9.0], [0.25, 2.75]),
        ([], []),
    ],
)
def test_labels_stay_in_order_and_in_the_picture_and_none_is_over_another(
    wanted: list[float], found: list[float]
) -> None:
    assert spread_out(wanted, [0.5] * len(wanted), 3.0) == pytest.approx(found)


def test_keys_begin_a_new_line_where_there_is_no_more_room() -> None:
    keys, height = keys_of(["short", "another", "线程" * 30], 3.0)
    assert [(line, name) for line, _, name in keys] == [(0, 0), (0, 1), (1, 2)]
    assert keys[0][1] == keys[2][1] == 0.0
    assert height > keys_of(["short"], 3.0)[1] > keys_of([], 3.0)[1] == 0.0


def test_a_wide_letter_takes_two_columns() -> None:
    assert (widest(["abc", "线程"]), widest([])) == (4, 0)


def test_a_foot_says_of_how_many_values_there_is_a_median() -> None:
    one, ten, many = (Spread(1, 0, 2, count) for count in (1, 10, 2000))
    of = same("median of {count}")
    assert foot_text(of, [ten, ten], "en") == "median of 10"
    assert foot_text(of, [many, one, ten], "en") == "median of 1 to 2,000"
    assert foot_text(of, [many, ten], "zh") == "median of 10 至 2,000"
    assert foot_text(of, [one, one], "en") == "Each is one value."
    assert foot_text(of, [], "en") == ""
