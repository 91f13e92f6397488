"""Started as root, served as somebody else: what every process may do then, and that the server goes on as ever.

The servers run in a Python that this user can read, and from a copy of Paceline: the tests' own may lie in root's home.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

import paceline
from leftovers import children_of, eventually, wait_gone
from paragraphs import paragraphs_of
from testbed import COMMAND, UNPRIVILEGED, Ended, Server, run_to_end, running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

USER = "nobody"
GROUP = str(pwd.getpwnam(USER).pw_gid)
PLACE = f"127.{os.getpid() >> 16 & 127 | 128}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:81"
"""A privileged port of a loopback address that no other run of these tests has."""

APP = """\
import os, subprocess

def fails(step, *arguments):
    try:
        step(*arguments)
    except OSError as error:
        return type(error).__name__
    return "nothing stops it"

def answer(line):
    match line:
        case b"who":
            names = ("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR")
            return repr((os.getresuid(), [os.environ.get(name) for name in names])).encode()
        case b"back":
            return " ".join([
                fails(os.setuid, 0), fails(os.seteuid, 0), fails(os.setresuid, 0, 0, 0), fails(os.setgid, 0),
                fails(os.setgroups, [0]), fails(open, "/etc/shadow"), fails(os.kill, 1, 0),
            ]).encode()
        case b"suid":
            return b"%d" % int(subprocess.run(["./suid", "-u"], capture_output=True, check=True).stdout)
    return line
"""
LINES = ("--framing", "line", "--workers", "2")
OPENED = 'chmod 755 . && if test -d var; then chown nobody var; fi && exec "$@"'
"""The folder of a test is private; here the user must come in, and `var` is its own."""


@dataclass(frozen=True)
class House:
    """A Paceline for everybody."""

    python: str
    folder: Path

    @property
    def command(self) -> tuple[str, ...]:
        return ("sh", "-c", OPENED, "sh", self.python, *COMMAND[1:])

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder), "PACELINE_RUNTIME_DIR": str(self.folder / "run")}

    def ctl(self, *words: str, user: str | None = None) -> str:
        who = user or "root"
        ended = subprocess.run(
            [self.python, *COMMAND[1:], "ctl", *words],
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            env=os.environ | self.env,
            user=who,
            group=pwd.getpwnam(who).pw_gid,
            extra_groups=[],
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def running(
        self,
        *options: str,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        exit_code: int | None = 0,
    ) -> AbstractContextManager[Server]:
        files = {"app.py": APP, "var/empty": ""}
        words, env, command = (*LINES, *options), env or self.env, command or self.command
        return running("app.py:answer", *words, files=files, env=env, command=command, exit_code=exit_code)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="paceline-house-"))
    folder.chmod(0o755)
    try:
        click = importlib.util.find_spec("click")
        assert click is not None
        assert click.origin is not None
        for package in (Path(paceline.__file__).parent, Path(click.origin).parent):
            shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        is_fit = "import sys, paceline.cli.serve; sys.exit(sys.version_info < (3, 11))"
        for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
            try:
                tried = subprocess.run(
                    [python, "-c", is_fit], env={"PYTHONPATH": str(folder)}, user=USER, capture_output=True, cwd="/"
                )
            except OSError:
                continue
            if tried.returncode == 0:
                break
        else:
            pytest.skip(f"no Python of this machine can be read by {USER}")
        yield House(python, folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _no_folder_is_left(house: House) -> Iterator[None]:
    yield
    shutil.rmtree(house.folder / "run", ignore_errors=True)


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def ask(server: Server, line: bytes) -> bytes:
    with server.connect() as peer:
        peer.send(line + b"\n")
        return peer.line().removesuffix(b"\n")


def everybody(server: Server) -> list[int]:
    return [server.pid, *server.pids()]


def require_nobody(pid: int) -> None:
    entry, status = pwd.getpwnam(USER), status_of(pid)
    assert status["Uid"] == [str(entry.pw_uid)] * 4
    assert status["Gid"] == [str(entry.pw_gid)] * 4
    assert {int(gid) for gid in status["Groups"]} == set(os.getgrouplist(USER, entry.pw_gid))
    assert {*status["CapPrm"], *status["CapEff"], *status["CapInh"], *status["CapAmb"]} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]


def test_all_processes_are_that_users_and_cannot_go_back(house: House) -> None:
    with house.running("--user", USER, "--umask", "027", "--bind", PLACE, "--bind", "unix:var/s") as server:
        for pid in everybody(server):
            require_nobody(pid)
            assert status_of(pid)["Umask"] == ["0027"]
        assert server.places[0] == PLACE
        uid, home = pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_dir
        assert ask(server, b"who").decode() == repr(((uid,) * 3, [home, USER, USER, None]))
        assert ask(server, b"back").split() == [b"PermissionError"] * 7
        assert (server.folder / "var" / "s").stat().st_mode & 0o777 == 0o750
        with server.connect("unix:var/s") as peer:
            peer.send(b"also there\n")
            assert peer.line() == b"also there\n"
        assert "started as root; the addresses are open, and from here on everything runs as nobody" in server.log
        assert server.stop() == 0
        assert os.listdir(server.folder / "var") == ["empty"]
        assert server.warnings == []


def test_a_socket_may_be_of_another_user_and_stays_so(house: House) -> None:
    """Root makes it, for whom it likes; the server may not even connect to it, and goes on with it all the same."""
    rights = ("--socket-mode", "660", "--socket-owner", "4711:4712")
    with house.running("--user", USER, "--umask", "077", "--bind", "unix:var/s", *rights) as server:
        path = server.folder / "var" / "s"

        def rights_of_it() -> tuple[int, int, int, int]:
            found = path.lstat()
            return found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_ino

        before = rights_of_it()
        assert before[:3] == (0o660, 4711, 4712)
        for signum, generation in ((signal.SIGHUP, 2), (signal.SIGUSR2, 3)):
            since = server.log_length()
            server.send_signal(signum)
            server.wait_for_log(f"generation {generation} serves", 30, since=since)
            with server.connect("unix:var/s") as peer:
                peer.send(b"still\n")
                assert peer.line() == b"still\n"
        assert rights_of_it() == before
        assert server.stop() == 0
        assert os.listdir(server.folder / "var") == ["empty"]
        assert server.warnings == []


def test_whatever_a_server_does_it_does_as_that_user(house: House) -> None:
    """Reload, a dead worker, an upgrade in place, ctl by both who may; the pid file goes at the end."""
    with house.running("--user", USER, "--bind", PLACE, "--pid", "var/pid", "--control", "var/ctl") as server:
        assert (server.folder / "var" / "pid").read_text() == f"{server.pid}\n"
        for user in (None, USER):
            assert f"pid {server.pid}" in house.ctl("status", user=user)
            assert "generation" in house.ctl("reload", user=user)
        os.kill(server.pids()[0], signal.SIGKILL)
        server.wait_for_log("was killed by SIGKILL")
        eventually(lambda: len(server.pids()) == 2)
        since = server.log_length()
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("upgraded from Paceline", 30, since=since)
        server.wait_for_log("generation 4 serves", 30, since=since)
        for user in (None, USER):
            assert f"pid {server.pid}" in house.ctl("status", user=user)
        for pid in everybody(server):
            require_nobody(pid)
        assert ask(server, b"hello") == b"hello"
        assert server.log.count("started as root") == 1
        assert server.stop() == 0
        assert os.listdir(server.folder / "var") == ["empty"]
        assert server.warnings == []


def test_what_cannot_be_removed_is_told_and_harmless(house: House) -> None:
    options = ("--user", USER, "--bind", "unix:s", "--pid", "pid", "--control", "ctl")
    with house.running(*options) as server:
        said = server.wait_for_log("cannot remove")
        for name in ("s", "pid", "ctl"):
            assert str(server.folder / name) in said
        assert (server.folder / "ctl").stat().st_uid == pwd.getpwnam(USER).pw_uid
        assert f"pid {server.pid}" in house.ctl("status", "--control", str(server.folder / "ctl"), user=USER)
        assert server.stop() == 0
        assert (server.folder / "pid").read_text() == ""
        again = subprocess.Popen(
            [house.python, *COMMAND[1:], "serve", "echo", *options],
            cwd=server.folder,
            env=os.environ | house.env,
            stderr=subprocess.PIPE,
        )
        with again:
            assert again.stderr is not None
            assert any(b"listening on" in line for line in iter(again.stderr.readline, b""))
            assert (server.folder / "pid").read_text() == f"{again.pid}\n"
            again.terminate()
            again.stderr.read()
            assert again.wait(15) == 0


def test_workers_end_with_a_supervisor_that_is_killed(house: House) -> None:
    with house.running("--user", USER, exit_code=None) as server:
        workers = server.pids()
        server.process.kill()
        server.wait()
        wait_gone(workers)


def test_without_the_setting_what_a_handler_starts_may_gain_rights(house: House) -> None:
    """`id` with the set-user-ID bit: it runs as root, unless the server forbids it."""
    script = OPENED.replace("exec", 'cp "$(command -v id)" suid && chmod 4755 suid && exec')
    command = ("sh", "-c", script, *house.command[3:])
    for options, uid in ((("--no-new-privs", "off"), 0), ((), pwd.getpwnam(USER).pw_uid)):
        with house.running("--user", USER, *options, command=command) as server:
            assert ask(server, b"suid") == b"%d" % uid


def test_the_log_goes_on_in_a_new_file(house: House) -> None:
    """The file becomes the user's; who rotates it makes the next one as it was, and USR1 finds that."""
    script = OPENED.replace('"$@"', '"$@" 2>>log')
    folder = Path(tempfile.mkdtemp(prefix="paceline-log-"))
    try:
        (folder / "app.py").write_text(APP)
        words = ["serve", "app.py:answer", *LINES, "-b", "unix:s", "--user", USER]
        command = ["sh", "-c", script, *house.command[3:], *words]
        with subprocess.Popen(command, cwd=folder, env=os.environ | house.env, process_group=0) as process:
            log, old = folder / "log", folder / "log.1"
            try:
                eventually(lambda: log.exists() and "listening on" in log.read_text(), 30)
                found = log.stat()
                assert found.st_uid == pwd.getpwnam(USER).pw_uid
                log.rename(old)
                log.touch()
                os.chown(log, found.st_uid, found.st_gid)
                pids = [process.pid, *children_of(process.pid)]
                process.send_signal(signal.SIGUSR1)
                eventually(lambda: all(os.readlink(f"/proc/{pid}/fd/2") == str(log) for pid in pids))
                process.terminate()
                assert process.wait(15) == 0
            finally:
                process.kill()
        assert "stopped after" in log.read_text()
        assert "stopped after" not in old.read_text()
    finally:
        shutil.rmtree(folder)


def test_settings_that_the_user_may_not_read_are_told_of_at_the_start(house: House) -> None:
    script = OPENED.replace("exec", "chmod 600 c.toml && exec")
    files = {"app.py": APP, "c.toml": f'user = "{USER}"\nframing = "line"\nworkers = 1'}
    command = ("sh", "-c", script, *house.command[3:])
    with running("app.py:answer", "--config", "c.toml", files=files, env=house.env, command=command) as server:
        server.wait_for_log("cannot read c.toml, where settings come from: reloads are refused until that user may")
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("the reload is refused and nothing has changed: ")
        (server.folder / "c.toml").chmod(0o644)
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 2 serves")
        assert ask(server, b"hello") == b"hello"


def test_nothing_gains_rights_whoever_serves(house: House) -> None:
    with house.running("--user", "root", "--no-new-privs", "on") as server:
        assert [status_of(pid)["NoNewPrivs"] for pid in everybody(server)] == [["1"]] * 3


# Starts that are refused, and checks


def refused(ended: Ended, code: int) -> str:
    assert (ended.code, ended.output) == (code, ""), ended.log
    (paragraph,) = paragraphs_of(ended.log)
    return paragraph.removeprefix("paceline: ").rstrip()


def test_who_may_not_become_another_user_is_told_what_to_do(house: House) -> None:
    as_user = ("setpriv", "--reuid", USER, "--regid", GROUP, "--clear-groups", house.python, *COMMAND[1:])
    for words in (("--check",), ("-b", "127.0.0.1:0")):
        said = refused(run_to_end("serve", "--user", "daemon", *words, env=house.env, command=as_user), 3)
        assert said.startswith("--user daemon: only root may become another user, and this is uid 65534, without CAP_")
        assert said.endswith("start as root, or as daemon (uid 1, gid 1) at once, or leave --user and --group out")


def test_root_without_capabilities_is_told_the_same() -> None:
    command = (*UNPRIVILEGED, *COMMAND)
    said = refused(run_to_end("serve", "--user", USER, "-b", "127.0.0.1:0", command=command), 3)
    assert "and this is uid 0, without CAP_SETGID and CAP_SETUID" in said


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare(1) begins the namespace")
def test_a_namespace_that_does_not_know_the_user() -> None:
    """As in a container without root of the machine: all capabilities are there, and one user."""
    command = ("unshare", "-r", *COMMAND)
    said = refused(run_to_end("serve", "--user", USER, "-b", "127.0.0.1:0", command=command), 3)
    assert said.startswith("--user nobody: cannot become nobody (uid 65534, gid 65534): ")
    assert "its user namespace must know these numbers" in said


def test_a_user_who_cannot_read_paceline_is_found_before_anything_is_opened() -> None:
    closed = Path(tempfile.mkdtemp(prefix="paceline-closed-"))
    try:
        shutil.copytree(Path(paceline.__file__).parent, closed / "paceline")
        words = ("serve", "--user", USER, "-b", "127.0.0.1:0", "--pid", "pid")
        said = refused(run_to_end(*words, env={"PYTHONPATH": str(closed)}), 3)
        assert said.startswith(f"--user {USER}: nobody (uid 65534, gid 65534) cannot read {closed}")
        assert "outside of private folders such as /root" in said
    finally:
        shutil.rmtree(closed)


def test_a_user_that_there_is_not() -> None:
    said = refused(run_to_end("serve", "--user", "nobodi", "--check"), 2)
    assert said == (
        "--user nobodi: must be a user of this machine, and there is none of that name; did you mean nobody?"
    )
    said = refused(run_to_end("serve", "--user", "nobody", "--group", "nogrupp", "--check"), 2)
    assert said == (
        "--group nogrupp: must be a group of this machine, and there is none of that name; did you mean nogroup?"
    )
    assert "a number has no group" in refused(run_to_end("serve", "--user", "123456", "--check"), 2)


def test_a_check_loads_the_target_as_that_user(house: House) -> None:
    files = {"app.py": "import os\nassert os.getresuid() == (65534,) * 3\ndef answer(line): return line"}
    words = ("serve", "app.py:answer", "--user", USER, "--check")
    ended = run_to_end(*words, files=files, env=house.env, command=house.command)
    assert (ended.code, ended.log) == (0, "")


def test_who_is_that_user_already_has_nothing_to_do(house: House) -> None:
    before = ("setpriv", "--reuid", USER, "--regid", GROUP, "--clear-groups")
    command = ("sh", "-c", OPENED.replace("exec", f"exec {' '.join(before)}"), *house.command[3:])
    env = house.env | {"PACELINE_RUNTIME_DIR": "off"}
    with house.running("--user", USER, "--control", "off", command=command, env=env) as server:
        assert ask(server, b"who").startswith(b"((65534, 65534, 65534)")
        assert [status_of(pid)["NoNewPrivs"] for pid in everybody(server)] == [["1"]] * 3
        assert "started as" not in server.log
        assert server.warnings == []


# Root


def test_root_is_kept_only_aloud() -> None:
    with running("echo") as server:
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 2 serves")
        assert (
            server.log.count("run as root (uid 0): whoever finds a hole in the handler has all of it; give --user") == 1
        )
    with running("echo", "--user", "root") as server:
        assert " warning " not in server.log
