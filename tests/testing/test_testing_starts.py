"""`running` where it must refuse, and in scripts: what does not start, and what a process that uses it is left with."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import paceline
from leftovers import wait_gone
from paceline.errors import HostError, PacelineError, SettingError, TargetError, UsageError
from paceline.testing import running
from testbed import run_to_end

pytestmark = pytest.mark.usefixtures("nothing_left")


@paceline.connection
def rev(conn: socket.socket) -> None:
    with conn.makefile("rb") as lines:
        for line in lines:
            conn.sendall(line.strip()[::-1] + b"\n")


def note_of(error: BaseException) -> str:
    """The log that the exception carries."""
    (note,) = [note for note in error.__notes__ if note.startswith("The server's log")]
    return note


# What does not start

BROKEN = {
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "1 / 0": "ZeroDivisionError: division by zero",
    "def handler(:": "SyntaxError",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_target_that_raises_when_it_is_imported(line: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(line + "\n")
    with pytest.raises(TargetError, match=r"broken.py:handler") as raised, running(f"{tmp_path}/broken.py:handler"):
        pass
    assert BROKEN[line] in note_of(raised.value)
    assert "broken.py" in note_of(raised.value)


WRONG: dict[str, tuple[Callable[[], object], type[PacelineError], str]] = {
    "no module": (lambda: running("nowhere:f"), TargetError, "no module named 'nowhere'"),
    "nothing": (lambda: running(None), TargetError, "must be a handler, or a text such as"),
    "a number": (lambda: running(5), TargetError, "which cannot be called; a handler is a function or a class"),
    "async": (lambda: running(_waits), TargetError, "written with `async def`"),
    "no setting": (lambda: running("echo", thread=4), SettingError, "no setting 'thread'; did you mean threads"),
    "a target twice": (lambda: running("echo", target="x"), SettingError, "is the first argument of running"),
    "threads": (lambda: running("echo", threads=0), SettingError, "threads=0: must be a whole number from 1"),
    "time": (lambda: running("echo", stop_timeout="x"), SettingError, "stop_timeout='x': must be a time from"),
    "framing": (lambda: running("echo", framing="lines"), UsageError, "there is no framing 'lines'; did you mean line"),
    "framing here": (lambda: running(lambda m: m, framing="lines"), UsageError, "there is no framing 'lines'"),
    "object for text": (lambda: running("echo", framing=paceline.Raw(limit=9)), SettingError, "not the text 'echo'"),
    "workers here": (lambda: running(lambda m: m, workers=2), SettingError, "workers=2: no other process can import"),
    "no framing": (lambda: running(rev, framing=paceline.Lines(limit=9)), TargetError, "reads the bytes itself"),
    "no host": (lambda: running("echo", bind="192.0.2.1:0"), HostError, "no interface of this machine has"),
    "no host here": (lambda: running(lambda m: m, bind="192.0.2.1:0"), HostError, "no interface of this machine has"),
}


async def _waits(_message: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_served_is_told(what: str) -> None:
    started, kind, said = WRONG[what]
    with pytest.raises(kind, match=re.escape(said)) as raised, started():  # type: ignore[attr-defined]
        pass
    assert type(raised.value) is not PacelineError


def test_an_import_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import threading\nprint('waiting')\nthreading.Event().wait()\n")
    with (
        pytest.raises(HostError, match=r"did not listen within 1 s \(start_timeout\), and was killed") as raised,
        running(f"{tmp_path}/slow.py:handler", start_timeout=1),
    ):
        pass
    assert "waiting" in note_of(raised.value)


# The process of the test


def run_script(text: str, *words: str, command: tuple[str, ...] = (sys.executable, "script.py")) -> tuple[int, str]:
    """How a script ends, and what it says."""
    ended = run_to_end(*words, files={"script.py": textwrap.dedent(text)}, command=command)
    return ended.code, ended.output + ended.log


SCRIPT = """
    import socket
    from paceline.testing import running

    def shout(message):
        return message.upper()

    if __name__ == "__main__":
        for handler in (shout, lambda message: message.upper()):
            with running(handler) as server:
                with socket.create_connection((server.host, server.port), 5) as client:
                    client.sendall(b"hello")
                    print(client.recv(5), "in this process" in server.log)
    """


def test_a_script() -> None:
    assert run_script(SCRIPT) == (0, "b'HELLO' False\nb'HELLO' True\n")


def test_a_script_without_a_file() -> None:
    code, said = run_script(SCRIPT, command=("sh", "-c", f"{sys.executable} - < script.py"))
    assert (code, said) == (0, "b'HELLO' True\nb'HELLO' True\n")


def test_standard_descriptors_may_be_closed() -> None:
    checked = SCRIPT + '        import os\n        print(os.listdir("/proc/self/fd"))\n'
    code, said = run_script(checked, command=("sh", "-c", f"exec {sys.executable} script.py <&-"))
    # 0: the listing's own.  No server has put anything there.
    assert (code, said) == (0, "b'HELLO' False\nb'HELLO' True\n['0', '1', '2']\n")


def test_a_script_that_starts_itself_again_and_again_is_told() -> None:
    script = """
        from paceline.testing import running

        def shout(message):
            return message.upper()

        with running(shout):
            print("not reached")
        """
    code, said = run_script(script)
    assert code == 1
    assert "which would never end; put what starts it into a test or a function" in said
    assert "not reached" not in said


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_why_it_did_not_start_is_told_in_any_log(tmp_path: Path, log_format: str) -> None:
    (tmp_path / "app.py").write_text("print('[1]')\n1/0\n")
    with (
        pytest.raises(TargetError, match=r"raised ZeroDivisionError while it was loaded \(exit code 3\)"),
        running(f"{tmp_path}/app.py:x", log_format=log_format),
    ):
        pass


def test_what_was_said_before_there_was_a_log_is_told_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(HostError, match=f"cannot listen on {place}"),
            running("echo", bind=place, log_format="json"),
        ):
            pass


def test_a_child_that_the_test_forked_does_not_keep_the_server_of_a_killed_test() -> None:
    script = """if True:
        import os, signal
        from paceline.testing import running

        with running("echo", workers=1) as server:
            child = os.fork()
            if child == 0:
                os.close(1)
                signal.pause()
            print(server.pid, child, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=20, check=False)
    server, child = map(int, done.stdout.split())
    try:
        wait_gone([server])
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_test_process_that_is_killed_takes_its_server_along() -> None:
    script = """if True:
        import os, signal
        from paceline.testing import running

        with running("echo", workers=1) as server:
            print(server.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=20, check=False)
    assert done.returncode == -signal.SIGKILL
    server = int(done.stdout)
    try:
        wait_gone([server])
    except AssertionError:
        os.killpg(server, signal.SIGKILL)
        raise
