"""cli/lab.py: names into experiments, what is shown where, what is kept, exit codes; Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from leftovers import children_of, eventually, wait_gone
from paceline.errors import HostError
from paceline.lab import records, running
from paceline.lab.catalogue import NAMES, experiment_of
from paceline.lab.listings import source_of
from paceline.lab.machine import machine_of
from paceline.lab.records import Writer, read, read_folder
from paceline.lab.results import Result, result_of
from testbed import COMMAND

if typing.TYPE_CHECKING:
    from cli.conftest import Ended

    Run = Callable[..., Ended]

MACHINE = {"cores": 2, "gil": True}
TOOK_US = {"pool": 20.0, "thread": 50.0, "fork": 500.0, "spawn": 20_000.0}


@pytest.fixture(autouse=True)
def _at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "share"))


def kept(name: str, folder: Path, *, quick: bool = True, seed: int = 7, why: str = "") -> Result:
    """What a run would have kept: numbers that are known."""
    experiment = experiment_of(name)
    told, code = experiment.predict(machine_of(MACHINE)), source_of(experiment.shown)
    writer = Writer(folder, name, MACHINE, {"quick": quick, "seed": seed}, told, code)
    if name == "creation":
        for case, took in TOOK_US.items():
            writer.write(sample={"case": case, "round": 1, "took_us": [took]})
    writer.write(end={"seconds": 1.0, "finished": not why, "why": why})
    writer.close()
    return result_of(read(writer.path))


class Measuring:
    """Stands in for running.measure: `calls`; `whys` and `errors` by the name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool, int | None]] = []
        self.whys: dict[str, str] = {}
        self.errors: dict[str, BaseException] = {}

    def __call__(self, name: str, folder: Path, *, quick: bool, seed: int | None, on_progress: Any) -> Result:
        self.calls.append((name, quick, seed))
        result = kept(name, folder, quick=quick, seed=seed or 0, why=self.whys.get(name, ""))
        if name in self.errors:
            raise self.errors[name]
        return result


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Measuring:
    stand_in = Measuring()
    monkeypatch.setattr(running, "measure", stand_in)
    return stand_in


def two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of two, whatever is in the real one."""
    creation = experiment_of("creation")
    for module in ("paceline.lab.catalogue", "paceline.lab.records"):
        monkeypatch.setattr(f"{module}.NAMES", ("creation", "second"))
    for place in ("paceline.lab.catalogue.experiment_of", "paceline.lab.results.experiment_of"):
        monkeypatch.setattr(place, lambda name: replace(creation, name=name))
    monkeypatch.setattr(sys.modules[__name__], "experiment_of", lambda name: replace(creation, name=name))


def test_alone_it_shows_its_help(run: "Run") -> None:
    ended = run("lab")
    assert (ended.code, ended.err) == (0, "")
    assert ended == run("lab", "--help")
    assert re.findall(r"^  (\w+)  +[A-Z]", ended.out, re.MULTILINE) == ["list", "run", "report"]


# list


def test_the_list(run: "Run") -> None:
    ended = run("lab", "list")
    assert (ended.code, ended.err) == (0, "")
    for name in NAMES:
        question = re.escape(experiment_of(name).question.en)
        assert re.search(rf"^  {name} +\d+ s +[\d,]+ s  {question}$", ended.out, re.MULTILINE)
    assert experiment_of(NAMES[0]).question.zh in run("lab", "list", "--lang", "zh").out


def test_the_list_as_json(run: "Run") -> None:
    rows = [json.loads(line) for line in run("lab", "list", "--json").out.splitlines()]
    assert [row["name"] for row in rows] == list(NAMES)
    assert all(row["question"].keys() == {"en", "zh"} and row["quick_s"] < row["full_s"] for row in rows)


# run


def test_a_run_says_what_was_found_and_how_the_report_is_made(run: "Run", measuring: Measuring, folder: Path) -> None:
    ended = run("lab", "run", "creation", "--quick", "--seed", "7")
    assert (ended.code, ended.err) == (0, "")
    assert measuring.calls == [("creation", True, 7)]
    (results,) = (folder / "share" / "paceline" / "lab").iterdir()
    assert ended.out.startswith("creation: What does it cost to create a process")
    assert "  Verdict ✓  It held here: a thread took 50 µs" in ended.out
    assert ended.out.endswith(f"Seed 7. The results are in {results}; draw them by:  paceline lab report\n")


def test_in_a_folder_that_is_named_and_in_chinese(run: "Run", measuring: Measuring) -> None:
    ended = run("lab", "run", "creation", "creation", "--out", "my results", "--lang", "zh")
    assert [(name, quick) for name, quick, _ in measuring.calls] == [("creation", False)]
    assert "  结论 ✓  在这台机器上预测成立" in ended.out
    assert ended.out.endswith("用这条命令生成报告：  paceline lab report --from 'my results'\n")
    assert len(read_folder(Path("my results"))[0]) == 1


@pytest.mark.parametrize("words", [(), ("all",), ("creation", "all")])
def test_without_names_all_with_one_seed(words: tuple[str, ...], run: "Run", measuring: Measuring) -> None:
    assert run("lab", "run", *words).code == 0
    assert [name for name, _, _ in measuring.calls] == list(NAMES)
    assert len({seed for _, _, seed in measuring.calls}) == 1


def test_a_run_as_json_has_everything(run: "Run", measuring: Measuring) -> None:
    ended = run("lab", "run", "creation", "--json", "--seed", "7", "--out", "r")
    (line,) = ended.out.splitlines()
    found = json.loads(line)
    assert (found["experiment"], found["settings"]) == ("creation", {"quick": False, "seed": 7})
    assert (found["machine"], found["file"]) == (MACHINE, "r/creation.jsonl")
    assert found["samples"][1] == {"case": "thread", "round": 1, "took_us": [50.0]}
    assert found["verdict"]["held"] is True
    assert found["verdict"]["figures"]["fork ÷ thread"] == 10.0
    assert found["prediction"]["text"].keys() == found["question"].keys() == {"en", "zh"}
    assert (found["finished"], found["why"]) == (True, "")
    assert ended.err == "paceline: Seed 7. The results are in r; draw them by:  paceline lab report --from r\n"
    assert run("lab", "run", "creation", "--json", "--quiet").err == ""


def test_one_that_fails_does_not_stop_the_others(
    run: "Run", measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_names(monkeypatch)
    measuring.whys["creation"] = "its process was killed by SIGSEGV"
    ended = run("lab", "run")
    assert (ended.code, [name for name, _, _ in measuring.calls]) == (1, ["creation", "second"])
    assert "paceline: creation: its process was killed by SIGSEGV; what it had measured is kept\n" in ended.err
    assert "Cut short: its process was killed by SIGSEGV." in ended.out
    assert "second: What" in ended.out


def test_a_mistake_in_one_does_not_stop_the_others(
    run: "Run", measuring: Measuring, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_names(monkeypatch)
    measuring.errors["creation"] = ZeroDivisionError("of a verdict")
    ended = run("lab", "run")
    assert (ended.code, [name for name, _, _ in measuring.calls]) == (1, ["creation", "second"])
    assert "ZeroDivisionError: of a verdict" in ended.err
    assert "paceline: creation: failed, which is a bug in Paceline" in ended.err


def test_a_machine_that_refuses_ends_the_run(run: "Run", measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    two_names(monkeypatch)
    measuring.errors["creation"] = HostError("is the disk full?")
    ended = run("lab", "run")
    assert (ended.code, ended.err, len(measuring.calls)) == (3, "paceline: is the disk full?\n", 1)


def test_what_did_not_hold_is_no_failure(run: "Run", measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOK_US, "fork", 60.0)
    ended = run("lab", "run", "creation")
    assert ended.code == 0
    assert "Verdict ✗  It did not hold here" in ended.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("run cretion", 2, "the lab has no experiment 'cretion'; did you mean creation?"),
        ("run xyz", 2, "the lab has no experiment 'xyz'; there are "),
        ("run --seed -1", 2, "--seed -1: must be a whole number from 0 to "),
        ("run --lang de", 2, "--lang de: must be en or zh"),
        ("list --lang de", 2, "--lang de: must be en or zh"),
        ("run --quik", 2, "there is no option --quik; did you mean --quick? `paceline lab run --help`"),
        ("run creation --out file/below", 3, "file/below: results cannot be kept there (Not a directory)"),
        ("rn", 2, "lab has no command 'rn'; did you mean run? `paceline lab --help`"),
        ("report", 2, "share/paceline/lab; run `paceline lab run` first, or say --from FOLDER"),
        ("report --from nowhere", 2, "nowhere: no results of the lab are in there"),
        ("report --from garbage", 2, "garbage/creation.jsonl, line 1: is no JSON object"),
        ("report --from . --lang de", 2, "--lang de: must be en or zh"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    words: str, code: int, said: str, run: "Run", measuring: Measuring, folder: Path
) -> None:
    (folder / "file").touch()
    (folder / "garbage").mkdir()
    (folder / "garbage" / "creation.jsonl").write_text("not ours\n")
    ended = run("lab", *words.split())
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert measuring.calls == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_keeps_what_was_measured_and_leaves_nothing(number: signal.Signals, folder: Path) -> None:
    words = [*COMMAND, "lab", "run", "creation", "--out", "r", "--seed", "7", "--quiet"]
    path = folder / "r" / "creation.jsonl"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            eventually(lambda: path.exists() and '"sample"' in path.read_text(), 30)
            started = children_of(process.pid)
            os.killpg(process.pid, number)
            out, err = process.communicate(timeout=30)  # whoever were left would hold these open
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert err == ("paceline: interrupted; what was measured so far is kept in r: paceline lab report --from r\n")
    assert len(started) == 1
    wait_gone(started)
    kept = read(path)
    assert (bool(kept.samples), kept.finished, kept.why) == (True, False, "interrupted")


# report


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for what draws."""
    module = ModuleType("paceline.lab.page")
    vars(module)["html_of"] = lambda kept, language: f"<p>{language} {[it.experiment for it in kept]} ✓</p>\n"
    monkeypatch.setitem(sys.modules, "paceline.lab.page", module)
    monkeypatch.setattr("paceline.lab.page", module, raising=False)


@pytest.mark.usefixtures("page")
def test_a_report_of_the_last_run(run: "Run", folder: Path) -> None:
    results = records.new_folder(None, [])
    kept("creation", results)
    ended = run("lab", "report")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"paceline-lab.html: 1 experiment of {results}\n"
    assert (folder / "paceline-lab.html").read_text("utf-8") == "<p>en ['creation'] ✓</p>\n"
    assert run("lab", "report").out.endswith("; it took the place of what was there\n")


@pytest.mark.usefixtures("page")
def test_a_report_of_a_folder_into_a_file_or_standard_output(run: "Run", folder: Path) -> None:
    kept("creation", folder)
    assert run("lab", "report", "--from", ".", "--lang", "zh", "--out", "-").out == "<p>zh ['creation'] ✓</p>\n"
    assert run("lab", "report", "--from", ".", "--out", "x.html").code == 0
    assert (folder / "x.html").exists()
    refused = run("lab", "report", "--from", ".", "--out", "no/x.html")
    assert (refused.code, refused.out) == (2, "")
    assert "--out no/x.html: cannot be written (No such file or directory); give a file that can be" in refused.err


def test_serving_does_not_import_the_lab() -> None:
    code = "import sys; import paceline.cli.program; print(*[name for name in sys.modules if 'paceline.lab' in name])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "\n"
