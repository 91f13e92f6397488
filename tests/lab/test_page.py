"""lab/page.py: one page from kept files alone, in both languages, without a network."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest

from paceline.lab.page import html_of
from paceline.lab.records import Kept
from paceline.lab.samples import Samples

pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")

MACHINE = {"cores": 2, "gil": True, "processor": "<AMD>", "python": "CPython 3.13", "load_average": [0.1, 0.2, 0.3]}
TOOK = {"pool": 18.0, "thread": 50.0, "fork": 500.0, "spawn": 9000.0}
SAMPLES = Samples.made({"case": case, "round": 1, "took_us": [took, took * 1.1]} for case, took in TOOK.items())


def kept(samples: Samples = SAMPLES, *, finished: bool = True, why: str = "") -> Kept:
    return Kept("creation", MACHINE, {"quick": True, "seed": 7}, 1_700_000_000.0, samples, 1.5, finished, why)


class Reader(HTMLParser):
    """What a reader sees, and what is fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.mark.parametrize(("language", "lang"), [("en", "en"), ("zh", "zh-CN")])
def test_a_page_is_whole_says_its_language_and_fetches_nothing(language: str, lang: str) -> None:
    page = html_of([kept()], language)
    assert page == html_of([kept()], language), "byte for byte"
    assert f'<html lang="{lang}">' in page
    reader = Reader(page)
    assert reader.open == []
    assert all(link.startswith("#") for link in reader.links)
    assert "<script" not in page
    assert not re.search(r"@import|url\((?!#)", page)


def test_it_has_question_prediction_picture_verdict_code_and_figures() -> None:
    page = html_of([kept()], "en")
    text = Reader(page).text
    for said in (
        "What does it cost to create one?", "at least 3 times", "It held here: a thread took", "Verdict: held ✓",
        "os.fork()", "<AMD>", "2023-11-14 22:13 UTC", "0.1 · 0.2 · 0.3",
        "4 measurements in 1.5 s, a quick run, seed 7.",
    ):  # fmt: skip
        assert said in text
    assert page.count("<svg") == 1
    assert 'id="creation"' in page


def test_one_that_did_not_hold_or_was_cut_short_says_so() -> None:
    slow = Samples.made({"case": case, "round": 1, "took_us": [50.0]} for case in TOOK)
    page = Reader(html_of([kept(slow, finished=False, why="interrupted")], "en")).text
    assert "Verdict: did not hold here ✗" in page
    assert "Cut short: interrupted." in page
    assert "没有写下结尾" in Reader(html_of([kept(slow, finished=False)], "zh")).text


def test_nothing_measured_is_a_part_without_pictures() -> None:
    page = html_of([kept(Samples(), finished=False, why="interrupted")], "en")
    assert "<svg" not in page
    assert "Verdict: too little was measured ?" in Reader(page).text
