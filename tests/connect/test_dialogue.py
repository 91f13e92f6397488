"""connect/dialogue.py: what each typed line does."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from paceline.connect import rendering
from paceline.connect.dialogue import Dialogue, Next, View
from paceline.connect.framed import Framed
from paceline.connect.session import Reply, State
from paceline.errors import ConnectionReset
from paceline.wire import framing_from_text


class Talk:
    """Stands in for the conversation."""

    def __init__(self, framing: str) -> None:
        self.peer = "here:1"
        self.framed = Framed(framing_from_text(framing, 100), framing)
        self.sends_verbatim = framing in ("raw", "line")
        self.state = State.OPEN
        self.bug: Exception | None = None
        self.failure: Exception | None = None
        self.done: list[Any] = []

    def send(self, message: bytes) -> None:
        self.framed.joined(message)
        self.done.append(message)

    def send_file(self, file: io.BufferedReader, name: str) -> None:
        with file:
            self.done.append((name, file.read()))

    def end(self) -> None:
        self.done.append("end")

    def reconnect(self) -> None:
        self.done.append("reconnect")


class Bed:
    def __init__(self, framing: str = "line", ending: bytes = b"") -> None:
        self.talk = Talk(framing)
        self.view = View(is_raw=framing == "raw", as_hex=False)
        self.shown = ""
        self.view.write = self._write
        self.dialogue = Dialogue(self.talk, self.view, ending=ending, limit=100)  # type: ignore[arg-type]

    def _write(self, lines: list[rendering.Line]) -> None:
        self.shown += rendering.plain(lines)

    def line(self, text: str) -> Next:
        self.shown = ""
        return self.dialogue.on_line(text)


def test_messages() -> None:
    bed = Bed()
    assert bed.line("hello") is bed.line("//x") is bed.line("") is Next.ASK
    assert bed.talk.done == [b"hello", b"/x", b""]
    assert bed.shown == ""


def test_raw_messages_get_an_ending_and_nothing_is_not_sent() -> None:
    bed = Bed("raw", b"\n")
    bed.line("a")
    bed.line("")
    assert bed.talk.done == [b"a\n", b"\n"]
    bed = Bed("raw")
    bed.line("")
    assert bed.talk.done == []


def test_lines_that_were_pasted_are_messages_each() -> None:
    bed = Bed()
    assert bed.line("one\r\ntwo\rthree\n/quit") is Next.LEAVE
    assert bed.talk.done == [b"one", b"two", b"three"]
    assert bed.line("one\n\\q\ntwo") is Next.ASK
    assert bed.talk.done[3:] == [b"one"]


@pytest.mark.parametrize(
    ("framing", "line", "said"),
    [
        ("line", r"\q", r"\q is no escape"),
        ("line", "/hexx", "there is no command /hexx; did you mean /hex?"),
        ("fixed:4", "abc", "a message of fixed:4 has 4 bytes, and this one has 3"),
        ("raw", "/file gone", "/file gone: cannot be read (No such file or directory)"),
        ("raw", "/file .", "/file .: cannot be read (Is a directory)"),
        ("raw", "/file /dev/zero", "/file /dev/zero: is no file"),
        ("raw", "/file pipe", "/file pipe: is no file"),
        ("raw", "/file a\0b", "/file: a path has no NUL in it"),
        ("netstring", "/file long", "/file long: has 101 bytes, and a message at most 100 (--max-message)"),
    ],
)
def test_a_mistake_can_be_mended(
    framing: str, line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("long").write_bytes(b"x" * 101)
    bed = Bed(framing)
    assert bed.line(line) is Next.EDIT
    assert bed.shown.startswith(f"* {said}")
    assert bed.talk.done == []


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a b").write_bytes(b"one\ntwo")
    bed = Bed("raw")
    bed.line("/file ~/a b")
    assert bed.talk.done == [("~/a b", b"one\ntwo")]
    bed = Bed("netstring")
    bed.line("/file ~/a b")
    assert bed.talk.done == [b"one\ntwo"]


def test_hex() -> None:
    bed = Bed()
    for line, said in (("/hex", "a hex dump"), ("/hex on", "a hex dump"), ("/hex", "text"), ("/hex off", "text")):
        bed.line(line)
        assert bed.shown == f"* replies are shown as {said}\n"
    bed.line("/hex")
    bed.view.show([Reply(b"a", 1000)])
    assert "|a|   1 µs" in bed.shown


def test_the_others() -> None:
    bed = Bed()
    assert bed.line("/reconnect") is Next.ASK
    assert bed.line("/help") is Next.ASK
    assert "/reconnect" in bed.shown
    assert bed.line("/end") is Next.WAIT_FOR_END
    assert bed.line("/quit") is Next.LEAVE
    assert bed.talk.done == ["reconnect", "end"]


def test_ctrl_c_twice_in_a_row_leaves() -> None:
    bed = Bed()
    assert bed.dialogue.on_interrupt() is Next.ASK
    bed.line("still here")
    assert bed.dialogue.on_interrupt() is Next.ASK
    assert bed.dialogue.on_interrupt() is Next.LEAVE


def test_without_a_connection_nothing_is_sent() -> None:
    bed = Bed()
    bed.talk.state = State.CLOSED
    assert bed.dialogue.prompt == "(closed) here:1> "
    assert bed.line("hello") is bed.line("/file x") is Next.EDIT
    assert "not connected; /reconnect connects again, /quit leaves" in bed.shown
    assert bed.line("") is Next.ASK
    assert "not connected" in bed.shown
    assert bed.dialogue.on_end() is Next.LEAVE
    assert bed.talk.done == []


def test_the_outcome_after_our_end() -> None:
    bed = Bed()
    assert bed.dialogue.outcome() == 0
    bed.talk.failure = ConnectionReset("reset")
    assert bed.dialogue.outcome() == 5


def test_a_bug_is_raised_where_somebody_types() -> None:
    bed = Bed()
    bed.talk.bug = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        bed.line("hello")
    with pytest.raises(ZeroDivisionError):
        bed.dialogue.outcome()


def test_a_piece_of_many_replies_is_shown_in_several() -> None:
    bed = Bed()
    sizes: list[int] = []
    bed.view.write = lambda lines: sizes.append(len(lines))
    bed.view.show([Reply(b"x", None)] * 600)
    assert sizes == [256, 256, 88]


def test_the_greeting_and_the_prompt() -> None:
    bed = Bed()
    bed.dialogue.greet()
    assert bed.shown == "* connected to here:1, framing line; /help shows what can be typed\n"
    assert bed.dialogue.prompt == "here:1> "
