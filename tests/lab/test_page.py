"""lab/page.py: one page from kept files alone, in both languages, without a network."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from paceline import __version__
from paceline.lab.catalogue import NAMES, experiment_of
from paceline.lab.experiment import Prediction, Table
from paceline.lab.listings import source_of
from paceline.lab.machine import machine_of
from paceline.lab.page import FOREIGN, _table, html_of
from paceline.lab.records import Kept, read, read_folder
from paceline.lab.results import result_of
from paceline.lab.samples import Samples
from paceline.lab.texts import Text, same

pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")

CREATION = experiment_of("creation")
MACHINE: dict[str, Any] = {
    "cores": 2,
    "gil": True,
    "processor": "<AMD>",
    "python": "CPython 3.13",
    "load_average": [0.1, 0.2, 0.3],
}
TOOK = {"pool": 18.0, "thread": 50.0, "fork": 500.0, "spawn": 9000.0}
SAMPLES = Samples.made({"case": case, "round": 1, "took_us": [took, took * 1.1]} for case, took in TOOK.items())


def kept(
    samples: Samples = SAMPLES, *, finished: bool = True, why: str = "", machine: dict[str, Any] = MACHINE
) -> Kept:
    its = machine_of(machine)
    return Kept(
        "creation", machine, {"quick": True, "seed": 7, "for_s": 0.2}, 1_700_000_000.0, CREATION.predict(its),
        source_of(CREATION.shown), samples, 1.5, finished, why, Path("r/creation.jsonl"),
    )  # fmt: skip


class Reader(HTMLParser):
    """What a reader sees, and what is fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

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
        "What does it cost to create a process", "at least 3 times", "It held here: a thread took", "✓ Verdict: held",
        "os.fork()", "<AMD>", "2023-11-14 22:13 UTC", "0.1 · 0.2 · 0.3",
        "✓ 1 held", "Rounds: 1 of each of 4 cases. 4 records, a quick run, seed 7. Measured with: for_s 0.2. Begun",
        "It took 1.5 s.",
    ):  # fmt: skip
        assert said in text
    assert page.count("<svg") == 2
    assert "<details open>" in page, "a short table is there to be seen"
    assert 'id="creation"' in page


def test_one_that_did_not_hold_or_was_cut_short_says_so() -> None:
    slow = Samples.made({"case": case, "round": 1, "took_us": [50.0]} for case in TOOK)
    page = Reader(html_of([kept(slow, finished=False, why="interrupted")], "en")).text
    assert "✗ Verdict: did not hold here" in page
    assert "Cut short: interrupted." in page
    assert "提前结束：被中断。" in Reader(html_of([kept(slow, finished=False, why="interrupted")], "zh")).text
    assert "没有写下结尾" in Reader(html_of([kept(slow, finished=False)], "zh")).text


def test_nothing_measured_is_a_part_without_pictures() -> None:
    page = html_of([kept(Samples(), finished=False, why="interrupted")], "en")
    assert "<svg" not in page
    assert "? Verdict: too little was measured" in Reader(page).text


def test_what_was_measured_elsewhere_says_so_in_its_part() -> None:
    other = {**MACHINE, "processor": "another", "cores": 64, "load_average": [9.0]}
    text = Reader(html_of([kept(), kept(machine=other)], "en")).text
    assert "than the first: Processor another; Usable cores 64 ↑" in text
    assert "than the first" not in Reader(html_of([kept(), kept()], "en")).text


def test_what_was_predicted_and_run_is_as_it_was_kept() -> None:
    old = replace(kept(), prediction=Prediction(Text("It will <b>.", "会的。")), code="old = 1 < 2")
    page = html_of([old], "en")
    assert "It will &lt;b&gt;." in page
    assert "old = 1 &lt; 2" in page
    assert "os.fork()" not in page
    assert "Measured by" not in page
    older = replace(old, machine={**MACHINE, "paceline": "0.0.1"})
    assert f"Measured by Paceline 0.0.1, judged and drawn by {__version__}." in Reader(html_of([older], "en")).text


@pytest.mark.parametrize("took", ["x", {"a": 1}, [None], float("nan")])
def test_samples_of_another_kind_cost_only_their_own_part(took: object) -> None:
    foreign = Samples.made({"case": case, "round": 1, "took_us": took} for case in TOOK)
    page = html_of([kept(foreign), kept()], "en")
    assert page.count("<section") == 2
    assert page.count("<svg") >= 1
    if not isinstance(took, float):
        assert "These samples are not as this version of the lab writes them" in page
        assert "? Verdict: too little was measured" in Reader(page).text


EXAMPLES = Path(__file__).parents[2] / "docs" / "lab" / "example"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_all_twelve_are_on_one_page_that_is_not_large(language: str) -> None:
    found, left_out = read_folder(EXAMPLES)
    assert [one.experiment for one in found] == list(NAMES)
    assert left_out == []
    page = html_of(found, language)
    assert len(page) < 800_000
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert page.count("<section") == len(NAMES)
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    assert page.index(policy) < page.index("<style>")
    assert max(map(len, re.findall(r"<svg.*?</svg>", page, re.DOTALL))) < 100_000
    assert FOREIGN[language].partition(",")[0] not in page


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_lack_something_cost_only_their_own_part(name: str) -> None:
    """Of another version, perhaps."""
    whole = read(EXAMPLES / f"{name}.jsonl")
    fields = {field for sample in whole.samples for field in sample} - {"case", "round"}
    for field in fields:
        less = Samples.made({key: value for key, value in it.items() if key != field} for it in whole.samples)
        page = html_of([replace(whole, samples=less)], "en")
        assert Reader(page).open == []


def test_a_notebook_shows_a_result_with_its_pictures() -> None:
    shown = result_of(kept())._repr_html_()
    assert shown.count("<svg") == 2
    assert "<h3>What does it cost to create" in shown
    assert "✓ It held here" in shown
    assert "<svg" not in result_of(kept(Samples()))._repr_html_()


def test_nothing_in_a_file_is_markup() -> None:
    hostile = {**MACHINE, "kernel": "<script>alert(1)</script>", "python": '"&'}
    page = html_of([kept(finished=False, why="<img src=x>", machine=hostile)], "en")
    assert "<script" not in page
    assert "<img" not in page
    assert {"<script>alert(1)</script>", '"&'} <= set(Reader(page).texts)


@pytest.mark.parametrize(("rows", "is_open"), [(12, True), (13, False)])
def test_a_table_has_its_numbers_to_the_right_and_a_long_one_is_folded(rows: int, is_open: bool) -> None:
    columns = [same("what"), same("took"), same("why")]
    table = _table(
        Table(columns, [[same("1 <core>"), same("3.0"), same("so")]] * (rows - 1) + [[same("all")] * 3]), "en"
    )
    assert ("<details open>" in table) is is_open
    assert '<th scope="col">what</th><th scope="col" class="number">took</th>' in table
    assert '<th scope="row">1 &lt;core&gt;</th><td class="number">3.0</td><td>so</td>' in table
    assert _table(Table(columns, []), "en") == ""


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURING = """
onload = () => {
  const page = document.querySelector("iframe").contentWindow
  const root = page.document.documentElement
  const fetched = page.performance.getEntriesByType("resource").length
  const said = [page.innerWidth, root.scrollWidth, page.document.querySelectorAll("section svg").length, fetched]
  const look = page.getComputedStyle(page.document.body)
  document.body.innerHTML = "<output>" + said.join(" ") + " " + look.backgroundColor + " " + look.color + "</output>"
}
"""


GROUNDS = {"1": "rgb(255, 255, 255) rgb(31, 35, 40)", "0": "rgb(13, 17, 23) rgb(240, 246, 252)"}
"""By what Chromium calls the preferred colour scheme."""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is here")
@pytest.mark.parametrize(("language", "scheme"), [("en", "1"), ("zh", "0")])
def test_in_a_browser_it_is_no_wider_than_a_phone_fetches_nothing_and_is_light_or_dark(
    language: str, scheme: str, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    page = html_of([kept(), kept(finished=False, why="interrupted " + "x" * 200)], language)
    page = page.replace("<details>", "<details open>")
    frame = f'<iframe style="width: 375px; height: 800px; border: 0" srcdoc="{escape(page)}"></iframe>'
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{frame}<script>{MEASURING}</script>")
    ended = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
            "--disable-background-networking", f"--blink-settings=preferredColorScheme={scheme}",
            "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            (tmp_path / "page.html").as_uri(),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=45, check=False,
    )  # fmt: skip
    found = re.search(r"<output>(.+)</output>", ended.stdout)
    assert found is not None, ended.stderr[-2000:]
    assert found[1] == f"375 375 4 0 {GROUNDS[scheme]}", "its width, that of what is in it, pictures, fetched; colours"
