"""What is written to standard error, by paragraphs.  Pure."""

import re


def paragraphs_of(text: str) -> list[str]:
    """Lines, each with what is indented below it (a traceback)."""
    return re.findall(r"^\S.*\n?(?:^[ \t].*\n?)*", text, re.MULTILINE)
