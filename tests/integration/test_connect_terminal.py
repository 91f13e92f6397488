"""`paceline connect` in a real terminal: tmux, which reads what is written to it as a terminal does, and types.

Each test has a tmux server of its own, in a folder of its own.  Nothing sleeps: a test waits until the screen shows
something, with a deadline.
"""

import importlib.util
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from leftovers import children_of, eventually, wait_gone
from testbed import COMMAND, running

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

DEADLINE_S = 10.0
HAS_TOOLKIT = importlib.util.find_spec("prompt_toolkit") is not None
NO_TOOLKIT = {"prompt_toolkit.py": "raise ImportError('not here')\n"}
"""In front of the path: as if it were not installed."""

CONFIGURATION = """\
set -g remain-on-exit on
set -g history-limit 20000
set -g default-terminal screen-256color
set -sg escape-time 0
set -g status off
"""


class Terminal:
    """A terminal with one command in it."""

    def __init__(self, folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self._children = set(children_of(os.getpid()))
        (folder / "tmux.conf").write_text(CONFIGURATION)
        self._environment = {**environment, "TMUX_TMPDIR": str(folder)}
        self._tmux = ["tmux", "-u", "-L", "paceline-test", "-f", str(folder / "tmux.conf")]
        self._code = folder / "code"
        self._code.unlink(missing_ok=True)
        # tmux tells how a command ended, too, but may miss that it did.
        command = f"trap : INT; {shlex.join(words)}; echo $? >code.new; mv code.new code"
        self._do("new-session", "-d", "-x", "110", "-y", "40", "-c", str(folder), command)
        self._pids = [int(pid) for pid in self._do("display-message", "-p", "#{pid} #{pane_pid}").split()]

    def _do(self, *words: str) -> str:
        return subprocess.run(
            [*self._tmux, *words], env=self._environment, capture_output=True, check=True, timeout=DEADLINE_S, text=True
        ).stdout

    @property
    def screen(self) -> str:
        """All lines, those that have scrolled away included; a line that was wrapped is one."""
        return self._do("capture-pane", "-p", "-J", "-S", "-")

    def _end_of_screen(self) -> str:
        return "the screen ends:\n" + "\n".join(self.screen.rstrip().splitlines()[-20:])

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Until this many lines match; returns the last of them."""
        found: list[str] = []

        def shown() -> bool:
            found[:] = [line for line in map(str.rstrip, self.screen.splitlines()) if re.search(pattern, line)]
            return len(found) >= times

        try:
            eventually(shown, DEADLINE_S)
        except AssertionError as error:
            error.add_note(f"no line with {pattern!r}; {self._end_of_screen()}")
            raise
        return found[-1]

    def wait_for_prompt(self) -> None:
        """Until nothing stands below an empty prompt: a key that comes before it is the terminal's to interpret."""

        def shown() -> bool:
            return self.screen.rstrip().endswith(">")

        try:
            eventually(shown, DEADLINE_S)
        except AssertionError as error:
            error.add_note(f"no prompt; {self._end_of_screen()}")
            raise

    def type(self, text: str, *keys: str) -> None:
        """As it is, and then these keys (tmux(1), KEY BINDINGS); Enter, if none are named."""
        if text:
            self._do("send-keys", "-l", "--", text)
        self._do("send-keys", *(keys or ("Enter",)))

    def press(self, *keys: str) -> None:
        self._do("send-keys", *keys)

    def exit_code(self) -> int:
        """When the command has ended."""
        try:
            eventually(self._code.exists, DEADLINE_S)
        except AssertionError as error:
            error.add_note(f"the command runs on; {self._end_of_screen()}")
            raise
        return int(self._code.read_text())

    def close(self) -> None:
        self._do("kill-server")
        wait_gone(self._pids)
        for pid in set(children_of(os.getpid())) - self._children:  # a test bed adopts orphans: tmux and what it forked
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


@pytest.fixture
def folder() -> Iterator[Path]:
    # The path of tmux's socket must fit into 107 bytes, which pytest's own folders may not leave.
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        yield Path(name)


@contextmanager
def connected(
    folder: Path, place: str, *options: str, with_toolkit: bool = True, **environment: str
) -> Iterator[Terminal]:
    """`paceline connect PLACE OPTIONS`."""
    if with_toolkit and not HAS_TOOLKIT:
        pytest.skip("prompt-toolkit is not installed")
    path = folder / "path"
    path.mkdir(exist_ok=True)
    for name, text in ({} if with_toolkit else NO_TOOLKIT).items():
        (path / name).write_text(text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PACELINE_", "TMUX"))}
    home = {"HOME": str(folder), "XDG_STATE_HOME": "", "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    terminal = Terminal(folder / "t", [*COMMAND, "connect", place, *options], {**inherited, **home, **environment})
    try:
        yield terminal
    finally:
        terminal.close()


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A server of the test's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


def accepted(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(DEADLINE_S)
    return connection


@pytest.fixture(params=[True, False], ids=["toolkit", "plain"])
def with_toolkit(request: pytest.FixtureRequest) -> bool:
    answer: bool = request.param
    return answer


TIME = r" +[0-9.]+ (µs|ms|s)$"


def test_a_message_its_reply_and_the_time_it_took(folder: Path, with_toolkit: bool) -> None:
    with running("echo", "-w", "1", "--framing", "line") as server:
        place = server.places[0]
        with connected(folder, place, "--framing", "line", with_toolkit=with_toolkit) as terminal:
            terminal.wait_for(f"^{place}>")
            terminal.type("hello")
            terminal.wait_for(rf"^< hello{TIME}")
            terminal.type(r"tab\t, byte \xff, é, back\\slash")
            terminal.wait_for(rf"^< tab\\t, byte \\xff, é, back\\\\slash{TIME}")
            terminal.type("//slash")
            terminal.wait_for(rf"^< /slash{TIME}")
            assert ("pip install 'paceline[connect]'" in terminal.screen) is not with_toolkit
            terminal.wait_for_prompt()
            terminal.press("C-d")
            assert terminal.exit_code() == 0
            assert f"{place} closed the connection" in terminal.screen


def test_what_nobody_asked_for_is_shown_above_the_line_being_typed(folder: Path, with_toolkit: bool) -> None:
    with (
        listening() as (listener, place),
        connected(folder, place, "--framing", "line", with_toolkit=with_toolkit) as t,
    ):
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            t.press("h", "a", "l", "f")
            t.wait_for(f"^{place}> half$")
            server.sendall(b"news\n")
            t.wait_for(r"^< news +not asked for$")
            t.wait_for(f"^{place}> half$")
            t.type(" a line")
            assert server.recv(100) == b"half a line\n"
            t.wait_for_prompt()
            t.press("C-d")
            assert server.recv(100) == b""
        assert t.exit_code() == 0


def test_nothing_the_server_sends_reaches_the_terminal_as_it_is(folder: Path, with_toolkit: bool) -> None:
    with listening() as (listener, place), connected(folder, place, with_toolkit=with_toolkit) as t:
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            server.sendall(b"\x1b]0;title\x07\x1b[2J\x1b[31mred\r\x9b1m\xe2\x80\xae\x00\n")
            t.wait_for(r"^< \\x1b\]0;title\\x07\\x1b\[2J\\x1b\[31mred\\r\\x9b1m\\xe2\\x80\\xae\\0\\n")
            t.type("/quit")
            assert t.exit_code() == 0
        assert t.screen.count("connected to") == 1


def test_a_hex_dump_from_the_beginning_or_on_request(folder: Path) -> None:
    with running("echo", "-w", "1") as server, connected(folder, server.places[0], "--hex") as t:
        t.wait_for(">$")
        t.type(r"a\x00")
        t.wait_for(rf"^< 00000000  61 00 0a {{40,}}\|a\.\.\|{TIME}")
        t.type("/hex off")
        t.type(r"a\x00")
        t.wait_for(rf"^< a\\0\\n{TIME}")
        t.type("/quit")
        assert t.exit_code() == 0


def test_the_server_closes_and_one_connects_again(folder: Path, with_toolkit: bool) -> None:
    with listening() as (listener, place), connected(folder, place, with_toolkit=with_toolkit) as t:
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            t.type("hello")
            assert server.recv(100) == b"hello\n"
        t.wait_for("closed the connection before it answered 1 message; /reconnect makes another one")
        t.wait_for(rf"^\(closed\) {place}>")
        t.type("more")
        t.wait_for("not connected; /reconnect connects again")
        t.press("C-u")
        t.type("/reconnect")
        with accepted(listener) as server:
            t.wait_for(f"connected to {place}$")
            t.type("again")
            assert server.recv(100) == b"again\n"
            server.sendall(b"yes")
            t.wait_for(rf"^< yes{TIME}")
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        t.wait_for("reset the connection")
        listener.close()
        t.type("/reconnect")
        t.wait_for(f"nobody listens on {place}; start the server")
        t.wait_for_prompt()
        t.press("C-d")
        assert t.exit_code() == 0


def test_our_end_is_sent_and_what_still_comes_is_shown(folder: Path, with_toolkit: bool) -> None:
    with listening() as (listener, place), connected(folder, place, with_toolkit=with_toolkit) as t:
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            t.wait_for_prompt()
            t.press("C-d")
            assert server.recv(100) == b""
            server.sendall(b"one\n")
            t.wait_for(r"^< one\\n")
            server.sendall(b"two\n")
            t.wait_for(r"^< two\\n")
        assert t.exit_code() == 0


def test_a_reset_after_our_end_is_a_failure(folder: Path, with_toolkit: bool) -> None:
    with listening() as (listener, place), connected(folder, place, with_toolkit=with_toolkit) as t:
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            t.type("/end")
            assert server.recv(100) == b""
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert t.exit_code() == 5
        t.wait_for("reset the connection: what it had not read is lost; its log should say why")


def test_ctrl_c_cancels_the_line_and_the_second_leaves(folder: Path, with_toolkit: bool) -> None:
    with running("echo", "-w", "1") as server, connected(folder, server.places[0], with_toolkit=with_toolkit) as t:
        t.wait_for(">$")
        t.press("n", "o", "C-c")
        t.wait_for("Ctrl-C once more leaves")
        t.type("yes")
        t.wait_for(rf"^< yes\\n{TIME}")
        t.wait_for_prompt()
        t.press("C-c")
        t.wait_for("Ctrl-C once more leaves", times=2)
        t.wait_for_prompt()
        t.press("C-c")
        assert t.exit_code() == 130
        assert not re.search(r"< no\\n", t.screen)


def test_ctrl_c_leaves_while_the_server_does_not_close(folder: Path, with_toolkit: bool) -> None:
    with (
        listening() as (listener, place),
        connected(folder, place, with_toolkit=with_toolkit) as t,
        accepted(listener) as server,
    ):
        t.wait_for(f"^{place}>")
        t.wait_for_prompt()
        t.press("C-d")
        assert server.recv(100) == b""
        t.wait_for("waiting for the server to close")
        t.press("C-c")
        assert t.exit_code() == 130


def test_what_was_typed_is_there_the_next_time(folder: Path, with_toolkit: bool) -> None:
    with running("echo", "-w", "1") as server:
        place = server.places[0]
        for times in (1, 2):
            with connected(folder, place, with_toolkit=with_toolkit) as t:
                t.wait_for(">$")
                if times == 1:
                    t.type(" but not me")
                    t.wait_for_prompt()
                    t.type("remember me")
                else:
                    t.press("Up", "Up")
                    t.wait_for("> remember me$")
                    t.press("Enter")
                t.wait_for(rf"^< remember me\\n{TIME}")
                t.type("/quit")
                assert t.exit_code() == 0
    file = folder / ".local/state/paceline/connect-history"
    assert file.read_text() == "remember me\n/quit\n" * 2
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_is_sent(folder: Path) -> None:
    (folder / "t").mkdir()
    (folder / "t/lines.txt").write_bytes(b"one\ntwo\n")
    with (
        running("echo", "-w", "1", "--framing", "line") as server,
        connected(folder, server.places[0], "--framing", "line") as t,
    ):
        t.wait_for(">$")
        t.type("/file lin", "Tab")
        t.wait_for(r"> /file lines\.txt")
        t.press("Enter")
        t.wait_for(rf"^< two{TIME}")
        t.wait_for(r"sent 8 bytes of lines\.txt")
        t.type("/file /dev/zero")
        t.wait_for("/dev/zero: is no file")
        t.press("C-u")
        t.type("/file gone")
        t.wait_for("/file gone: cannot be read (No such file or directory)".replace("(", r"\(").replace(")", r"\)"))
        t.press("C-u")
        t.type("/quit")
        assert t.exit_code() == 0


def test_a_line_with_a_mistake_can_be_mended(folder: Path) -> None:
    with running("echo", "-w", "1") as server, connected(folder, server.places[0]) as t:
        t.wait_for(">$")
        t.type(r"oh\q")
        t.wait_for(r"\\q is no escape; there are")
        t.wait_for(r"> oh\\q$", times=2)
        t.type("", "BSpace", "BSpace", "k", "Enter")
        t.wait_for(rf"^< ohk\\n{TIME}")
        t.type("/hexx")
        t.wait_for("there is no command /hexx; did you mean /hex?")
        t.press("C-u")
        t.type("/help")
        t.wait_for("half-close")
        t.type("/quit")
        assert t.exit_code() == 0


def test_no_reply_within_the_time_is_said_once(folder: Path, with_toolkit: bool) -> None:
    with (
        listening() as (listener, place),
        connected(folder, place, "--timeout", "50ms", "--framing", "line", with_toolkit=with_toolkit) as t,
    ):
        with accepted(listener) as server:
            t.wait_for(f"^{place}>")
            t.type("hello")
            assert server.recv(100) == b"hello\n"
            t.wait_for(r"no reply to 1 message within 0\.05 s; a later one is still shown")
            server.sendall(b"late\n")
            t.wait_for("^< late +not asked for$")
            t.type("/quit")
            assert t.exit_code() == 0
        assert t.screen.count("no reply to") == 1


def test_nobody_is_there(folder: Path, with_toolkit: bool) -> None:
    with listening() as (listener, place):
        listener.close()
        with connected(folder, place, with_toolkit=with_toolkit) as t:
            assert t.exit_code() == 3
            t.wait_for(f"^paceline: nobody listens on {place}; start the server")


def test_a_flood_does_not_keep_one_from_leaving(folder: Path, with_toolkit: bool) -> None:
    with (
        running("flood.py:flood", "-w", "1", "--as", "connection", files={"flood.py": FLOOD}, exit_code=None) as server,
        connected(folder, server.places[0], "--framing", "line", with_toolkit=with_toolkit) as t,
    ):
        t.wait_for("^< y")
        t.type("/quit")
        assert t.exit_code() == 0


FLOOD = """\
def flood(connection):
    try:
        while True:
            connection.sendall(b"y" * 70 + b"\\n")
    except OSError:
        pass
"""
