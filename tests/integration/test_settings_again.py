"""Settings that a reload or an upgrade looks up again: what the running server does when their file has gone.

test_reload.py has the reload's part of it; here are the upgrade's, and the ways in which a file can be named.
"""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leftovers import eventually
from testbed import Server, running

APP = 'def answer(message):\n    return b"ours " + message\n'
SETTINGS = 'target = "app.py:answer"\nframing = "line"\nworkers = 1\n'
GOES_AT_THE_TRIAL = """
import os

if os.path.exists("armed"):
    os.unlink("armed")
    os.rename("paceline.toml", "kept.toml")

"""


def says(server: Server, number: signal.Signals, pattern: str) -> str:
    """Send this signal, and wait for that in the log; returns what was said until then."""
    since = server.log_length()
    server.send_signal(number)
    return server.wait_for_log(re.compile(pattern), 30, since=since)


def reloaded(server: Server) -> None:
    says(server, signal.SIGHUP, r"generation \d+ serves, after")


def ask(server: Server) -> bytes:
    with server.connect() as peer:
        peer.send(b"x\n")
        return peer.line()


@contextmanager
def unchanged(*options: str, files: dict[str, str], env: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that serves at the end with the workers of the start, without whoever was connected noticing."""
    with running(None, *options, files={"app.py": APP, **files}, env=env) as server, server.connect() as peer:
        pids = server.pids()
        peer.send(b"half a ")
        yield server
        peer.send(b"line\n")
        assert peer.line() == b"ours half a line\n"
        assert ask(server) == b"ours x\n"
        assert server.pids() == pids


@pytest.mark.parametrize(
    ("options", "env", "name", "cited"),
    [
        ((), {}, "paceline.toml", "paceline.toml"),
        ((), {}, "pyproject.toml", "pyproject.toml"),
        (("--config", "c.toml"), {}, "c.toml", "--config c.toml"),
        ((), {"PACELINE_CONFIG": "c.toml"}, "c.toml", "PACELINE_CONFIG=c.toml"),
    ],
    ids=["found", "table", "named", "variable"],
)
def test_a_file_that_has_gone(options: tuple[str, ...], env: dict[str, str], name: str, cited: str) -> None:
    text = ("[tool.paceline]\n" if name == "pyproject.toml" else "") + SETTINGS
    with unchanged(*options, files={name: text}, env=env) as server:
        file = server.folder / name
        file.unlink()
        says(server, signal.SIGHUP, rf"{re.escape(cited)}: the file cannot be read any more: No such file or directory")
        says(server, signal.SIGUSR2, "the running version goes on, nothing has changed")
        server.wait_for_log(re.compile(r"put it back, or restart the server|: the file cannot be read: No such file"))
        file.mkdir()
        says(server, signal.SIGHUP, rf"{re.escape(cited)}: that is no regular file any more; put it back, or restart")
        file.rmdir()


def test_a_table_that_has_gone() -> None:
    with unchanged(files={"pyproject.toml": "[tool.paceline]\n" + SETTINGS}) as server:
        (server.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        says(server, signal.SIGHUP, r"pyproject.toml: there are no settings in it any more; put it back, or restart")
        says(server, signal.SIGUSR2, "the running version goes on, nothing has changed")
        server.wait_for_log(
            "the running server has settings from [tool.paceline] of pyproject.toml, and now they would"
        )


def test_a_target_that_a_reload_brought_and_nothing_names_any_more_refuses_the_upgrade() -> None:
    with running(None, files={"app.py": APP, "paceline.toml": SETTINGS.replace("app.py:answer", "echo")}) as server:
        file = server.folder / "paceline.toml"
        file.write_text(SETTINGS)
        reloaded(server)
        file.write_text("framing = 'line'\nworkers = 1\n")
        says(server, signal.SIGUSR2, "the running version goes on, nothing has changed")
        server.wait_for_log("nothing names the target any more, which was app.py:answer")
        assert ask(server) == b"ours x\n"


def test_a_file_that_goes_between_the_trial_and_the_upgrade_refuses_the_reload() -> None:
    """It is too late to refuse the upgrade: the new program goes on with the settings that count."""
    files = {"app.py": GOES_AT_THE_TRIAL + APP, "paceline.toml": SETTINGS, "elsewhere.py": APP.replace("ours", "other")}
    files["pyproject.toml"] = "[tool.paceline]\n" + SETTINGS.replace("app.py", "elsewhere.py")
    with running(None, files=files) as server, server.connect() as peer:
        pids = server.pids()
        (server.folder / "armed").touch()
        says(
            server,
            signal.SIGUSR2,
            "the reload is refused and nothing has changed: the running server has settings from",
        )
        assert "upgraded from Paceline" in server.log
        assert server.pids() == pids
        peer.send(b"x\n")
        assert peer.line() == b"ours x\n"
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: server.pids() not in ([], pids))
        assert ask(server) == b"ours x\n", "a worker that is replaced meanwhile serves the same, in the same way"
        (server.folder / "kept.toml").rename(server.folder / "paceline.toml")
        reloaded(server)
        assert ask(server) == b"ours x\n"


def test_a_file_that_was_refused_does_not_count() -> None:
    with running("app.py:answer", "--framing", "line", "--workers", "1", files={"app.py": APP}) as server:
        file = server.folder / "paceline.toml"
        for wrong in ("backlog = 17", "threads = 0", "probe = '\\q'"):
            file.write_text(wrong)
            says(server, signal.SIGHUP, "the reload is refused and nothing has changed: ")
        file.unlink()
        reloaded(server)
        assert ask(server) == b"ours x\n"


def test_what_can_be_read_only_once_is_said_once_and_refuses_the_upgrade() -> None:
    reader, writer = os.pipe()
    os.write(writer, SETTINGS.encode())
    os.close(writer)
    try:
        with (
            running(None, "--config", f"/dev/fd/{reader}", files={"app.py": APP}, pass_fds=[reader]) as server,
            server.connect() as peer,
        ):
            reloaded(server)
            reloaded(server)
            assert server.log.count(f"/dev/fd/{reader} is no regular file: what it said at the start still counts") == 1
            says(server, signal.SIGUSR2, rf"no upgrade: settings came from /dev/fd/{reader}, which is no regular file")
            peer.send(b"x\n")
            assert peer.line() == b"ours x\n"
    finally:
        os.close(reader)


def test_a_device_without_settings_is_nothing_to_miss() -> None:
    with running("app.py:answer", "--framing", "line", "--config", "/dev/null", files={"app.py": APP}) as server:
        reloaded(server)
        says(server, signal.SIGUSR2, "generation 3 serves, after")
        assert "no regular file" not in server.log
        assert ask(server) == b"ours x\n"
