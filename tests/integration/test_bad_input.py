"""What is wrong with a start is said in one paragraph that names it and the remedy: the command line, the settings, the
target, the machine.

A start that fails ends with the exit code of its kind (2 usage or setting, 3 it could not start) and prints nothing but
that paragraph: a sentence on standard error, under which a traceback may be indented.
"""

import re
import socket

import pytest

from paragraphs import paragraphs_of
from testbed import COMMAND, UNPRIVILEGED, run_to_end, running

USAGE, CANNOT_START = 2, 3
ANY_PORT = ("-b", "127.0.0.1:0")


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
    (paragraph,) = paragraphs_of(ended.log)
    return paragraph


def sentence(paragraph: str) -> str:
    """Its first line, which must be all of it, without who says it and when."""
    (line,) = paragraph.splitlines()
    return told(line)


def told(line: str) -> str:
    found = re.fullmatch(r"(?:paceline|\S+ \S+ error supervisor): (?:cannot start: )?(.*)", line)
    assert found is not None, line
    return found[1]


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
    said = "--config no.toml: the file cannot be read: No such file or directory; give the name of a TOML "
    said += "file that this user can read"
    assert sentence(refused("serve", "--config", "no.toml", code=USAGE)) == said


WITHOUT_RIGHTS = (*UNPRIVILEGED, "/bin/sh", "-c", 'chmod 0 closed.*; exec "$@"', "sh", *COMMAND)
"""As somebody who may not read the file closed.…"""


def test_a_file_of_settings_that_cannot_be_read() -> None:
    words = ("serve", "--config", "closed.toml")
    said = "--config closed.toml: the file cannot be read: Permission denied; give the name of a TOML file that "
    said += "this user can read"
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
        peer = server.connect()
        peer.send(b"untouched")
        assert peer.receive(9) == b"untouched"


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
