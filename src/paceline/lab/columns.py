"""Text in columns: how wide it is, padded, and broken into lines.  Pure.

A Chinese character takes two columns, and a line may end behind any of them, but none begins with 。 or ，.
"""

import unicodedata
from collections.abc import Iterator


def width(text: str) -> int:
    """How many columns it takes: two for each wide character (Unicode Standard Annex 11), none for a combining one."""
    return sum(
        2 if unicodedata.east_asian_width(letter) in "WF" else 0 if unicodedata.combining(letter) else 1
        for letter in text
    )


def padded(text: str, columns: int, to_right: bool = False) -> str:
    """With spaces, so many columns wide."""
    spaces = " " * (columns - width(text))
    return spaces + text if to_right else text + spaces


def wrapped(text: str, columns: int) -> list[str]:
    """The lines of a paragraph; a word that is longer than a line has one of its own."""
    lines: list[str] = []
    line = ""
    for space, unit in _units(text):
        if line and width(line) + len(space) + width(unit) > columns:
            lines.append(line)
            line = unit
        else:
            line += (space if line else "") + unit
    return [*lines, line] if line else lines


_NOT_FIRST = frozenset("，。；：！？、）」』》】…”’·％")
_NOT_LAST = frozenset("（「『《【“‘")


def _units(text: str) -> Iterator[tuple[str, str]]:
    """What is not broken, each with the space before it: words, and single wide characters with their punctuation."""
    space, unit = "", ""
    for letter in text:
        if letter.isspace():
            if unit:
                yield space, unit
                space, unit = "", ""
            space = " "
        elif unit and _may_break(unit[-1], letter):
            yield space, unit
            space, unit = "", letter
        else:
            unit += letter
    if unit:
        yield space, unit


def _may_break(before: str, after: str) -> bool:
    if after in _NOT_FIRST or before in _NOT_LAST:
        return False
    return width(before) == 2 or width(after) == 2
