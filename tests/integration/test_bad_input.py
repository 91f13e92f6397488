"""What is wrong with what a user, a machine or a peer does is said in one paragraph that names it and the remedy.

A start that fails ends with the exit code of its kind (2 usage or setting, 3 it could not start) and prints nothing but
that paragraph: a sentence on standard error, under which a traceback may be indented.  A server that runs says one
paragraph about the one connection, and the others do not notice.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peer import Peer
from testbed import COMMAND, UNPRIVILEGED, Server, run_to_end, running

USAGE, CANNOT_START = 2, 3
ANY_PORT = ("-b", "127.0.0.1:0")


def paragraphs_of(text: str) -> list[str]:
    """Lines, each with what is indented below it."""
    return re.findall(r"^\S.*\n?(?:^[ \t].*\n?)*", text, re.MULTILINE)


def refused(
    *words: str,
    code: int,
    files: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    command: tuple[str, ...] = COMMAND,
) -> str:
    """What the command line says instead of serving: the one paragraph on standard error."""
    ended = run_to_end(*words, files=files, env=env, command=command)
    assert ended.output == ""
    assert ended.code == code, ended.log
    (paragraph,) = [each for each in paragraphs_of(ended.log) if " info supervisor: stopped after " not in each]
    return paragraph


def sentence(paragraph: str) -> str:
    """Its first line, which must be all of it, without who says it and when."""
    (line,) = paragraph.splitlines()
    return told(line)


def told(line: str) -> str:
    found = re.fullmatch(r"(?:paceline|\S+ \S+ error supervisor): (?:cannot start: )?(.*)", line)
    assert found is not None, line
    return found[1]


def test_a_start_that_fails_says_nothing_else() -> None:
    assert len(paragraphs_of(run_to_end("serve", "nowhere:f", *ANY_PORT).log)) == 1


# The command line and the settings


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--thread", "4"], "there is no option --thread; did you mean --threads? `paceline serve --help`"),
        (["serv"], "there is no command 'serv'; did you mean paceline serve? `paceline --help`"),
        (["serve", "app:f", "app:g"], "got unexpected extra argument (app:g); `paceline serve --help`"),
    ],
)
def test_an_unknown_word(words: list[str], said: str) -> None:
    assert sentence(refused(*words, code=USAGE)).startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-t 0", "-t 0: must be a whole number from 1 to 4,096; the nearest right value is 1"),
        ("-b 8888", "the nearest right value is 127.0.0.1:8888"),
        ("--max-message 5x", "--max-message 5x: must be a size from 1B to 1GiB, in bytes or like 64KiB"),
        ("--framing lines", "--framing lines: there is no framing 'lines'; did you mean line?"),
        ("--framing fixed:8 --max-message 4", "--max-message allows 4 bytes at most; the nearest is fixed:4"),
        ("--chdir nowhere", "--chdir nowhere: No such file or directory; it must be a folder that may be entered"),
    ],
)
def test_a_wrong_value_on_the_command_line(words: str, said: str) -> None:
    text = sentence(refused("serve", *words.split(), code=USAGE))
    assert text.startswith(words.split()[0])
    assert said in text


def test_a_wrong_value_in_the_environment() -> None:
    said = "PACELINE_THREADS=0: must be a whole number from 1 to 4,096; the nearest right value is 1"
    assert sentence(refused("serve", code=USAGE, env={"PACELINE_THREADS": "0"})) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads = 0\n", "threads = 0 in paceline.toml: must be a whole number from 1 to 4,096; the nearest"),
        ("thread = 4\n", "paceline.toml: there is no setting 'thread'; did you mean threads?"),
        ("threads = \n", "paceline.toml, line 1, column 11: this is not TOML"),
    ],
)
def test_a_wrong_value_in_the_file(text: str, said: str) -> None:
    assert sentence(refused("serve", code=USAGE, files={"paceline.toml": text})).startswith(said)


def test_a_file_of_settings_that_is_not_there() -> None:
    said = "--config no.toml: the file cannot be read: No such file or directory; --config FILE names another one"
    assert sentence(refused("serve", "--config", "no.toml", code=USAGE)) == said


WITHOUT_RIGHTS = (*UNPRIVILEGED, "/bin/sh", "-c", 'chmod 0 closed.*; exec "$@"', "sh", *COMMAND)
"""As somebody who may not read the file closed.…"""


def test_a_file_of_settings_that_cannot_be_read() -> None:
    words = ("serve", "--config", "closed.toml")
    said = "--config closed.toml: the file cannot be read: Permission denied; --config FILE names another one"
    assert sentence(refused(*words, code=USAGE, files={"closed.toml": ""}, command=WITHOUT_RIGHTS)) == said


# The target

APP = """
    import paceline

    number = 5
    def shout(message): return message.upper()
    def whole(conn): pass
    def three(a, b, c): pass
    async def later(message): return message
    class Built:
        def __init__(self, database): pass
        def __call__(self, message): return message
"""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("ap:shout", "no module named 'ap'"),
        ("ap.py:shout", "; did you mean app.py:shout?"),
        ("app:shuot", "/app.py) has no 'shuot'; did you mean app:shout?"),
        ("app", "the target 'app' has no colon; in it are app:shout, "),
        ("app:number", "app:number is an int, which cannot be called; a handler is a function or a class"),
        ("app:three", "app:three(a, b, c) takes three arguments; a message handler takes the message, and "),
        ("app:later", "app:later is written with `async def`; Paceline runs plain blocking functions in threads: "),
        ("app:whole", "app:whole(conn) seems to be written over the whole connection; say so with --as connection"),
        ("app:Built", "app:Built() must be buildable without arguments (once per worker): missing a required "),
    ],
)
def test_a_target_that_cannot_be_served(target: str, said: str) -> None:
    paragraph = sentence(refused("serve", target, *ANY_PORT, code=CANNOT_START, files={"app.py": APP}))
    assert said in paragraph


def test_a_check_says_the_same_as_a_start() -> None:
    words = ("serve", "app:number", *ANY_PORT)
    files = {"app.py": APP}
    start = sentence(refused(*words, code=CANNOT_START, files=files))
    assert sentence(refused(*words, "--check", code=CANNOT_START, files=files)) == start


def test_a_target_that_needs_a_framing_is_not_given_one_it_cannot_use() -> None:
    words = ("serve", "app:whole", "--as", "connection", "--framing", "line", *ANY_PORT)
    text = sentence(refused(*words, code=CANNOT_START, files={"app.py": APP}))
    assert "--framing line has no meaning for it; leave it out, or serve a message handler" in text


@pytest.mark.parametrize(
    ("module", "said", "shown"),
    [
        ("def f(m): return m\n1 / 0\n", "app:f raised ZeroDivisionError while it was loaded", "1 / 0"),
        ("def f(: pass\n", "app:f raised SyntaxError while it was loaded", "def f(: pass"),
    ],
)
def test_an_import_that_raises_shows_the_users_own_lines(module: str, said: str, shown: str) -> None:
    paragraph = refused("serve", "app:f", *ANY_PORT, code=CANNOT_START, files={"app.py": module})
    first, *traceback = paragraph.splitlines()
    assert told(first) == said
    assert any(shown in line for line in traceback)
    assert any(re.search(r'File ".*/app\.py", line \d', line) for line in traceback)
    assert not any("/paceline/" in line for line in traceback), "none of ours"


def test_an_import_that_ends_the_process() -> None:
    files = {"app.py": "import sys\nsys.exit('enough')\n"}
    paragraph = refused("serve", "app:f", *ANY_PORT, code=CANNOT_START, files=files)
    said = "the target app called sys.exit('enough') while it was imported (app.py, line 2); put what is not meant for"
    assert sentence(paragraph).startswith(said)


@pytest.mark.parametrize("target", ["closed:f", "closed.py:f"])
def test_a_target_that_cannot_be_read(target: str) -> None:
    files = {"closed.py": "def f(m): return m\n"}
    text = sentence(refused("serve", target, *ANY_PORT, code=CANNOT_START, files=files, command=WITHOUT_RIGHTS))
    assert text.startswith("cannot read ")
    assert "closed" in text
    assert "Permission denied" in text


# The machine


def test_a_busy_port_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = "127.0.0.1:{1}".format(*taken.getsockname())
        text = sentence(refused("serve", "-b", place, code=CANNOT_START))
    assert re.fullmatch(
        rf"cannot listen on {place}: \S+ \(pid \d+\) listens there; stop that one, or choose another port "
        r"\(port 0 takes any free one\)",
        text,
    )


def test_a_port_that_is_served_already_names_the_other_server() -> None:
    with running() as server:
        text = sentence(refused("serve", "-b", server.places[0], code=CANNOT_START))
        assert f"(pid {server.pid}) listens there; stop that one, or choose another port" in text
        assert echoed(server.connect(), b"untouched")


def test_a_privileged_port() -> None:
    words = ("serve", "-b", "127.0.0.1:80")
    text = sentence(refused(*words, code=CANNOT_START, command=(*UNPRIVILEGED, *COMMAND)))
    assert text.startswith("cannot listen on 127.0.0.1:80: ports below 1024 are privileged; choose a higher one, or ")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("192.0.2.1:9000", "no interface of this machine has the address 192.0.2.1; give one that `ip address` shows"),
        ("unix:nowhere/x.sock", "nowhere does not exist; make it first (mkdir -p), or choose another path"),
        ("unix:/etc/passwd", "a file of that name is in the way and is left alone; move it away, or choose another"),
        ("fd://77", "descriptor 77 is not open; whoever starts Paceline must leave a listening socket open there"),
    ],
)
def test_an_address_that_this_machine_does_not_have(place: str, said: str) -> None:
    text = sentence(refused("serve", "-b", place, code=CANNOT_START))
    assert text.startswith(f"cannot listen on {place}: ")
    assert said in text


# Peers


def echoed(peer: Peer, line: bytes) -> bool:
    peer.send(line + b"\n")
    return peer.line() == line + b"\n"


@contextmanager
def one_wrong_among_others(*options: str, files: dict[str, str] | None = None) -> Iterator[tuple[Server, Peer]]:
    """A server and the client that is going to be wrong; others are connected all the time and must not notice."""
    with running(*options, "--workers", "1", files=files) as server:
        others = [server.connect() for _ in range(3)]
        wrong = server.connect()
        pids = server.pids()
        assert all(echoed(peer, b"before") for peer in others)
        yield server, wrong
        assert all(echoed(peer, b"after") for peer in others)
        assert echoed(server.connect(), b"a new one")
        assert server.pids() == pids


def said_of(server: Server, name: str) -> str:
    """The paragraph of the log that names this peer."""
    server.wait_for_log(name)
    (paragraph,) = [paragraph for paragraph in paragraphs_of(server.log) if name in paragraph]
    return paragraph


@pytest.mark.parametrize(
    ("framing", "good", "bad", "said"),
    [
        ("line", b"good\n", b"x" * 66, "the peer sent a line over the limit of 64 bytes (--max-message"),
        ("delimiter:\\n", b"good\n", b"x" * 66, "the peer sent a message over the limit of 64 bytes (--max-message"),
        (
            "length:2",
            b"\0\4good",
            b"\0\x41",
            "the peer announced a message of 65 bytes (its prefix is b'\\x00A'), over",
        ),
        (
            "netstring",
            b"4:good,",
            b"65:",
            "the peer announced a netstring whose length begins b'65', over the limit of",
        ),
    ],
)
def test_a_framing_that_is_exceeded_or_broken(framing: str, good: bytes, bad: bytes, said: str) -> None:
    with running("echo", "--framing", framing, "--max-message", "64", "--workers", "1") as server:
        other, wrong = server.connect(), server.connect()
        other.send(good)
        assert other.receive(len(good)) == good
        wrong.send(good + good + bad)
        assert wrong.receive_all() == good + good, "the messages before are answered"
        (line,) = said_of(server, wrong.name).splitlines()
        assert f"{wrong.name} is disconnected after message 2: the peer " in line
        assert said in line
        other.send(good)
        assert other.receive(len(good)) == good


@pytest.mark.parametrize(("framing", "messages"), [("raw", [b"x" * 64, b"y"]), ("fixed:64", [b"x" * 64])])
def test_a_framing_that_nobody_can_exceed(framing: str, messages: list[bytes]) -> None:
    app = "def f(m): return m + b'|'\n" if framing == "raw" else "def f(m): return m\n"
    with running("app:f", "--framing", framing, "--max-message", "64", "-w", "1", files={"app.py": app}) as server:
        peer = server.connect()
        peer.send(b"".join(messages))
        end = b"|" if framing == "raw" else b""
        assert peer.receive(sum(len(message + end) for message in messages)) == b"".join(m + end for m in messages)


@pytest.mark.parametrize(("framing", "part"), [("line", b"hel"), ("fixed:8", b"hel"), ("length:4", b"\0\0\0\5hel")])
def test_a_peer_that_ends_inside_a_message(framing: str, part: bytes) -> None:
    app = "def f(m):\n    print('called with', m)\n    return m\n"
    with running("app:f", "--framing", framing, "--workers", "1", files={"app.py": app}) as server:
        peer = server.connect()
        peer.send(part)
        peer.half_close()
        assert peer.receive_all() == b""
        (line,) = said_of(server, peer.name).splitlines()
        assert f"the peer ended the connection inside a message, after {len(part)} bytes of it; that part was" in line
        assert "called with" not in server.log


LINES = ("app:f", "--framing", "line")
ECHO = {"app.py": "def f(line): return line * 1000 if line == b'long' else line\n"}


def test_a_peer_that_half_closes_gets_all_its_replies() -> None:
    with one_wrong_among_others(*LINES, files=ECHO) as (server, peer):
        lines = b"".join(b"line %d\n" % n for n in range(5000))
        peer.send(lines)
        peer.half_close()
        assert peer.receive_all() == lines
    assert peer_is_unnamed(server)


def test_peers_that_reset() -> None:
    with one_wrong_among_others(*LINES, files=ECHO) as (server, peer):
        for sent in (b"", b"part", b"line\n", b"long\n" * 5000):
            with server.connect() as leaving:
                leaving.send(sent)
                leaving.reset()
        assert echoed(peer, b"and is served")
    assert peer_is_unnamed(server)


def peer_is_unnamed(server: Server) -> bool:
    """Nothing was said but what every server says."""
    said = [line for line in server.log.splitlines() if " supervisor: " not in line]
    return said == []


# Handlers that are wrong

WRONG = """
    def pieces():
        yield b"first"
        yield "second"

    def breaks():
        yield b"first"
        raise LookupError("in the middle")

    def coroutine():
        async def later(): pass
        return later()

    def f(line):
        match line:
            case b"raise": raise ValueError("a colon: and more")
            case b"exit": raise SystemExit(7)
            case b"interrupt": raise KeyboardInterrupt
            case b"text": return "a text"
            case b"number": return 5
            case b"dict": return {}
            case b"coroutine": return coroutine()
            case b"pieces": return pieces()
            case b"breaks": return breaks()
            case b"large": return b"x" * 2_000_000
        return line
"""
NO_REPLY = {
    b"raise": "the handler raised ValueError: a colon: and more for message 2 of PEER; that connection is closed, no",
    b"exit": "the handler raised SystemExit: 7 for message 2 of PEER; that connection is closed, no other is touched",
    b"interrupt": "the handler raised KeyboardInterrupt for message 2 of PEER; that connection is closed, no other is",
    b"breaks": "the handler raised LookupError: in the middle for message 2 of PEER; that connection is closed, no",
    b"text": "the handler returned a str, 'a text' (a text; return text.encode()) for message 2 of PEER; a reply is",
    b"number": "the handler returned an int, 5 for message 2 of PEER; a reply is bytes, None, an iterable of bytes or",
    b"dict": "the handler returned a dict, {} for message 2 of PEER; a reply is bytes, None, an iterable of bytes or",
    b"coroutine": "the handler returned a coroutine (something in it is written with `async def`; Paceline calls plain",
    b"pieces": "the handler returned an iterable with a str, 'second' (a text; return text.encode()) in it for message",
    b"large": "the handler returned 2,000,000 bytes at once (--max-buffer is 1,048,576) for message 2 of PEER",
}


def test_a_handler_that_raises_or_returns_what_is_no_reply() -> None:
    with one_wrong_among_others(*LINES, files={"app.py": WRONG}) as (server, _):
        for line, said in NO_REPLY.items():
            peer = server.connect()
            name = peer.name
            peer.send(b"one\n" + line + b"\nthree\n")
            before = b"first\n" if line in (b"breaks", b"pieces") else b""
            assert peer.receive_all() == b"one\n" + before, "what came before is answered, what came after is not"
            first, *traceback = said_of(server, name).splitlines()
            assert f" error worker 0: {said.replace('PEER', name)}" in first
            assert bool(traceback) == ("raised" in said)
            assert not any("/paceline/" in shown for shown in traceback), "none of our frames"


def test_a_whole_connection_handler_that_raises() -> None:
    app = """
        def f(conn):
            for line in conn.makefile("rb"):
                if line == b"raise\\n":
                    raise ValueError("no")
                conn.sendall(line)
    """
    with one_wrong_among_others("app:f", "--as", "connection", files={"app.py": app}) as (server, peer):
        name = peer.name
        peer.send(b"one\nraise\n")
        assert peer.receive_all() == b"one\n"
        first, *traceback = said_of(server, name).splitlines()
        assert re.search(f"the handler raised ValueError: no .*{name}; that connection is closed, no other is", first)
        assert traceback[-1].strip() == "ValueError: no"


def test_hooks_of_a_connection_that_raise() -> None:
    app = """
        class F:
            def connected(self, connection):
                if late:
                    raise ValueError("no greeting")

            def disconnected(self, connection):
                raise ValueError("no farewell")

            def __call__(self, line):
                global late
                late = line == b"before"
                return line

        late = False
    """
    with running("app:F", "--framing", "line", "-w", "1", files={"app.py": app}) as server:
        other = server.connect()
        assert echoed(other, b"before")
        unwelcome = server.connect()
        assert unwelcome.ended()
        assert "connected raised ValueError: no greeting" in said_of(server, unwelcome.name)
        unwelcome.close()
        server.wait_for_log(" error worker 0: disconnected raised ValueError: no farewell for ")
        assert echoed(other, b"after")
        assert echoed(server.connect(), b"a new one")


FAILS_AT_THE_START = """
    class F:
        def HOOK(self): raise ValueError("no database")
        def __call__(self, line): return line
"""


def test_a_start_hook_that_raises() -> None:
    files = {"app.py": FAILS_AT_THE_START.replace("HOOK", "start")}
    first, *traceback = refused("serve", "app:F", *ANY_PORT, code=CANNOT_START, files=files).splitlines()
    assert told(first) == "app:F.start() raised ValueError"
    assert traceback[-1].strip() == "ValueError: no database"


def test_a_thread_start_hook_that_raises() -> None:
    files = {"app.py": FAILS_AT_THE_START.replace("HOOK", "thread_start")}
    ended = run_to_end("serve", "app:F", *ANY_PORT, files=files)
    assert ended.code == CANNOT_START
    assert "worker 0: thread_start raised ValueError: no database" in ended.log
    assert "cannot start: app:F.thread_start() raised" in ended.log
