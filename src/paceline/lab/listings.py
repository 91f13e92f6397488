"""The code that was run: its source, and that as HTML with its words of Python, texts and comments marked.

keyword   b        text   i        comment   em
"""

import inspect
import io
import keyword
import textwrap
import tokenize
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any


def source_of(functions: Sequence[Callable[..., Any]]) -> str:
    """Their sources, one below the other; what has no source any more is named."""
    return "\n\n\n".join(_source(function) for function in functions)


def _source(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function)).strip("\n")
    except (OSError, TypeError):
        return f"# {getattr(function, '__name__', function)}: …"


def marked(source: str) -> str:
    """The text of a listing, escaped; without marks when it is not Python from its first line to its last."""
    try:
        return "".join(_pieces(source))
    except (tokenize.TokenError, SyntaxError):
        return escape(source, quote=False)


def _pieces(source: str) -> Iterator[str]:
    lines = source.splitlines(keepends=True)
    at = (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        tag = _tag(token)
        if tag:
            yield escape(_between(lines, at, token.start), quote=False)
            yield f"<{tag}>{escape(token.string, quote=False)}</{tag}>"
            at = token.end
    yield escape(_between(lines, at, (len(lines) + 1, 0)), quote=False)


def _tag(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.COMMENT:
        return "em"
    if token.type == tokenize.NAME and keyword.iskeyword(token.string):
        return "b"
    return "i" if token.type == tokenize.STRING else ""


def _between(lines: list[str], begin: tuple[int, int], end: tuple[int, int]) -> str:
    (first, left), (last, right) = begin, end
    if first == last:
        return lines[first - 1][left:right] if first <= len(lines) else ""
    middle = lines[first : last - 1]
    tail = lines[last - 1][:right] if last <= len(lines) else ""
    return "".join([lines[first - 1][left:] if first <= len(lines) else "", *middle, tail])
