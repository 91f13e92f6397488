"""The report: verdicts, remarks, the text that is made of results, and the files that are written."""

import argparse
from pathlib import Path
from typing import Any, Literal

import pytest

from benchmarks.records import Kept, Record, Run, line_of
from benchmarks.report import head, in_short, main, path_of_report, remarks, report, section, table
from benchmarks.spreads import Results
from benchmarks.terms import Goal, Load, Row, Trial

ROW = Row(
    number=1,
    title="Echo",
    us="ours",
    metric="messages_per_s",
    shows=("messages_per_s", "cpu_us_per_message", "threads_max", "own_kib"),
    draws=("messages_per_s",),
    trials=(Trial("ours", ("paceline", "echo")), Trial("theirs", ("c", "c_epoll")), Trial("never ran", ("c", "x"))),
    goals=(
        Goal("of theirs", "messages_per_s", "ours", "theirs", "≥", 0.5, by_cpu=True),
        Goal("of a thousand", "messages_per_s", "ours", 1000, "≥", 0.5),
        Goal("of nothing", "messages_per_s", "ours", "never ran", "≥", 1),
    ),
    note="A note.",
)
MACHINE: dict[str, Any] = {
    "processor": "P", "kernel": "K", "python": "CPython", "usable_cores": [0, 1], "system": "Linux", "commit": "abc",
    "packages": {"uvloop": "1"},
}  # fmt: skip
SETTINGS: dict[str, Any] = {"rounds": 3, "duration_s": 2.0, "warmup_s": 0.5, "quick": False}
RUN = Run("r", MACHINE, SETTINGS)


def record(
    trial: str, number: int, *, run: str = "r", row: int = 1, error: str | None = None, **numbers: float
) -> Record:
    return Record(run, row, trial, number, "2026-01-02T03:04:05+00:00", {}, numbers, error)


def results(*records: Record) -> Results:
    return Results(ROW, records)


def rates(trial: str, *values: float, run: str = "r") -> list[Record]:
    return [
        record(trial, number, run=run, messages_per_s=value, cpu_us_per_message=1e6 / value)
        for number, value in enumerate(values)
    ]


def test_records_of_other_rows_are_not_in_it() -> None:
    assert not results(record("ours", 0, row=2, messages_per_s=1.0))
    assert results(record("ours", 0, messages_per_s=1.0))


@pytest.mark.parametrize(
    ("sense", "value", "reached"), [("≥", 1.0, True), ("≥", 0.99, False), ("≤", 1.0, True), ("≤", 1.01, False)]
)
def test_a_goal_is_reached_at_its_bound(sense: Literal["≥", "≤"], value: float, reached: bool) -> None:
    assert Goal("", "m", "a", 1, sense, 1.0).is_reached(value) is reached


def test_verdicts_say_yes_no_and_not_measured() -> None:
    text = section(results(*rates("ours", 400), *rates("theirs", 600)))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "| yes |" in " ".join(lines["of theirs"].split())
    assert "| NO |" in " ".join(lines["of a thousand"].split())
    assert "not measured" in lines["of nothing"]
    assert lines["of theirs"].count("0.67") == 2, "throughput and CPU time say the same"


def test_competitors_are_compared_with_ours() -> None:
    lines = section(results(*rates("ours", 400), *rates("theirs", 200))).splitlines()
    (theirs,) = (line for line in lines if line.startswith("| theirs"))
    assert [cell.strip() for cell in theirs.split("|")[1:-1]] == ["theirs", "200", "5,000.00", "2.00", "2.00"]
    assert not any("never ran" in line for line in lines), "what has no figures has no line"


def test_without_ours_there_is_no_comparison() -> None:
    assert "÷" not in section(results(*rates("theirs", 200)))


def test_failures_are_named_and_counted() -> None:
    found = results(*rates("ours", 1), *(record("theirs", n, error="could not\nmuch\n  the end") for n in range(2)))
    assert "Failed, 2 ×: theirs: could not … the end" in remarks(found)


def test_an_error_in_short() -> None:
    assert in_short("one") == "one"
    assert in_short("") == ""
    assert in_short("first\nmiddle\nlast\n") == "first … last"


def test_a_busy_machine_is_told() -> None:
    quiet = results(record("ours", 0, messages_per_s=1.0, others_busy=0.01))
    noisy = results(record("ours", 0, messages_per_s=1.0, others_busy=0.9))
    assert "trust CPU time" not in " ".join(remarks(quiet))
    assert "trust CPU time" in " ".join(remarks(noisy))


@pytest.mark.parametrize(
    ("load", "server", "told"), [(0.99, 0.5, True), (0.99, 0.99, False), (0.5, 0.5, False), (0.5, 0.99, False)]
)
def test_a_load_generator_that_was_the_limit_is_told(load: float, server: float, told: bool) -> None:
    found = results(record("ours", 0, messages_per_s=1.0, load_busy=load, server_busy=server))
    assert any("ours could do more" in remark for remark in remarks(found)) is told


def test_a_table_is_aligned() -> None:
    assert table(["", "n"], [["a", "1"], ["bcd", "1,000"]]).splitlines() == [
        "|     |     n |",
        "| --- | ----: |",
        "| a   |     1 |",
        "| bcd | 1,000 |",
    ]


def test_the_head_says_on_what_when_and_how() -> None:
    text = head(Kept([RUN], [record("ours", 0)]))
    for part in ("2026-01-02", "P", "K", "CPython", "2 cores", "uvloop 1", "commit abc", "3 rounds of 2 s after 0.5 s"):
        assert part in text
    assert "Quick" not in text
    assert "Quick" in head(Kept([Run("r", MACHINE, SETTINGS | {"quick": True})], [record("ours", 0)]))


def test_runs_of_different_machines_are_not_mixed() -> None:
    other = Run("s", MACHINE | {"processor": "Q"}, SETTINGS)
    with pytest.raises(ValueError, match="processor: P, Q"):
        head(Kept([RUN, other], [record("ours", 0)]))


def test_nothing_to_report_is_an_error() -> None:
    with pytest.raises(ValueError, match="no results"):
        report(Kept([RUN], []))


def test_a_report_is_made_of_kept_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(f"{line_of(RUN)}\n{line_of(record('paceline', 0, messages_per_s=700.0))}\n")
    two.write_text(f"{line_of(RUN)}\n{line_of(record('C, epoll', 0, messages_per_s=1000.0))}\n")
    assert main([str(one), str(two)]) == 0
    assert "0.70" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "nonsense", ""])
def test_a_file_that_cannot_be_reported_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "results.jsonl"
    if content is not None:
        path.write_text(content)
    assert main([str(path)]) == 2
    shown = capsys.readouterr()
    assert "results.jsonl" in shown.err
    assert shown.out == ""


def test_no_file_at_all_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_memory_is_shown_in_the_unit_of_its_column() -> None:
    lines = section(results(*(record("ours", n, own_kib=kib) for n, kib in enumerate((1024.0, 2048.0, 3072.0)))))
    assert "| MiB " in lines.replace("  ", "")
    assert "2.0 (1.0 … 3.0)" in lines


def test_what_was_written_by_hand_stands_below_the_head() -> None:
    text = report(Kept([RUN], [record("paceline", 0, messages_per_s=1.0)]), by_hand="So it is.\n")
    assert text.index("Measured 2026") < text.index("\n\nSo it is.\n\n") < text.index("## 1 ·")


def test_a_picture_is_embedded_with_words_for_who_cannot_see_it() -> None:
    text = report(Kept([RUN], [record("paceline", 0, messages_per_s=1234.0)]), pictures="here")
    assert "medians: paceline 1,234.](here/row-1.svg)" in text
    assert "![" not in report(Kept([RUN], [record("paceline", 0, messages_per_s=1.0)]))


def test_a_written_report_has_its_pictures_beside_it_and_does_not_change_without_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib: pip install -e '.[benchmarks]'")
    kept, to = tmp_path / "kept.jsonl", tmp_path / "figures.md"
    kept.write_text(f"{line_of(RUN)}\n{line_of(record('paceline', 0, messages_per_s=700.0))}\n")
    assert main([str(kept), "--to", str(to)]) == 0
    picture = tmp_path / "figures" / "row-1.svg"
    before = to.read_bytes(), picture.read_bytes()
    assert b"](figures/row-1.svg)" in before[0]
    assert main([str(kept), "--to", str(to)]) == 0
    assert (to.read_bytes(), picture.read_bytes()) == before


def test_a_report_without_a_suffix_would_have_the_name_of_its_pictures_folder() -> None:
    assert path_of_report("a/b.md") == Path("a/b.md")
    with pytest.raises(argparse.ArgumentTypeError, match=r"b: the report's name needs a suffix: b\.md"):
        path_of_report("b")


def test_an_open_loop_has_no_limit_of_the_load_generator() -> None:
    row = Row(1, "", "ours", "quick_p99_us", (), (), (Trial("ours", ("c", "x"), Load(rate=10)),), ())
    found = Results(row, [record("ours", 0, load_busy=1.0, server_busy=0.1)])
    assert remarks(found) == []
