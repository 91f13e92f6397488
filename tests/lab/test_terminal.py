"""lab/terminal.py: tables, the time that is left, and an experiment in short, in both languages."""

from dataclasses import replace

import pytest

from paceline.lab.catalogue import experiment_of
from paceline.lab.columns import width
from paceline.lab.experiment import Machine, Table
from paceline.lab.samples import Samples
from paceline.lab.terminal import left_s, list_text, progress_text, table_lines, text_of
from paceline.lab.texts import LANGUAGES, Text, same

MACHINE = Machine(2, True)
CREATION = experiment_of("creation")
SAMPLES = Samples.made(
    {"case": case, "round": 1, "took_us": [took]}
    for case, took in (("pool", 20.0), ("thread", 50.0), ("fork", 500.0), ("spawn", 20_000.0))
)


def test_a_table_has_numbers_to_the_right_and_names_to_the_left() -> None:
    table = Table([Text("what", "对象"), same("s")], [[Text("thread", "线程"), same("7")], [same("x"), same("1,000")]])
    assert table_lines(table, "en", 40) == ["what        s", "thread      7", "x       1,000"]
    assert table_lines(table, "zh", 40) == ["对象      s", "线程      7", "x     1,000"]


def test_a_table_that_is_too_wide_or_too_long_is_broken_or_cut() -> None:
    table = Table([same("what"), same("n")], [[same("one two three four"), same("1")]] * 20)
    lines = table_lines(table, "en", 13)
    assert lines[1:3] == ["one two     1", "three four"]
    assert lines[-1] == "… and 4 more rows, in the report"
    assert table_lines(Table([same("what")], []), "en", 20) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_an_experiment_in_short_is_no_wider_than_the_terminal(language: str, columns: int) -> None:
    text = text_of(CREATION, MACHINE, SAMPLES, why="", language=language, columns=columns)
    lines = text.splitlines()
    assert max(map(width, lines)) <= min(columns, 100)
    found = text.replace("\n", "").replace(" ", "")
    for whole in (CREATION.question, CREATION.predict(MACHINE).text, CREATION.judge(MACHINE, SAMPLES).text):
        assert whole[language].replace(" ", "") in found


def test_what_was_found_is_marked() -> None:
    def shown(samples: Samples, why: str = "") -> str:
        return text_of(CREATION, MACHINE, samples, why=why, language="en", columns=80)

    assert "  Verdict ✓  It held here: a thread took 50 µs" in shown(SAMPLES)
    slow = Samples.made({**sample, "took_us": [100.0]} for sample in SAMPLES)
    assert "  Verdict ✗  It did not hold here" in shown(slow)
    nothing = shown(Samples(), why="its process was killed by SIGKILL")
    assert "  Verdict ?  Too little was measured" in nothing
    assert "  Cut short: its process was killed by SIGKILL.\n" in nothing
    assert "Measured" not in nothing


def test_the_list_has_the_times_and_their_sum() -> None:
    other = replace(CREATION, name="x", question=Text("What is x?", "x 是什么？"), quick_s=30.0, full_s=1000.0)
    assert list_text([CREATION, other], "en").splitlines()[2:] == [
        "  creation      1 s      3 s  What does it cost to create a process, a thread, an interpreter?",
        "  x            30 s  1,000 s  What is x?",
        "",
        "               31 s  1,003 s  all of them",
    ]
    assert "x 是什么？" in list_text([CREATION, other], "zh")


@pytest.mark.parametrize(
    ("at", "share", "seconds", "left"),
    [
        (0, 0.0, 0.0, 60.0),
        (0, 0.0, 4.0, 56.0),
        (0, 0.0, 99.0, 50.0),
        (0, 0.05, 3.0, 57.0),
        (0, 0.5, 20.0, 70.0),
        (0, 0.5, 5.0, 55.0),
        (0, 1.0, 12.0, 50.0),
        (1, 0.5, 10.0, 40.0),
        (2, 1.0, 30.0, 0.0),
    ],
)
def test_the_time_left_is_that_of_this_run_as_soon_as_it_can_be_told(
    at: int, share: float, seconds: float, left: float
) -> None:
    assert left_s([10.0, 20.0, 30.0], at, share, seconds) == pytest.approx(left)


def test_the_progress_says_where_it_is() -> None:
    said = progress_text("gil", 3, 12, 0.4, 65.9)
    assert said.en == "gil (3 of 12): 40 %, about 1:05 left"
    assert said.zh == "gil（第 3 个，共 12 个）：40 %，大约还需 1:05"
