"""A conversation with a supervisor: what it says is brought, and whoever says nothing, or nonsense, is named."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controlbed import Answering, answering, greeting, line
from paceline import clock
from paceline.ctl.asking import BrokenOffError, Conversation, TooLateError
from paceline.ctl.finding import NoServerError, Server

pytestmark = pytest.mark.usefixtures("nothing_left")
SOON_S = 0.05


def at(server: Answering, pid: int = 0, patience_s: float | None = None) -> Conversation:
    return Conversation(Server(pid, server.path), patience_s)


@contextmanager
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """One that ends with its standard input."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as made:
        yield made


def test_what_is_asked_is_answered_up_to_the_last_word() -> None:
    pieces = line(is_last=False, text="begun") + line(is_last=False, text="half") + line(text="done", detail="é\n")
    with answering(greeting(7), pieces, line(text="again"), stays=True) as server, at(server) as conversation:
        assert conversation.greeting["pid"] == 7
        answers = list(conversation.ask({"do": "reload"}, clock.now() + 20))
        assert [answer["text"] for answer in answers] == ["begun", "half", "done"]
        assert answers[-1]["detail"] == "é\n"
        assert [answer["text"] for answer in conversation.ask({"do": "config"})] == ["again"]
    assert server.heard == [{"do": "ping"}, {"do": "reload"}, {"do": "config"}]


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with (
        answering(b"", stays=True) as server,
        pytest.raises(NoServerError, match=r"does not answer within 0\.05 s; paceline ctl status and health need no"),
    ):
        at(server, os.getpid(), SOON_S)


def test_one_that_is_stopped_is_told_of() -> None:
    with process() as stopped, answering(b"", stays=True) as server:
        stopped.send_signal(19)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        with pytest.raises(NoServerError, match=f"is stopped, by SIGSTOP or a debugger, .*kill -CONT {stopped.pid}"):
            at(server, stopped.pid, SOON_S)
        stopped.send_signal(18)


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (line(ok=False, text="busy: 16 clients"), NoServerError, "busy: 16 clients"),
        (b"", BrokenOffError, "has hung up"),
        (b"half a line", BrokenOffError, "has hung up"),
        (b"220 smtp\n", BrokenOffError, "no JSON, so this is no server of Paceline"),
        (b"\xff\xfe\n", BrokenOffError, "no JSON"),
        (b"[" * 100_000 + b"\n", BrokenOffError, "no JSON"),
        (b"[]\n", BrokenOffError, "no answer"),
        (b'{"ok": true}\n', BrokenOffError, "no answer"),
    ],
)
def test_who_does_not_greet_back_is_no_server(said: bytes, error: type[Exception], text: str) -> None:
    with answering(said) as server, pytest.raises(error, match=text):
        at(server)


def test_a_server_that_breaks_off_is_told_of() -> None:
    with answering(greeting(), line(is_last=False, text="begun")) as server, at(server) as conversation:
        answers = conversation.ask({"do": "reload"})
        assert next(answers)["text"] == "begun"
        with pytest.raises(BrokenOffError, match="hung up before its last answer"):
            next(answers)


def test_the_time_may_be_up_before_the_last_word() -> None:
    with answering(greeting(), line(is_last=False, text="begun"), stays=True) as server, at(server) as conversation:
        answers = conversation.ask({"do": "reload"}, clock.now() + SOON_S)
        with pytest.raises(TooLateError, match="it goes on"):
            list(answers)


def test_nobody_listens() -> None:
    with answering() as server:
        pass
    with pytest.raises(NoServerError, match="there is no such socket"):
        at(server)


def test_the_end_of_a_server_is_that_of_its_process() -> None:
    with (
        process() as ending,
        answering(greeting(ending.pid), stays=True) as server,
        at(server, ending.pid) as conversation,
    ):
        with pytest.raises(TooLateError, match="is not gone yet"):
            conversation.wait_for_end(clock.now() + SOON_S)
        assert ending.stdin
        ending.stdin.close()
        conversation.wait_for_end(clock.now() + 20)
        conversation.wait_for_end(clock.now() + 20)


def test_where_no_process_is_seen_it_ends_when_it_hangs_up() -> None:
    with answering(greeting(), line(text="stops")) as server, at(server) as conversation:
        list(conversation.ask({"do": "stop"}))
        conversation.wait_for_end(clock.now() + 20)
    with answering(greeting(), line(text="stops"), stays=True) as server, at(server) as conversation:
        list(conversation.ask({"do": "stop"}))
        with pytest.raises(TooLateError):
            conversation.wait_for_end(clock.now() + SOON_S)
