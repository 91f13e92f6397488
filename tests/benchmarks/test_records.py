"""What is kept of a benchmark: lines of JSON, there and back."""

from pathlib import Path

import pytest

from benchmarks.records import Kept, Record, Run, Writer, line_of, parse, read, read_all

RUN = Run("r1", {"processor": "a"}, {"rounds": 2})
MEASURED = Record("r1", 1, "paceline", 0, "2026-01-02T03:04:05+00:00", {"size": 64}, {"messages_per_s": 1.5})
FAILED = Record("r1", 1, "C, epoll", 0, "2026-01-02T03:04:05+00:00", {}, {}, "two\nlines")


def test_entries_survive_the_way_through_a_line() -> None:
    kept = parse([line_of(RUN), "", line_of(MEASURED), line_of(FAILED)])
    assert kept == Kept([RUN], [MEASURED, FAILED])


def test_an_entry_is_one_line() -> None:
    assert "\n" not in line_of(FAILED)


@pytest.mark.parametrize(
    "broken",
    ["{", "[]", "17", "{}", '{"kind": "dream"}', '{"kind": "run", "run": "r1"}', '{"kind": "trial", "speed": 1}'],
)
def test_a_line_that_is_not_a_record_is_refused_by_its_number(broken: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not a record"):
        parse([line_of(RUN), broken])


def test_every_line_is_in_the_file_as_soon_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    with Writer(path) as writer:
        writer.write(RUN)
        assert read(path) == Kept([RUN], [])
        writer.write(MEASURED)
        assert read(path) == Kept([RUN], [MEASURED])


def test_a_second_run_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for _ in range(2):
        with Writer(path) as writer:
            writer.write(RUN)
    assert read(path).runs == [RUN, RUN]


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{line_of(RUN)}\n{line_of(MEASURED)}\n")
    assert read_all([tmp_path / "one", tmp_path / "two"]) == Kept([RUN, RUN], [MEASURED, MEASURED])


@pytest.mark.parametrize(("content", "said"), [("", "there are no results"), ("nonsense", "line 1 is not a record")])
def test_a_file_among_several_that_has_no_results_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "good").write_text(f"{line_of(RUN)}\n{line_of(MEASURED)}\n")
    (tmp_path / "bad").write_text(content)
    with pytest.raises(ValueError, match=rf"bad: {said}"):
        read_all([tmp_path / "good", tmp_path / "bad"])
