"""cli/controlling.py: what is shown where, exit codes; Ctrl-C."""

import json
import os
import signal
import subprocess
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from controlbed import Answering, answering, greeting, line
from paceline import clock
from paceline.ctl.asking import Conversation
from paceline.host import processes, runtime
from testbed import COMMAND

if typing.TYPE_CHECKING:
    from cli.conftest import Ended

    Run = Callable[..., Ended]

pytestmark = pytest.mark.usefixtures("nothing_left", "no_server")


# Without a server


@pytest.mark.parametrize("command", ["status", "reload", "dump", "config", "stop"])
def test_without_a_server_the_code_is_3(run: "Run", command: str) -> None:
    ended = run("ctl", command)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("paceline: no server of this user ")


def test_without_a_server_nothing_is_healthy(run: "Run") -> None:
    ended = run("ctl", "health")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("unhealthy: no server of this user ")
    record = json.loads(run("ctl", "health", "--json").out)
    assert (record["version"], record["healthy"]) == (1, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reload"], "kill -HUP {pid} reloads it"),
        (["upgrade"], "kill -USR2 {pid}"),
        (["stop"], "kill -TERM {pid} stops it"),
        (["scale", "2"], "kill -TTIN {pid} makes one worker more"),
        (["dump"], "(--control off, or the log says why)\n"),
    ],
)
def test_without_a_socket_there_are_signals(run: "Run", words: list[str], said: str) -> None:
    pid = os.getpid()
    record = runtime.Running(pid, processes.start_ticks(pid), None, "", ("here",), "echo", 1.0, "1.0")
    runtime.publish(record, os.environ[runtime.VARIABLE])
    ended = run("ctl", *words)
    assert (ended.code, ended.out) == (3, "")
    assert f"the server (pid {pid}) has no control socket" in ended.err
    assert said.format(pid=pid) in ended.err


# Asking

HOW_IT_GOES = line(is_last=False, text="generation 2 starts") + line(text="generation 2 serves", detail="")


def ask(run: "Run", server: Answering, *words: str) -> "Ended":
    return run("ctl", *words, "--control", server.path)


def test_how_it_goes_is_no_result(run: "Run") -> None:
    with answering(greeting(), HOW_IT_GOES) as server:
        ended = ask(run, server, "reload")
    assert (ended.code, ended.out) == (0, "generation 2 serves\n")
    assert ended.err == "paceline: generation 2 starts\n"


def test_as_json_all_answers_are_results(run: "Run") -> None:
    with answering(greeting(), HOW_IT_GOES) as server:
        ended = ask(run, server, "reload", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == [
        "generation 2 starts",
        "generation 2 serves",
    ]
    with answering(greeting(), line(ok=False, text="no")) as server:
        ended = run("ctl", "--json", "--control", server.path, "reload")
    assert (ended.code, ended.err, json.loads(ended.out)["ok"]) == (1, "", False)


def test_what_failed_is_told_with_the_traceback(run: "Run") -> None:
    trace = "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n"
    with answering(greeting(), line(ok=False, text="it raised KeyError\x1b[2J", detail=trace)) as server:
        ended = ask(run, server, "reload")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"paceline: it raised KeyError\\x1b[2J\n{trace}"


def test_stacks_have_a_section_each(run: "Run") -> None:
    workers = [{"slot": 0, "pid": 7, "seat": 0, "generation": 1, "state": "ready", "text": "thread 0\n"}]
    with answering(greeting(), line(text="1 worker", workers=workers)) as server:
        ended = ask(run, server, "dump")
    assert (ended.code, ended.out, ended.err) == (0, "worker 0 · pid 7 · ready · generation 1\n  thread 0\n", "")
    for nonsense in ({}, {"workers": 7}, {"workers": [7]}):
        with answering(greeting(), line(text="", **nonsense)) as server:
            assert ask(run, server, "dump").out == "there is no worker\n"


def test_settings_are_shown_as_they_come(run: "Run") -> None:
    with answering(greeting(), line(text="", toml="threads = 8\n")) as server:
        assert ask(run, server, "config").out == "threads = 8\n"


def test_nobody_need_wait_for_ever(run: "Run") -> None:
    with answering(greeting(), line(is_last=False, text="begun"), stays=True) as server:
        ended = ask(run, server, "reload", "--timeout", "50ms")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith("paceline: it goes on, but the time to wait for it is up")
    with answering(b"", stays=True) as server:
        ended = ask(run, server, "reload", "--timeout", "50ms")
    assert ended.code == 3


def test_a_server_that_is_no_more_before_it_has_answered(run: "Run") -> None:
    with answering(greeting(), b"") as server:
        ended = ask(run, server, "reload")
    assert (ended.code, ended.out) == (5, "")
    assert "has hung up before its last answer" in ended.err


def test_ctrl_c_ends_the_waiting_only(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with answering(greeting(), line(is_last=False, text="begun"), stays=True) as server:
        words = [*COMMAND, "ctl", "reload", "--control", server.path]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as asking:
            assert asking.stderr
            assert asking.stderr.readline() == "paceline: begun\n"
            asking.send_signal(signal.SIGINT)
            said = asking.stderr.read()
            assert asking.wait(20) == 130
    said = said.removesuffix("\n")  # click ends the line of ^C
    assert said == "paceline: nobody waits any more, but the reload goes on; paceline ctl status shows how it is\n"


@pytest.mark.parametrize(
    ("toml", "wait_s"),
    [('drain_timeout = "20s"\n', 30.0), ("drain_timeout = 1.5\n", 11.5), ("", 60.0), ("x = [", 60.0)],
)
def test_a_stop_is_waited_for_as_long_as_its_calls_have(
    run: "Run", monkeypatch: pytest.MonkeyPatch, toml: str, wait_s: float
) -> None:
    left: list[float] = []
    monkeypatch.setattr(Conversation, "wait_for_end", lambda _, until: left.append(until - clock.now()))
    with answering(greeting(), line(text="", toml=toml), line(text="it stops")) as server:
        ended = ask(run, server, "stop")
    assert (ended.code, ended.out, ended.err) == (0, "the server is gone\n", "paceline: it stops\n")
    assert server.heard == [{"do": "ping"}, {"do": "config"}, {"do": "stop"}]
    assert wait_s - 5 < left[0] <= wait_s


def test_a_server_of_another_version_is_said_to_be_one(run: "Run") -> None:
    pieces = [json.dumps({**json.loads(each), "version": 9}).encode() + b"\n" for each in (greeting(), line(text="ok"))]
    with answering(*pieces) as server:
        ended = ask(run, server, "reload")
    assert (ended.code, ended.out) == (0, "ok\n")
    assert ended.err.startswith("paceline: the server speaks version 9 of the control protocol, and this is a client")
