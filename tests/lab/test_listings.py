"""lab/listings.py: code as it is in the file, with its words marked."""

import html
import inspect
import re
import textwrap

import pytest

from paceline.lab.catalogue import NAMES, experiment_of
from paceline.lab.listings import marked, source_of


def shown() -> int:
    """A <text>."""
    return 1 & 3  # a comment


def plain(listing: str) -> str:
    return html.unescape(re.sub(r"</?(b|i|em)>", "", listing))


def test_words_texts_and_comments_are_marked_and_all_is_escaped() -> None:
    assert marked(source_of([shown])) == (
        '<b>def</b> shown() -&gt; int:\n    <i>"""A &lt;text&gt;."""</i>\n'
        "    <b>return</b> 1 &amp; 3  <em># a comment</em>"
    )


@pytest.mark.parametrize("source", ["", "a <b", "x = (", "'''", "if x:\n\ty", 'text = """a\n<b>\n""" + f"é{x}线"\n'])
def test_nothing_is_lost_whatever_it_is(source: str) -> None:
    assert plain(marked(source)) == source


def test_what_has_no_source_is_named() -> None:
    assert source_of([len, shown]).startswith("# len: …\n\n\ndef shown()")


@pytest.mark.parametrize("name", NAMES)
def test_what_experiments_show_is_what_is_in_their_files(name: str) -> None:
    for function in experiment_of(name).shown:
        assert plain(marked(source_of([function]))) == textwrap.dedent(inspect.getsource(function)).strip("\n")
