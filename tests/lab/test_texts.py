"""lab/texts.py: the same in both languages."""

from paceline.lab.texts import LANGUAGES, Text, joined, same


def test_a_text_is_looked_up_by_its_language() -> None:
    text = Text("one", "一")
    assert [text[language] for language in LANGUAGES] == ["one", "一"]


def test_what_is_filled_in_is_formatted_in_each() -> None:
    assert Text("{n:.1f} s", "{n:.0f} 秒").filled(n=1.25) == Text("1.2 s", "1 秒")


def test_texts_are_joined_as_their_language_does() -> None:
    assert joined(Text("One.", "一。"), same(""), Text("Two.", "二。")) == Text("One. Two.", "一。二。")
