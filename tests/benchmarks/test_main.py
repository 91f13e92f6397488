"""The command: its options, what it keeps, and that an interrupted run has ended everything and keeps what it had."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import missing_packages, publish, read_command_line, summary
from benchmarks.records import Kept, Record, Run, read
from benchmarks.rows import ROWS

ROOT = Path(__file__).parent.parent.parent
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler")


def test_defaults_and_quick() -> None:
    full, quick = read_command_line([]), read_command_line(["--quick"])
    assert full.rows == list(ROWS.values())
    assert (full.rounds, quick.rounds) == (5, 2)
    assert quick.pace.duration_s < full.pace.duration_s
    assert read_command_line(["--quick", "--rounds", "7", "--seconds", "3"]).rounds == 7


def test_rows_by_number() -> None:
    assert [row.number for row in read_command_line(["--rows", "3,1"]).rows] == [3, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "99"], "--rows 99: there are rows 1, 2"),
        (["--rows", "one"], "--rows one"),
        (["--only", "nobody"], "there are: paceline, C, epoll"),
        (["--rounds", "-1"], "must be more than 0"),
        (["--seconds", "-1"], "must be more than 0"),
    ],
)
def test_wrong_options_are_refused_by_name(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_command_line(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_report_with_a_wrong_name_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_command_line(["--report", "docs/benchmarks"])
    assert "docs/benchmarks.md" in capsys.readouterr().err


def test_packages_that_are_missing_are_named_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name != "uvloop" else object())
    assert missing_packages(ROWS[1].trials, has_pictures=True) == ["gevent", "matplotlib"]
    assert missing_packages(ROWS[1].trials, has_pictures=False) == ["gevent"]
    assert missing_packages(ROWS[5].trials, has_pictures=False) == []


def test_a_report_that_cannot_be_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = {"processor": "P", "usable_cores": [0]}
    run = Run("r", machine, {"rounds": 1, "duration_s": 1.0, "warmup_s": 0.5})
    kept = Kept([run], [Record("r", 1, "paceline", 0, "2026-01-02T03:04:05+00:00", {}, {}, "no luck")])
    (tmp_path / "file").touch()
    publish(kept, tmp_path / "file" / "report.md")
    shown = capsys.readouterr()
    assert "report.md: not written" in shown.err
    assert "## 1 · Echo" in shown.out


def test_a_summary_shows_the_first_figures_or_the_failure() -> None:
    numbers = {"messages_per_s": 1234.5, "cpu_us_per_message": 1.234}
    measured = Record("r", 1, "paceline", 0, "", {}, numbers)
    assert summary(measured) == "1,234 messages/s · 1.23 server CPU µs/message"
    assert summary(Record("r", 1, "paceline", 0, "", {}, {}, "no\nluck")) == "FAILED: no … luck"


def command(out: Path, *words: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"BENCHMARK_OF_TEST": str(out)}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--rows", "1", "--only", "C", "--out", str(out), *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def left_of(out: Path) -> list[str]:
    """The command lines of living processes that were started by the command with this output file, by whomever."""
    left = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"BENCHMARK_OF_TEST={out}".encode() in (folder / "environ").read_bytes():
                left.append((folder / "cmdline").read_text())
    return left


@needs_compiler
def test_a_short_run_reports_and_keeps_its_results(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with command(out, "--quick", "--seconds", "0.4") as running:
        printed, progress = running.communicate(timeout=50)
    assert running.returncode == 0, progress
    assert "| C, epoll |" in printed
    assert "[2/2, 0 s left] row 1 · C, epoll · round 2" in progress
    kept = read(out)
    assert [record.round for record in kept.records] == [0, 1]
    assert left_of(out) == []
    assert kept.runs[0].machine["usable_cores"] == sorted(os.sched_getaffinity(0))


@needs_compiler
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_what_it_started_and_keeps_what_it_had(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "results.jsonl"
    report = tmp_path / "report.md"
    with command(out, "--rounds", "1000", "--seconds", "0.05", "--report", str(report)) as running:
        assert running.stderr is not None
        assert any("[1/1000" in line for line in running.stderr)
        running.send_signal(number)
        printed, said = running.communicate(timeout=50)  # ends only when nobody holds the pipes any more
    assert running.returncode == 130
    assert left_of(out) == []
    assert "everything that was started has ended" in said
    assert "## 1 · Echo" in printed
    assert not report.exists(), "half of the figures do not replace a whole report"
    assert len(read(out).records) >= 1
