"""Every example, and every handler that the documentation shows, served by the command that stands beside it.

The command is the one in PACELINE_COMMAND, when that is set: so the same tests try an installed wheel.
"""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from peer import Peer
from testbed import COMMAND, Server, run_to_end, running

ROOT = Path(__file__).parents[2]
EXAMPLES = {f"examples/{path.name}": path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))}
INSTALLED = tuple(shlex.split(os.environ.get("PACELINE_COMMAND", "")))


def command() -> tuple[str, ...]:
    return INSTALLED or COMMAND


def python() -> str:
    """The interpreter that has the Paceline under test."""
    return str(Path(INSTALLED[0]).with_name("python")) if INSTALLED else sys.executable


def served(words: str, files: Mapping[str, str]) -> AbstractContextManager[Server]:
    """Run a command line of the documentation, on a free port."""
    program, verb, target, *options = shlex.split(words)
    assert (program, verb) == ("paceline", "serve")
    return running(target, *options, "--workers", "1", files=files, command=command())


def docstring_of(name: str) -> str:
    return ast.get_docstring(ast.parse(EXAMPLES[name])) or ""


def the_line(pattern: str, text: str) -> str:
    """The one line of the text that this pattern finds, or what its group finds there."""
    found: list[str] = re.findall(rf"^    {pattern}$", text, re.MULTILINE)
    assert len(found) == 1, (pattern, found)
    return found[0]


def command_of(name: str) -> str:
    """The one that the example's docstring names."""
    return the_line(r"(paceline .+)", docstring_of(name))


def shown_by_client_of(text: str, server: Server) -> bytes:
    """What the client's command in the text shows, typed into a shell."""
    command = the_line(r"(bash -c .+)", text)
    on_its_port = command.replace("/127.0.0.1/8888", f"/127.0.0.1/{server.places[0].rpartition(':')[2]}")
    assert on_its_port != command
    done = subprocess.run(["sh", "-c", on_its_port], capture_output=True, check=True, timeout=30)
    assert done.stderr == b""
    return done.stdout


def exchange(peer: Peer, sent: bytes) -> bytes:
    """What comes back until the server has nothing more to say."""
    peer.send(sent)
    peer.half_close()
    return peer.receive_all()


def test_echo() -> None:
    with served(command_of("examples/echo.py"), EXAMPLES) as server:
        peer = server.connect()
        for typed in (b"hello\n", b"\n", bytes(range(256)), b"x" * 100_000):
            peer.send(typed)
            assert peer.receive(len(typed)) == typed
        assert shown_by_client_of(docstring_of("examples/echo.py"), server) == b"hello\n"


def test_shout() -> None:
    with served(command_of("examples/shout.py"), EXAMPLES) as server:
        assert shown_by_client_of(docstring_of("examples/shout.py"), server) == b"HELLO\nWORLD\n"
        peer = server.connect()
        peer.send(b"how", b"ever ", b"it arri", b"ves\r", b"\n")
        assert peer.line() == b"HOWEVER IT ARRIVES\n"


def test_upper() -> None:
    with served(command_of("examples/upper.py"), EXAMPLES) as server:
        assert shown_by_client_of(docstring_of("examples/upper.py"), server) == b"HELLO\nWORLD\n"


def test_workon() -> None:
    with served(command_of("examples/workon.py"), EXAMPLES) as server:
        first, second = server.connect(), server.connect()
        for peer, typed in ((first, b"one"), (second, b"two"), (first, b"three")):
            peer.send(typed)
            assert peer.receive(len(typed)) == typed
        first.half_close()
        assert first.receive_all() == b"", "its conn.close() is seen"
        second.send(b"four")
        assert second.receive(4) == b"four"
        assert shown_by_client_of(docstring_of("examples/workon.py"), server) == b"hello\n"


def test_workon_says_how_it_is_to_be_served() -> None:
    ended = run_to_end("serve", "examples/workon.py:workon", "--check", files=EXAMPLES, command=command())
    assert ended.code == 3
    assert "--as connection" in ended.log


def test_kv() -> None:
    with served(command_of("examples/kv.py"), EXAMPLES) as server:
        assert shown_by_client_of(docstring_of("examples/kv.py"), server) == b"+OK\r\n$3\r\nAda\r\n+OK\r\n"


def test_greet() -> None:
    with served(command_of("examples/greet.py"), EXAMPLES) as server:
        first, second = server.connect(), server.connect()
        greeting = f"Welcome to process {server.pids()[0]}, {first.name}. Who are you?\n"
        assert first.line() == greeting.encode()
        assert second.line().endswith(b"Who are you?\n")
        for peer, typed, reply in (
            (first, b"Ada\n", b"Hello Ada. Say something, or bye.\n"),
            (second, b"\xff\r\n", "Hello \N{REPLACEMENT CHARACTER}. Say something, or bye.\n".encode()),
            (first, b"a programme\n", b"Ada said: a programme\n"),
            (first, b"bye\n", b"Goodbye Ada.\n"),
        ):
            peer.send(typed)
            assert peer.line() == reply
        assert first.ended()
        first.close()
        server.wait_for_log("Ada left after 3 lines")
        second.close()
        server.wait_for_log("\N{REPLACEMENT CHARACTER} left after 1 lines")
        assert shown_by_client_of(docstring_of("examples/greet.py"), server).endswith(
            b"Hello Ada. Say something, or bye.\nGoodbye Ada.\n"
        )


def test_chat() -> None:
    with served(command_of("examples/chat.py"), EXAMPLES) as server:
        assert shown_by_client_of(docstring_of("examples/chat.py"), server).startswith(b"1 here\n127.0.0.1:")
        first, second = server.connect(), server.connect()
        assert first.line().endswith(b" here\n")
        assert second.line().endswith(b" here\n")
        since = server.log_length()
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 2 serves", since=since)
        server.wait_for_log("handed over 2 connections", since=since)
        second.send(b"still here?\n")
        for peer in (first, second):
            assert peer.line() == f"{second.name}: still here?\n".encode()
        first.close()
        second.send(b"alone\n")
        assert second.line() == f"{second.name}: alone\n".encode()


def test_own_framing() -> None:
    with served(command_of("examples/own_framing.py"), EXAMPLES) as server:
        assert shown_by_client_of(docstring_of("examples/own_framing.py"), server) == b"\2OK 12.500 kg\3"
        peer = server.connect()
        peer.send(b"\2", b"W 1", b" g", b"\3\2what", b"\x10", b"\3", b"\3")
        assert peer.receive(until=b"kg\3") == b"\2OK 0.001 kg\3"
        assert peer.receive(until=b"\x10\3\3") == b"\2ERROR what\x10\3\3"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"hello", "the peer sent 0x68 where a message begins with STX (0x02)"),
        (b"\2" + b"x" * 257, "the peer sent a message of more than 256 bytes"),
        (b"\2W 1 g\2", "the peer sent STX inside a message: the ETX before it is lost"),
        (b"\2W 1 g", "the peer ended the connection inside a message"),
    ],
)
def test_own_framing_refuses(sent: bytes, why: str) -> None:
    with served(command_of("examples/own_framing.py"), EXAMPLES) as server:
        other, wrong = server.connect(), server.connect()
        assert exchange(wrong, b"\2W 1000 g\3" + sent) == b"\2OK 1.000 kg\3", "what came before it is answered"
        server.wait_for_log(f"{wrong.name} is disconnected after message 1: {why}")
        assert exchange(other, b"\2W 2000 g\3") == b"\2OK 2.000 kg\3"


def test_every_example_is_tried_here() -> None:
    tried = {f"examples/{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")}
    assert EXAMPLES.keys() <= tried


# what the README shows

README = (ROOT / "README.md").read_text()


def snippets_of(text: str) -> list[str]:
    """The blocks of Python, in order."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def readme_file(name: str) -> dict[str, str]:
    (snippet,) = [snippet for snippet in snippets_of(README) if snippet.startswith(f"# {name}")]
    return {name: snippet}


def readme_command(target: str) -> str:
    return the_line(rf"(paceline serve {re.escape(target)}.*)", README)


def test_the_first_handler_of_the_readme() -> None:
    with served(readme_command("shout.py:shout"), readme_file("shout.py")) as server:
        assert exchange(server.connect(), b"hello\nworld\n") == b"HELLO\nWORLD\n"


def test_the_whole_connection_of_the_readme() -> None:
    with served(readme_command("workon.py:workon"), readme_file("workon.py")) as server:
        assert exchange(server.connect(), b"hello") == b"hello"


def test_the_script_of_the_readme() -> None:
    (script,) = [snippet for snippet in snippets_of(README) if "paceline.serve(" in snippet]
    on_a_free_port = script.replace("127.0.0.1:8888", "127.0.0.1:0")
    assert on_a_free_port != script
    with running(files={"shout.py": on_a_free_port}, command=(python(), "shout.py")) as server:
        assert "up to 16 threads" in server.log
        assert exchange(server.connect(), b"hello\nworld\n") == b"HELLO\nWORLD\n"


def test_the_command_for_a_fresh_clone_serves_an_example() -> None:
    with served(the_line(r"python3 .*/(paceline serve .*)", README), EXAMPLES) as server:
        assert exchange(server.connect(), b"hello") == b"hello"
        assert shown_by_client_of(README, server) == b"hello\n"


# what docs/handlers.md shows


def handlers_shown() -> Sequence[str]:
    return snippets_of((ROOT / "docs" / "handlers.md").read_text())


TRIED = [
    ("handler", b"hello", b"HELLO"),
    ("handler", b"hello", b"5 bytes so far"),
    ("handler", b"hello", b"hello"),
    ("Upper", b"hello\n", b"HELLO\n"),
    ("Files", b"GET /app.py HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
    ("Handler", b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 501"),
    ("Store", b"hello", b"hello\n"),
    ("Room", b"hello", b"hello"),
    ("handler", b"hello", b"not for you"),
    ("handler", b"hello", b"HELLO"),
]
"""Of each handler that is shown: what is served, what is said to it, how its answer begins."""


@pytest.mark.parametrize("number", range(len(TRIED)))
def test_a_handler_of_the_manual_can_be_served(number: int) -> None:
    shown = handlers_shown()
    assert len(shown) == len(TRIED), "and each is tried"
    target, said, expected = TRIED[number]
    with served(f"paceline serve app.py:{target}", {"app.py": shown[number]}) as server:
        peer = server.connect()
        peer.send(said)
        assert peer.receive(len(expected)) == expected
