"""`paceline.serve` from a script: by text and by object, with right and wrong arguments, and how the script ends."""

import os
import signal
import sys

import pytest

from testbed import Ended, Server, run_to_end, running

COMMAND = (sys.executable, "script.py")


def serving(call: str, before: str = "", after: str = "") -> dict[str, str]:
    """A script that does this."""
    return {
        "script.py": f'import paceline\n\n{before}\n\nif __name__ == "__main__":\n    paceline.serve({call})\n{after}\n'
    }


def run_script(text: str) -> Ended:
    return run_to_end(files={"script.py": text}, command=COMMAND)


def shouts(server: Server) -> bool:
    peer = server.connect()
    peer.send(b"hel", b"lo\nworld\n")
    return peer.lines(2) == [b"HELLO\n", b"WORLD\n"]


HANDLERS = {
    "a function": ("def shout(line):\n    return line.upper()", "shout"),
    "a closure": ("def made(method):\n    return lambda line: getattr(line, method)()", "made('upper')"),
    "a class": ("class Shout:\n    def __call__(self, line):\n        return line.upper()", "Shout"),
    "an object": ("class Shout:\n    def __call__(self, line):\n        return line.upper()", "Shout()"),
    "a method of bytes": ("", "bytes.upper"),
    "a text for the script itself": ("def shout(line):\n    return line.upper()", "'script:shout'"),
    "a text for a file": ("", "'app.py:shout'"),
    "a text for a module": ("", "'app:shout'"),
}


@pytest.mark.parametrize("what", HANDLERS)
def test_serving(what: str) -> None:
    before, handler = HANDLERS[what]
    script = serving(f"{handler}, bind='127.0.0.1:0', framing='line', workers=2, threads=8", before)
    files = {**script, "app.py": "def shout(line):\n    return line.upper()\n"}
    with running(files=files, command=COMMAND) as server:
        assert "2 workers × up to 8 threads" in server.log
        assert shouts(server)


def test_a_decorated_handler_says_its_framing_itself() -> None:
    before = "@paceline.message(framing=paceline.Lines(limit=100))\ndef shout(line):\n    return line.upper()"
    with running(files=serving("shout, bind='127.0.0.1:0', workers=1", before), command=COMMAND) as server:
        assert shouts(server)


def test_a_connection_handler() -> None:
    before = "def shout(conn):\n    for line in conn.makefile('rb'):\n        conn.sendall(line.upper())"
    call = "shout, as_='connection', bind=['127.0.0.1:0', 'unix:x.sock'], workers=1"
    with running(files=serving(call, before), command=COMMAND) as server:
        assert len(server.places) == 2
        for place in server.places:
            peer = server.connect(place)
            peer.send(b"hello\n")
            assert peer.line() == b"HELLO\n"


def test_what_the_handler_closes_over_is_there_in_each_worker() -> None:
    before = """
import os

parent = os.getpid()
kept = {"parent": parent}

def who(line):
    return b"%d %d" % (kept["parent"], os.getpid())
"""
    with running(files=serving("who, bind='127.0.0.1:0', framing='line'", before), command=COMMAND) as server:
        peer = server.connect()
        peer.send(b"who\n")
        parent, worker = map(int, peer.line().split())
        assert parent == server.pid
        assert worker in server.pids()


def test_it_returns_when_the_server_has_ended_and_signals_are_the_scripts_again() -> None:
    before = "import signal\n\nsignal.signal(signal.SIGTERM, handler := lambda *_: None)"
    after = (
        "    assert signal.getsignal(signal.SIGTERM) is handler\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "    print('goes on')\n"
    )
    with running(files=serving("'echo', bind='127.0.0.1:0'", before, after), command=COMMAND) as server:
        assert server.stop(signal.SIGTERM) == 0
    assert server.output == "goes on"


def test_what_was_printed_before_is_printed_once() -> None:
    before = "print('before', end=' ')"
    with running(files=serving("'echo', bind='127.0.0.1:0', workers=2", before), command=COMMAND) as server:
        peer = server.connect()
        peer.send(b"x")
        assert peer.receive(1) == b"x"
    assert server.output == "before "


def test_it_can_serve_again() -> None:
    after = "    print('and again')\n    paceline.serve('echo', bind='127.0.0.1:0')\n"
    with running(files=serving("'echo', bind='127.0.0.1:0'", "", after), command=COMMAND) as server:
        server.send_signal(signal.SIGINT)
        server.wait_for_log(" supervisor: stopped after ")
        second = server.wait_for_log("listening on ", since=server.log_length())
        place = second.partition("listening on ")[2].partition(" ")[0]
        peer = server.connect(place)
        peer.send(b"x")
        assert peer.receive(1) == b"x"
    assert server.output == "and again"


def test_calls_that_are_cut_end_the_script_with_4() -> None:
    before = "def stuck(message):\n    print('stuck')\n    with open('gate') as gate:\n        gate.read()"
    files = serving("stuck, bind='127.0.0.1:0', workers=1, drain_timeout='200ms'", before, "    print('not reached')")
    with running(files=files, command=COMMAND, exit_code=4) as server:
        os.mkfifo(server.folder / "gate")
        peer = server.connect()
        peer.send(b"x")
        server.wait_for_log("stuck")
        assert server.stop() == 4
    assert server.output == ""


# What is wrong

WRONG = {
    "'echo', thread=4": "SettingError 2: there is no setting 'thread'; did you mean threads?",
    "'echo', threads=0": "SettingError 2: threads=0: must be a whole number from 1 to 4,096; the nearest right",
    "'echo', threads='many'": "SettingError 2: threads='many': must be a whole number from 1 to 4,096",
    "'echo', bind=8888": "SettingError 2: bind=8888: must be HOST:PORT, [::1]:PORT, :PORT (all interfaces), unix:PATH "
    "or fd://N; a port alone does not say on which interface; the nearest right value is 127.0.0.1:8888",
    "'echo', framing=paceline.Lines(limit=9)": "a framing object belongs to the handler: @paceline.message(framing=…)",
    "'echo', framing='lines'": "SettingError 2: framing='lines': there is no framing 'lines'; did you mean line?",
    "'echo', as_='connections'": "SettingError 2: as_='connections': must be message, connection or socketserver",
    "'echo', workers=9, max_workers=4": "SettingError 2: ",
    "'echo', config='no.toml'": "SettingError 2: config='no.toml': the file cannot be read: No such file or "
    "directory; give the name of a TOML file that this user can read",
    "None": "TargetError 3: paceline.serve(None): the target must be a handler, or a text such as 'module:attribute'",
    "'echo', bind='unix:/etc/passwd'": "HostError 3: cannot listen on unix:/etc/passwd: a file of that name is in the",
}


def test_wrong_arguments() -> None:
    attempts = "\n".join(
        f"""
try:
    paceline.serve({call})
except paceline.PacelineError as error:
    print(f"{{type(error).__name__}} {{error.exit_code}}: {{error}}")
"""
        for call in WRONG
    )
    ended = run_script(f"import paceline\n{attempts}")
    assert (ended.code, ended.log) == (0, "")
    for line, said in zip(ended.output.splitlines(), WRONG.values(), strict=True):
        assert said in line


def test_a_handler_that_cannot_be_served_ends_the_script_with_3() -> None:
    ended = run_script("import paceline\npaceline.serve(5, bind='127.0.0.1:0')\nprint('not reached')\n")
    assert ended.code == 3
    assert ended.output == ""
    assert "cannot start: 5 is an int, which cannot be called; a handler is a function or a class" in ended.log


def test_in_another_thread_it_is_refused() -> None:
    text = """
import threading
import paceline

def serve():
    try:
        paceline.serve("echo", bind="127.0.0.1:0")
    except paceline.UsageError as error:
        print(error)

thread = threading.Thread(target=serve)
thread.start()
thread.join()
"""
    ended = run_script(text)
    said = "paceline.serve was called in a thread; it forks and handles signals, so call it in the main thread\n"
    assert (ended.code, ended.log, ended.output) == (0, "", said)


def test_the_environment_and_files_count_only_when_asked_for() -> None:
    files = serving("'echo', bind='127.0.0.1:0'") | {"paceline.toml": "threads = 7\n"}
    with running(files=files, env={"PACELINE_WORKERS": "3"}, command=COMMAND) as server:
        assert "up to 64 threads" in server.log
    files = serving("'echo', bind='127.0.0.1:0', config='paceline.toml'") | {"paceline.toml": "threads = 7\n"}
    with running(files=files, env={"PACELINE_WORKERS": "3"}, command=COMMAND) as server:
        assert "3 workers × up to 7 threads" in server.log
