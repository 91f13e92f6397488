"""cli/chaos.py: options into a plan, what is shown where, exit codes; Ctrl-C."""

import json
import os
import signal
import subprocess
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from leftovers import children_of, eventually
from paceline.chaos.books import Broken
from paceline.chaos.catalogue import chosen
from paceline.chaos.plan import Plan
from testbed import COMMAND

if typing.TYPE_CHECKING:
    from cli.conftest import Ended

    Run = Callable[..., Ended]


@pytest.fixture
def planned(plans_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """The plan that a command line makes; nothing is started."""
    return partial(plans_of, "chaos", "paceline.chaos.run.run")


def test_the_defaults(planned: Callable[..., Plan], folder: Path) -> None:
    plan = planned()
    assert plan == Plan(seed=plan.seed, faults=chosen([], is_ours=True), where=str(folder))
    assert (plan.lasting_s, plan.count, plan.connections, plan.workers, plan.rate) == (60.0, None, 100, 2, 500.0)
    assert planned().seed != plan.seed


def test_where_the_servers_log_is_kept(planned: Callable[..., Plan], run: "Run", folder: Path) -> None:
    (folder / "log").write_text("of another run")
    assert planned("--server-log", "log").log_path == str(folder / "log")
    assert (folder / "log").read_text() == ""
    refused = run("chaos", "--server-log", "no/such/folder/log")
    assert refused.code == 2
    assert "--server-log no/such/folder/log: cannot be written (No such file or directory)" in refused.err


def test_every_option_arrives(planned: Callable[..., Plan], folder: Path) -> None:
    words = (
        "--for 2m --count 1k --seed 7 --faults reload,kill --pause 1s -c 20 --rate 1.5k -w 3 --set threads=8 --quiet"
    )
    assert planned(*words.split()) == Plan(
        seed=7, faults=chosen(["kill", "reload"], is_ours=True), lasting_s=120.0, count=1000, pause_s=1.0,
        connections=20, rate=1500.0, workers=3, settings=("--threads=8",), where=str(folder),
    )  # fmt: skip


def test_the_size_of_an_abuse(planned: Callable[..., Plan], folder: Path) -> None:
    plan = planned("--faults", "drip", "--attackers", "2k", "--hold", "60s", "--deadline", "20s", "--count", "1")
    assert (plan.attackers, plan.hold_s, plan.deadline_s) == (2_000, 60.0, 20.0)
    assert plan.patience_s == 75.0, "who comes anew may have to wait until it is over"


def test_a_target_of_the_user(planned: Callable[..., Plan], folder: Path) -> None:
    (folder / "app.py").write_text(
        "import paceline\n\n@paceline.message(framing='line')\ndef f(line):\n    return line\n"
    )
    plan = planned("app:f", "-m", r"a\tb", "--echo")
    assert (plan.target, plan.message, plan.framing, plan.is_framing_told, plan.echo) == (
        "app:f", b"a\tb", "line", False, True,
    )  # fmt: skip
    assert not any(fault.ours for fault in plan.faults)
    plan = planned("app:f", "--framing", "netstring")
    assert (plan.framing, plan.is_framing_told) == ("netstring", True)


def test_with_a_count_alone_there_is_no_end_by_time(planned: Callable[..., Plan]) -> None:
    assert planned("--count", "5").lasting_s is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--for 1y", "--for 1y: must be a time from 100ms to 7d"),
        ("--count 0", "--count 0: must be a whole number from 1 to 10,000,000; the nearest right value is 1"),
        ("--faults kil", "there is no fault 'kil'; there is kill, segv, "),
        ("--rate 0", "--rate 0: must be messages per second, 0.1 to 100000"),
        (
            "--faults mute -c 2000 --rate 100",
            "its clients speak every 20 s, and --faults mute ends who says nothing",
        ),
        ("--echo", "--echo is for a TARGET of yours"),
        ("-m x", "--message is for a TARGET of yours"),
        ("nowhere:f", "nowhere:f cannot be served: no module named 'nowhere'"),
        ("echo -m a\\q", "is no escape"),
        ("echo --faults hang", "needs an application that does as it is told"),
        ("--set bind=:1", "chaos gives this setting itself"),
        ("--set threds=1", "must be NAME=VALUE, a setting of `paceline serve`; did you mean threads?"),
        ("--conections 4", "did you mean --connections?"),
        ("--report /nowhere/x", "--report /nowhere/x: cannot be written (No such file or directory)"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(words: str, said: str, run: "Run") -> None:
    ended = run("chaos", *words.split())
    assert ended.code in (2, 3)
    assert said in ended.err
    assert ended.out == ""


def test_the_list_of_faults(run: "Run") -> None:
    ended = run("chaos", "--list")
    assert (ended.code, ended.err) == (0, "")
    assert "  *  kill        a worker is killed (SIGKILL)\n" in ended.out
    assert "may cost: nothing" in ended.out
    assert "may cost: nothing; an abuse by 200\n" in ended.out


def test_a_run(run: "Run", folder: Path) -> None:
    words = ("--faults", "kill,reset", "--count", "3", "-c", "20", "--pause", "50ms", "--seed", "7")
    ended = run("chaos", *words, "--report", "r.json")
    assert ended.code == 0, ended.out
    assert ended.err.startswith("paceline: chaos with seed 7: ")
    assert ended.out.endswith("Every promise was kept.\n")
    record = json.loads((folder / "r.json").read_text())
    assert len(record["schedule"]) == 3
    assert record["plan"]["seed"] == 7


def test_a_broken_promise_is_exit_code_1(run: "Run", monkeypatch: pytest.MonkeyPatch) -> None:
    from chaos.test_result import made

    result = made()
    result.books.broken.append(Broken("something went wrong", 1))
    monkeypatch.setattr("paceline.chaos.run.run", lambda *_: result)
    ended = run("chaos", "--quiet")
    assert (ended.code, ended.err) == (1, "")
    assert "1 promise was broken:\n  - step 1: something went wrong\n" in ended.out
    ended = run("chaos", "--json", "--quiet")
    assert json.loads(ended.out)["broken"] == [{"what": "something went wrong", "step": 1}]


def has_killed(folder: Path) -> bool:
    """The server of a run whose temporary files are in this folder has lost a worker."""
    return any("worker-died" in path.read_text() for path in folder.glob("paceline-chaos-*/log"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_shows_what_was_found_so_far(number: signal.Signals, folder: Path) -> None:
    words = [*COMMAND, "chaos", "--faults", "kill", "-c", "20", "--json", "--seed", "7"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, process_group=0
    ) as process:
        try:
            eventually(
                lambda: any("worker-died" in path.read_text() for path in folder.glob("paceline-chaos-*/log")), 30
            )
            os.killpg(process.pid, number)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    record = json.loads(output)
    assert record["interrupted"]
    assert record["faults"]["kill"]["injected"] >= 1
    assert process.returncode == 0
    assert not list(folder.glob("paceline-chaos-*")), "nothing is left"


def test_an_interrupt_ends_an_abuse_that_would_go_on(folder: Path) -> None:
    words = [*COMMAND, "chaos", "--faults", "quiet", "--attackers", "5", "--hold", "1h", "-c", "20", "--json"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, process_group=0
    ) as process:
        try:
            eventually(lambda: has_attackers(process.pid), 30)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=40)
        finally:
            process.kill()
    record = json.loads(output)
    assert record["interrupted"]
    assert record["broken"] == []
    assert process.returncode == 0


def has_attackers(pid: int) -> bool:
    words = b"paceline.chaos.attackers"
    return any(words in Path(f"/proc/{child}/cmdline").read_bytes() for child in children_of(pid))


def test_when_it_is_killed_its_server_goes_with_it(folder: Path) -> None:
    words = [*COMMAND, "chaos", "--faults", "kill", "-c", "20", "--seed", "7"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, process_group=0
    ) as process:
        eventually(lambda: has_killed(folder), 30)
        process.kill()
    eventually(lambda: not list(folder.glob("paceline-chaos-*")))
