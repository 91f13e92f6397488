"""lab/texts.py: the same in both languages."""

import pytest

from paceline.lab.texts import LANGUAGES, Text, joined, same, telling


def test_a_text_is_looked_up_by_its_language() -> None:
    text = Text("one", "一")
    assert [text[language] for language in LANGUAGES] == ["one", "一"]


def test_what_is_filled_in_is_formatted_in_each() -> None:
    assert Text("{n:.1f} s", "{n:.0f} 秒").filled(n=1.25) == Text("1.2 s", "1 秒")


def test_texts_are_joined_as_their_language_does() -> None:
    assert joined(Text("One.", "一。"), same(""), Text("Two.", "二。")) == Text("One. Two.", "一。二。")


@pytest.mark.parametrize(
    ("value", "bound", "digits", "said"),
    [
        (79.0, 80.0, 0, "79"), (79.6, 80.0, 0, "79.6"), (79.996, 80.0, 0, "79.996"), (80.0, 80.0, 0, "80"),
        (80.4, 80.0, 0, "80"), (2.97, 3.0, 1, "2.97"), (3.04, 3.0, 1, "3.0"), (1234.5, 10.0, 1, "1,234.5"),
        (80 - 1e-9, 80.0, 0, "80.000000"),
    ],
)  # fmt: skip
def test_a_number_has_as_many_digits_as_tell_on_which_side_it_is(
    value: float, bound: float, digits: int, said: str
) -> None:
    assert telling(value, bound, digits) == said
