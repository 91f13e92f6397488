"""A reload as its user sees it: the present code and settings serve, whoever is connected notices nothing."""

import json
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leftovers import children_of, eventually, open_kinds
from testbed import Server, running

LINES = ("--framing", "line", "--workers", "2")


SCRIPT = """
import paceline

def answer(message):
    return message

paceline.serve(answer, bind="127.0.0.1:0", framing="line", workers=1)
"""


def app(version: str, more: str = "") -> str:
    return f"def answer(message):\n    return b'{version} ' + message\n{more}"


def reloaded(server: Server, generation: int) -> None:
    since = server.log_length()
    server.send_signal(signal.SIGHUP)
    server.wait_for_log(f"generation {generation} serves", since=since)


def refused(server: Server) -> str:
    since = server.log_length()
    server.send_signal(signal.SIGHUP)
    return server.wait_for_log("nothing has changed", since=since)


def wait_for_workers(server: Server, count: int) -> None:
    eventually(lambda: len(server.pids()) == count)


def ask(server: Server) -> bytes:
    with server.connect() as peer:
        peer.send(b"x\n")
        return peer.line()


def test_kept_connections_get_the_new_code() -> None:
    with running("app.py:answer", *LINES, files={"app.py": app("v1")}) as server, server.connect() as peer:
        peer.send(b"half a ")
        for version in range(2, 7):
            (server.folder / "app.py").write_text(app(f"v{version}"))
            reloaded(server, version)
            peer.send(b"message\nhalf a ")
            assert peer.line() == b"v%d half a message\n" % version, "edits within a second are seen"


def test_a_module_that_the_target_imports_is_seen_too() -> None:
    files = {"app.py": "from answers import answer\n", "answers.py": app("v1")}
    with running("app:answer", *LINES, files=files) as server:
        for version in range(2, 5):
            (server.folder / "answers.py").write_text(app(f"v{version}"))
            reloaded(server, version)
            assert ask(server) == b"v%d x\n" % version


def test_a_deployment_that_exchanges_a_symbolic_link(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "app.py").write_text(app(release))
    current = tmp_path / "current"
    current.symlink_to("one")
    with running("app.py:answer", *LINES, "--chdir", str(current)) as server:
        assert ask(server) == b"one x\n"
        (tmp_path / "next").symlink_to("two")
        os.replace(tmp_path / "next", current)
        reloaded(server, 2)
        assert ask(server) == b"two x\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def answer(", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("import os; os._exit(7)", "exited with code 7 before it was ready"),
        ("raise SystemExit('no')", "called sys.exit('no')"),
        ("answer = 1", "cannot be called"),
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV before it was ready"),
        ("import time; time.sleep(100)", "was not ready after 0.5 s (--boot-timeout)"),
    ],
)
def test_broken_code_changes_nothing_and_is_told(code: str, why: str) -> None:
    with running("app.py:answer", *LINES, "--boot-timeout", "0.5", files={"app.py": app("good")}) as server:
        before = server.pids()
        with server.connect() as peer:
            (server.folder / "app.py").write_text(code)
            assert why in refused(server)
            peer.send(b"x\n")
            assert peer.line() == b"good x\n"
        assert server.pids() == before
        (server.folder / "app.py").write_text(app("mended"))
        reloaded(server, 3)
        assert ask(server) == b"mended x\n"


def test_a_reload_that_gives_the_code_more_time_to_start_has_it() -> None:
    files = {"app.py": app("v1"), "paceline.toml": "boot_timeout = 1\n"}
    with running("app.py:answer", *LINES, files=files) as server:
        (server.folder / "app.py").write_text(f"import time\ntime.sleep(1.5)\n{app('v2')}")
        assert "was not ready after 1 s (--boot-timeout)" in refused(server)
        (server.folder / "paceline.toml").write_text("boot_timeout = 60\n")
        reloaded(server, 3)
        assert ask(server) == b"v2 x\n"


def test_a_wrong_answer_to_the_probe_changes_nothing() -> None:
    probe = ("--probe", r"x\n", "--probe-reply", r"v1 x\n")
    with running("app.py:answer", *LINES, *probe, files={"app.py": app("v1")}) as server:
        (server.folder / "app.py").write_text(app("v2"))
        assert "probe" in refused(server)
        assert ask(server) == b"v1 x\n"


def test_settings_of_the_file_change_and_those_that_cannot_are_refused_by_name() -> None:
    files = {"app.py": app("v1"), "paceline.toml": "workers = 1\n"}
    with running("app.py:answer", "--framing", "line", files=files) as server:
        file = server.folder / "paceline.toml"
        file.write_text("workers = 2\n")
        reloaded(server, 2)
        wait_for_workers(server, 2)
        file.write_text("workers = 2\nbacklog = 7\n")
        why = "backlog = 7 in paceline.toml: a reload cannot change it, only a restart can; it stays 2048"
        assert why in refused(server)
        file.write_text("workers = 2\nthreads = 65\n")
        assert "threads = 65: there is room for 64 in each worker" in refused(server)
        file.write_text("workers = zwei\n")
        assert "paceline.toml, line 1" in refused(server)
        file.write_text("workers = 1\n")
        reloaded(server, 3)
        wait_for_workers(server, 1)


def test_the_log_changes_its_form_with_the_workers() -> None:
    files = {"app.py": app("v1"), "paceline.toml": 'log_format = "text"\n'}
    with running("app.py:answer", "--framing", "line", "--workers", "1", files=files) as server:
        (server.folder / "paceline.toml").write_text('log_format = "json"\n')
        reloaded(server, 2)
        since = server.log_length()
        server.send_signal(signal.SIGUSR1)
        server.send_signal(signal.SIGTTIN)
        server.wait_for_log("2 workers from now on", since=since)
        later = server.log.splitlines()[since:]
        assert all(line.startswith("{") for line in later), later
        (server.folder / "paceline.toml").write_text('log_format = "texts"\n')
        assert json.loads(refused(server))["event"] == "reload-refused", "what is refused changes nothing"


def test_a_storm_of_reloads_converges() -> None:
    with running("app.py:answer", *LINES, files={"app.py": app("v1")}) as server, server.connect() as peer:
        for n in range(1000):
            server.send_signal(signal.SIGHUP)
            if n % 100 == 0:
                peer.send(b"x\n")
                assert peer.line() == b"v1 x\n"
        (server.folder / "app.py").write_text(app("v2"))
        server.send_signal(signal.SIGHUP)

        def is_new() -> bool:
            peer.send(b"x\n")
            return peer.line() == b"v2 x\n"

        eventually(is_new)
        wait_for_workers(server, 2)


SLOW = """
    with open("gate") as gate:  # until somebody opens it for writing
        gate.read()

    def answer(message):
        return b"slow " + message
"""


@contextmanager
def slowly_reloading(*options: str) -> Iterator[Server]:
    """A server in a reload whose workers are not ready until `let_one_in` says so."""
    with running("app.py:answer", *LINES, *options, files={"app.py": app("v1")}) as server:
        os.mkfifo(server.folder / "gate")
        (server.folder / "app.py").write_text(textwrap.dedent(SLOW))
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("reloading")
        yield server


def let_one_in(server: Server) -> None:
    """Waits for one that waits there; those before it must be through."""
    (server.folder / "gate").write_bytes(b"")


def test_workers_that_are_told_to_leave_in_a_reload_serve_until_others_do() -> None:
    with slowly_reloading() as server, server.connect() as one, server.connect() as other:
        old = server.pids()[:2]
        for pid in old:
            os.kill(pid, signal.SIGTERM)
        for pid in old:
            server.wait_for_log(f"(pid {pid}) is replaced: somebody sent it SIGTERM")
        for alive in (3, 4):
            wait_for_workers(server, alive)
            for peer in (one, other):
                peer.send(b"x\n")
                assert peer.line() == b"v1 x\n"
            let_one_in(server)
        server.wait_for_log("generation 2 serves")
        for peer in (one, other):
            peer.send(b"x\n")
            assert peer.line() == b"slow x\n"
        eventually(lambda: not set(old) & set(server.pids()))
        assert " error " not in server.log


def test_a_worker_that_is_told_to_leave_in_standby_is_replaced_when_it_serves() -> None:
    with slowly_reloading() as server, server.connect() as peer:
        wait_for_workers(server, 3)
        let_one_in(server)
        wait_for_workers(server, 4)
        canary = server.pids()[2]  # the fourth is made when it is in standby
        os.kill(canary, signal.SIGTERM)
        let_one_in(server)
        server.wait_for_log("generation 2 serves")
        server.wait_for_log(f"(pid {canary}) is replaced: somebody sent it SIGTERM")
        let_one_in(server)
        eventually(lambda: canary not in server.pids())
        wait_for_workers(server, 2)
        peer.send(b"x\n")
        assert peer.line() == b"slow x\n"


def test_more_and_fewer_workers_by_signals() -> None:
    with running("app.py:answer", *LINES, files={"app.py": app("v1")}) as server, server.connect() as peer:
        server.send_signal(signal.SIGTTIN)
        wait_for_workers(server, 3)
        for left in (2, 1):
            server.send_signal(signal.SIGTTOU)
            wait_for_workers(server, left)
            peer.send(b"x\n")
            assert peer.line() == b"v1 x\n"
        since = server.log_length()
        server.send_signal(signal.SIGTTOU)
        assert "0 workers cannot be" in server.wait_for_log("it stays at 1 worker", since=since)


def test_an_edit_is_seen_with_dev() -> None:
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    with running("app.py:answer", *LINES, "--dev", files={"app.py": app("v1")}) as server, server.connect() as peer:
        written = iter(range(2, 1000))

        def is_seen() -> bool:
            """Written again and again: nobody says when the watching has begun.  Whole, so that none is seen half."""
            (server.folder / "next").write_text(app(f"v{next(written)}"))
            os.replace(server.folder / "next", server.folder / "app.py")
            return "app.py changed" in server.log

        eventually(is_seen)
        server.wait_for_log("generation 2 serves")
        peer.send(b"x\n")
        assert peer.line() != b"v1 x\n"


def test_no_worker_has_anything_of_who_watches_the_files() -> None:
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    plain = running("app.py:answer", *LINES, files={"app.py": app("v1")})
    with plain as server, running("app.py:answer", *LINES, "--dev", files={"app.py": app("v1")}) as watched:
        workers = [pid for pid in watched.pids() if "watching" not in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(workers) == 2
        eventually(lambda: open_kinds(workers[0]) == open_kinds(workers[1]) == open_kinds(server.pids()[0]))


def test_who_watches_the_files_does_not_outlive_a_server_that_is_killed() -> None:
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    with running("app.py:answer", *LINES, "--dev", files={"app.py": app("v1")}) as server:
        assert len(children_of(server.pid)) == 3
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL  # the rig sees to it that nobody is left


def test_a_handler_given_as_an_object_cannot_be_reloaded() -> None:
    with running(command=(sys.executable, "-c", SCRIPT)) as server:
        assert "given as an object" in refused(server)
        assert ask(server) == b"x\n"


def with_file(*files: tuple[str, str]) -> dict[str, str]:
    return {"app.py": app("v1"), "elsewhere.py": app("elsewhere"), **dict(files)}


SETTINGS = 'target = "app.py:answer"\nframing = "line"\nworkers = 1\n'


@contextmanager
def configured(files: dict[str, str]) -> Iterator[Server]:
    """A server whose settings come from a file, the target too; at the end it serves as it did at the start."""
    with running(None, files=files) as server:
        pids = server.pids()
        yield server
        assert ask(server) == b"v1 x\n"
        assert server.pids() == pids


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file.unlink(), "paceline.toml: the file cannot be read any more: No such file or directory"),
        (lambda file: file.write_text(""), "paceline.toml: there are no settings in it any more; put it back"),
        (lambda file: file.write_text("# nothing\n"), "paceline.toml: there are no settings in it any more"),
        (
            lambda file: file.write_text('framing = "line"\nworkers = 1\n'),
            "nothing names the target any more, which was app.py:answer; name it in the file or on the command line",
        ),
    ],
    ids=["gone", "empty", "only a comment", "no target"],
)
def test_settings_that_have_gone_are_no_wish(change: Callable[[Path], object], why: str) -> None:
    with configured(with_file(("paceline.toml", SETTINGS))) as server:
        change(server.folder / "paceline.toml")
        assert why in refused(server)
        since = server.log_length()
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("the running version goes on", since=since)


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for() -> None:
    with configured(with_file(("paceline.toml", SETTINGS))) as server:
        file = server.folder / "paceline.toml"
        file.unlink()
        os.mkfifo(file)
        assert "paceline.toml: that is no regular file any more" in refused(server)


def test_another_file_does_not_take_the_place_of_the_one_that_counted() -> None:
    other = "[tool.paceline]\n" + SETTINGS.replace("app.py", "elsewhere.py")
    with configured(with_file(("paceline.toml", SETTINGS), ("pyproject.toml", other))) as server:
        (server.folder / "paceline.toml").unlink()
        assert "paceline.toml: the file cannot be read any more" in refused(server)


def test_a_pipe_goes_on_to_say_what_it_said() -> None:
    reader, writer = os.pipe()
    os.write(writer, SETTINGS.encode())
    os.close(writer)
    try:
        with running(None, "--config", f"/dev/fd/{reader}", files=with_file(), pass_fds=[reader]) as server:
            (server.folder / "app.py").write_text(app("v2"))
            reloaded(server, 2)
            assert ask(server) == b"v2 x\n"
            since = server.log_length()
            server.send_signal(signal.SIGUSR2)
            server.wait_for_log("the running version goes on", since=since)
    finally:
        os.close(reader)


def test_a_file_that_comes_later_counts_from_then_on() -> None:
    with running("app.py:answer", "--framing", "line", "--workers", "1", files=with_file()) as server:
        file = server.folder / "paceline.toml"
        file.write_text("threads = 3\n")
        reloaded(server, 2)
        file.unlink()
        assert "paceline.toml: the file cannot be read any more" in refused(server)
