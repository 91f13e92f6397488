"""Pictures: what is drawn; that the SVG is well-formed, accessible, readable in two schemes, and always the same."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plots import COLORS, LETTERS_OF_NAME, NoMatplotlib, main, picture_of, svg, where
from benchmarks.records import Kept, Record, Run, line_of
from benchmarks.rows import ROWS
from benchmarks.spreads import Results
from benchmarks.terms import Row, Trial

ROW = Row(
    number=1,
    title="Echo: <one> worker & $64$ connections",
    us="paceline",
    metric="messages_per_s",
    shows=("messages_per_s", "cpu_us_per_message", "import_ms"),
    draws=("messages_per_s", "cpu_us_per_message", "import_ms"),
    trials=tuple(Trial(name, ("c", "x")) for name in ("paceline", "C, epoll", "broken", "never ran")),
    goals=(),
)
MACHINE: dict[str, Any] = {"processor": "P", "python": "CPython 3.11 (GCC)", "usable_cores": [0, 1]}
RUN = Run("r", MACHINE, {"rounds": 3, "duration_s": 2.0, "warmup_s": 0.5})
SVG = "{http://www.w3.org/2000/svg}"


def record(trial: str, number: int = 0, *, error: str | None = None, **numbers: float) -> Record:
    return Record("r", 1, trial, number, "2026-01-02T03:04:05+00:00", {}, numbers, error)


RECORDS = [
    record("paceline", 0, messages_per_s=1000.0, cpu_us_per_message=4.0),
    record("paceline", 1, messages_per_s=3000.0, cpu_us_per_message=6.0),
    record("C, epoll", 0, messages_per_s=5000.0, cpu_us_per_message=1.0),
    record("broken", 0, error="no luck"),
]
RESULTS = Results(ROW, RECORDS)


def drawn(results: Results = RESULTS) -> str:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install -e '.[benchmarks]'")
    picture = picture_of(results, "P, 2 cores.")
    assert picture is not None
    return svg(picture)


def test_a_panel_for_each_metric_that_was_measured_and_a_bar_for_each_trial() -> None:
    picture = picture_of(RESULTS, "P.")
    assert picture is not None
    assert [panel.metric for panel in picture.panels] == ["messages_per_s", "cpu_us_per_message"]
    assert [(bar.trial, bar.text(0)) for bar in picture.panels[0].bars] == [
        ("paceline", "2,000 (1,000 … 3,000)"),
        ("C, epoll", "5,000"),
        ("broken", "failed"),
    ]
    assert [bar.is_ours for bar in picture.panels[0].bars] == [True, False, False]
    assert picture.foot == "Bar: median of 1 to 2; line: lowest to highest. P."


def test_an_axis_says_quantity_unit_and_direction() -> None:
    picture = picture_of(RESULTS)
    assert picture is not None
    assert picture.panels[0].axis == "messages per second (more is better)"
    assert picture.panels[1].axis == "server CPU time per message, µs (less is better)"


def test_there_are_words_for_who_cannot_see_it() -> None:
    picture = picture_of(RESULTS)
    assert picture is not None
    assert picture.in_short == (
        "Bars of row 1, messages per second (more is better), medians: paceline 2,000; C, epoll 5,000; broken failed."
    )
    assert "paceline 2,000 (1,000 … 3,000)" in picture.in_words
    assert "paceline 5.00 (4.00 … 6.00)" in picture.in_words


def test_nothing_measured_is_no_picture() -> None:
    assert picture_of(Results(ROW, [record("broken", error="no luck")])) is None


def test_a_trial_of_another_kind_has_no_bar() -> None:
    found = picture_of(Results(ROW, [*RECORDS[:3], record("broken", import_ms=3.0)]))
    assert found is not None
    assert [bar.trial for bar in found.panels[0].bars] == ["paceline", "C, epoll"]
    assert [bar.trial for bar in found.panels[2].bars] == ["broken"]


def test_where_it_was_measured() -> None:
    assert where(Kept([RUN], RECORDS)) == "P, 2 cores, CPython 3.11, 2026-01-02."


def test_it_is_an_image_with_title_description_and_real_text() -> None:
    image = ET.fromstring(drawn())
    assert image.get("role") == "img"
    title, description = image.find(f"{SVG}title"), image.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "Row 1: Echo: <one> worker & $64$ connections"
    assert image.get("aria-labelledby") == f"{title.get('id')} description"
    assert description is not None
    assert "2,000 (1,000 … 3,000)" in (description.text or "")
    texts = {"".join(text.itertext()) for text in image.iter(f"{SVG}text")}
    assert {"paceline", "C, epoll", "failed", "messages per second (more is better)", ROW.title} <= texts


def test_every_color_has_its_dark_twin() -> None:
    text = drawn()
    style = text[text.index("<style") : text.index("</style>")]
    used = {part[:7] for part in text.replace(style, "").split(": ") if part.startswith("#")}
    assert used <= {light for light, _ in COLORS.values()}
    for light, dark in COLORS.values():
        assert f'[style*="fill: {light}"] {{ fill: {dark} !important }}' in style


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "least"), [("ink", 4.5), ("quiet ink", 4.5), ("ours", 3.0), ("others", 3.0)])
def test_it_is_readable_in_both_schemes(scheme: int, name: str, least: float) -> None:
    lights = sorted(luminance(COLORS[which][scheme]) for which in (name, "ground"))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= least


def test_the_same_results_are_the_same_bytes_without_date_or_version() -> None:
    first = drawn()
    assert drawn() == first
    assert "dc:date" not in first
    assert "Matplotlib" not in first


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: str(row.number))
def test_names_fit_beside_the_bars(row: Row) -> None:
    for trial in row.trials:
        assert len(trial.name) <= LETTERS_OF_NAME


def test_zeros_can_be_drawn() -> None:
    assert "<svg" in drawn(Results(ROW, [record("paceline", messages_per_s=0.0)]))


def test_pictures_of_kept_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install -e '.[benchmarks]'")
    kept = tmp_path / "kept.jsonl"
    kept.write_text("\n".join([line_of(RUN), *map(line_of, RECORDS)]))
    assert main([str(kept), "--to", str(tmp_path / "pictures")]) == 0
    path = tmp_path / "pictures" / "row-1.svg"
    assert capsys.readouterr().out == f"{path}\n"
    ET.parse(path)


def test_without_matplotlib_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = picture_of(RESULTS)
    assert picture is not None
    with pytest.raises(NoMatplotlib, match=r"pip install -e '\.\[benchmarks\]'"):
        svg(picture)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl"), "--to", str(tmp_path)]) == 2
    assert "none.jsonl" in capsys.readouterr().err
