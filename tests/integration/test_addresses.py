"""Addresses of every kind in one server: each is served, says what it is, and stays; or nothing of any is left."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leftovers import eventually
from peer import Peer
from testbed import COMMAND, Ended, Server, running

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")

APP = {
    "app.py": """
    def where(line, connection):
        who = connection.credentials
        return f"{line.decode()} {connection.listener} {who and who.uid}".encode()

    def whole(conn):
        who = conn.credentials
        while line := conn.recv(100):
            conn.sendall(f"{line.decode().rstrip()} {conn.listener} {who and who.uid}\\n".encode())
    """
}
LINES = ("--framing", "line", "--workers", "2")


@contextmanager
def inherited(place: str | None = None) -> Iterator[socket.socket]:
    """A listening socket of somebody else's."""
    if place is None:
        with socket.create_server(("127.0.0.1", 0)) as made:
            yield made
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(place)
            made.listen()
            yield made


def ask(peer: Peer, line: str = "x") -> str:
    peer.send(f"{line}\n".encode())
    return peer.line().decode().rstrip("\n")


def uid_of(place: str) -> int | None:
    return os.geteuid() if place.startswith("unix:") else None


# all of them


@pytest.mark.parametrize("target", ["where", "whole"])
def test_each_is_served_and_says_which_it_is(target: str) -> None:
    options = ("--as", "connection", "--workers", "2") if target == "whole" else LINES
    with inherited() as one:
        binds = ("--bind", "127.0.0.1:0", "-b", "[::1]:0", "-b", "unix:s", "-b", f"fd://{one.fileno()}", "-b:0")
        with running(f"app.py:{target}", *options, *binds, files=APP, pass_fds=[one.fileno()]) as server:
            ports = [place.rpartition(":")[2] for place in server.places]
            assert server.places == [
                f"127.0.0.1:{ports[0]}",
                f"[::1]:{ports[1]}",
                "unix:s",
                f"127.0.0.1:{one.getsockname()[1]}",
                f"[::]:{ports[4]}",
            ]
            for place in server.places:
                with server.connect(place) as peer:
                    assert ask(peer) == f"x {place} {uid_of(place)}"
            with server.connect(f"127.0.0.1:{ports[4]}") as peer:
                assert ask(peer) == f"x [::]:{ports[4]} None", "the same one, by IPv4"
            file = server.folder / "s"
            assert server.stop() == 0
            assert not file.exists()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), "its owner still has it"


def test_they_stay_through_a_reload_and_an_upgrade() -> None:
    with inherited() as one:
        binds = ("--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", "unix:s", "--bind", f"fd://{one.fileno()}")
        rights = ("--socket-mode", "660", "--socket-owner", f"{os.geteuid()}:{os.getegid()}")
        with running("app.py:where", *LINES, *binds, *rights, files=APP, pass_fds=[one.fileno()]) as server:
            peers = {place: server.connect(place) for place in server.places}
            file, kept = os.lstat(server.folder / "s"), server.places
            assert file.st_mode & 0o777 == 0o660
            for number, (signum, generation) in enumerate(
                ((signal.SIGHUP, 2), (signal.SIGUSR2, 3), (signal.SIGHUP, 4))
            ):
                since = server.log_length()
                for peer in peers.values():
                    peer.send(b"half ")
                server.send_signal(signum)
                server.wait_for_log(f"generation {generation} serves", 30, since=since)
                for place, peer in peers.items():
                    assert ask(peer, f"{number}") == f"half {number} {place} {uid_of(place)}"
                    with server.connect(place) as other:
                        assert ask(other) == f"x {place} {uid_of(place)}"
            now = os.lstat(server.folder / "s")
            assert (now.st_ino, now.st_mode, now.st_uid) == (file.st_ino, file.st_mode, file.st_uid)
            assert server.places == kept
            assert server.warnings == []
            assert server.stop() == 0
            assert sorted(os.listdir(server.folder)) == ["app.py"]


def test_rights_cannot_change_without_a_restart() -> None:
    files = {**APP, "paceline.toml": 'bind = "unix:s"\nsocket_mode = "660"\n'}
    with running("app.py:where", *LINES, "--bind", "unix:s", files=files) as server:
        (server.folder / "paceline.toml").write_text('bind = "unix:s"\nsocket_mode = "666"\n')
        for signum in (signal.SIGHUP, signal.SIGUSR2):
            since = server.log_length()
            server.send_signal(signum)
            said = server.wait_for_log("only a restart can", 30, since=since)
            assert "socket_mode" in said
        assert (server.folder / "s").stat().st_mode & 0o777 == 0o660


# what is said


def test_both_families_are_said_in_words_wherever_people_read(tmp_path: Path) -> None:
    env = {"PACELINE_RUNTIME_DIR": str(tmp_path / "run")}
    binds = ("--bind", ":0", "--bind", "[::]:0", "--bind", "0.0.0.0:0", "--bind", "127.0.0.1:0", "--bind", "unix:s")
    with running("app.py:where", *LINES, *binds, files=APP, env=env) as server:
        both, six, four, loopback, unix = server.places
        words = ["IPv4 and IPv6", "IPv6 only", "IPv4 only", "", ""]
        spoken = f"{both} (IPv4 and IPv6), {six} (IPv6 only), {four} (IPv4 only), {loopback}, {unix}"
        assert f"listening on {spoken} · 2 workers" in server.log

        def told(*more: str) -> str:
            done = subprocess.run(
                [*COMMAND, "ctl", "status", *more], env=os.environ | env, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        for generation in (1, 2):
            assert told().replace("\n", " ").startswith(f"{spoken} · app.py:where · generation {generation}")
            record = json.loads(told("--json"))
            assert (record["addresses"], record["families"]) == (server.places, words)
            if generation == 1:
                since = server.log_length()
                server.send_signal(signal.SIGUSR2)
                server.wait_for_log("generation 2 serves", 30, since=since)


def test_programs_that_read_the_log_find_addresses() -> None:
    with running("app.py:where", *LINES, "--bind", ":0", "--log-format", "json", files=APP) as server:
        (record,) = [json.loads(line) for line in server.log.splitlines() if '"listening"' in line]
        assert re.fullmatch(r"\[::\]:\d+", record["addresses"])
        assert record["text"].startswith(f"listening on {record['addresses']} (IPv4 and IPv6) · ")


# one that cannot be had


def refused(folder: Path, *options: str, code: int = 3, fds: tuple[int, ...] = ()) -> str:
    """What a server says that does not start; nothing new may lie in its folder, and no process be left."""
    before = {name: os.lstat(folder / name) for name in os.listdir(folder)}
    words = [*COMMAND, "serve", "echo", *options]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=30, pass_fds=fds, check=False)
    assert done.returncode == code, done.stderr
    assert "listening on" not in done.stderr
    after = {name: os.lstat(folder / name) for name in os.listdir(folder)}
    assert before.keys() == after.keys()
    for name, found in before.items():
        assert (found.st_ino, found.st_mode) == (after[name].st_ino, after[name].st_mode)
    return done.stderr


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert len(str(tmp_path)) < 90, "the paths of this machine's temporary folders are too long for a socket"
    return tmp_path


@pytest.mark.parametrize("is_last", [True, False])
def test_a_port_that_is_taken_takes_the_others_with_it(folder: Path, is_last: bool) -> None:
    with inherited() as taken, inherited() as one, inherited(str(folder / "live")):
        port = f"127.0.0.1:{taken.getsockname()[1]}"
        binds = ["[::1]:0", "unix:s", "unix:t", f"fd://{one.fileno()}"]
        binds.insert(len(binds) if is_last else 0, port)
        options = [word for bind in binds for word in ("--bind", bind)]
        said = refused(folder, *options, "--socket-mode", "666", "--pid", "p", fds=(one.fileno(),))
        assert f"cannot listen on {port}: " in said
        assert f"(pid {os.getpid()})" in said
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_a_live_socket_is_named_and_the_dead_one_beside_it_is_not_lost(folder: Path) -> None:
    """What was dead and was replaced is gone: it was nobody's.  What is alive is not touched."""
    with inherited(str(folder / "live")) as live:
        said = refused(folder, "--bind", "unix:new", "--bind", "127.0.0.1:0", "--bind", "unix:live")
        assert said.startswith("paceline: cannot listen on unix:live: ")
        assert f"(pid {os.getpid()}) serves there" in said
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / "live"))
            live.accept()[0].close()


def test_the_same_place_twice_is_refused_however_it_is_written(folder: Path) -> None:
    assert "unix:./s: another of the addresses to be served is the same" in refused(
        folder, "--bind", "unix:s", "--bind", "unix:./s"
    )
    with inherited() as one:
        port = one.getsockname()[1]
        said = refused(folder, "--bind", f"fd://{one.fileno()}", "--bind", f":{port}", fds=(one.fileno(),))
        assert f"cannot listen on :{port}: " in said


def test_one_socket_by_two_descriptors_is_refused(folder: Path) -> None:
    with inherited() as one, one.dup() as two:
        numbers = (one.fileno(), two.fileno())
        said = refused(folder, *(f"--bind=fd://{number}" for number in numbers), fds=numbers)
        assert f"cannot listen on fd://{numbers[1]}: it is the same socket as fd://{numbers[0]}; leave one of" in said


def test_an_inherited_one_whose_file_is_gone_says_that_nobody_can_connect(folder: Path) -> None:
    with inherited(str(folder / "gone")) as one:
        (folder / "gone").unlink()
        with running(
            "echo", "--bind", "127.0.0.1:0", "--bind", f"fd://{one.fileno()}", pass_fds=[one.fileno()]
        ) as server:
            assert f", unix:{folder}/gone (its file is gone: nobody can connect) · " in server.log


def test_dead_sockets_are_replaced_beside_all_the_others() -> None:
    with inherited() as one:
        binds = ("--bind", "127.0.0.1:0", "--bind", "unix:s", "--bind", f"fd://{one.fileno()}")
        script = 'python=$1; "$python" -c "import socket; socket.socket(socket.AF_UNIX).bind(\'s\')"; exec "$@"'
        command = ("sh", "-c", script, "sh", *COMMAND)
        with running(
            "app.py:where", *LINES, *binds, "--socket-mode", "600", files=APP, pass_fds=[one.fileno()], command=command
        ) as server:
            assert (server.folder / "s").stat().st_mode & 0o777 == 0o600
            with server.connect("unix:s") as peer:
                assert ask(peer) == f"x unix:s {os.geteuid()}"


def test_rights_without_a_file_are_refused(folder: Path) -> None:
    for option, value in (("--socket-mode", "660"), ("--socket-owner", "root")):
        said = refused(folder, "--bind", "127.0.0.1:0", option, value, code=2)
        assert said.startswith(f"paceline: {option} {value}: no address to be served is a Unix socket whose file ")
    with inherited(str(folder / "theirs")) as one:
        said = refused(folder, "--bind", f"fd://{one.fileno()}", "--socket-mode", "660", code=2, fds=(one.fileno(),))
        assert "the files of inherited ones are their owner's" in said


def test_rights_that_cannot_be_had_leave_nothing(folder: Path) -> None:
    assert "--socket-owner nobodi: must be a user of this machine" in refused(
        folder, "--bind", "unix:s", "--socket-owner", "nobodi", code=2
    )
    said = refused(folder, "--bind", "unix:s", "--socket-mode", "640", code=2)
    assert said.startswith("paceline: --socket-mode 640: must be octal digits 0, 2, 3, 6 and 7, ")
    assert "(who connects needs the right to write)" in said
    dead_socket(folder / "dead")
    where = folder / "where"
    where.mkdir()
    said = refused(folder, "--bind", "unix:where/no/s", "--bind", "unix:dead", "--socket-mode", "660")
    assert "the folder where/no does not exist; make it first" in said


# who may connect

SCRIPT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
code = client.connect_ex(sys.argv[1])
if code:
    sys.exit(code)
client.sendall(b"me\\n")
print(client.makefile().readline(), end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_only_those_connect_who_may_and_each_is_known() -> None:
    import errno
    import pwd

    nobody = pwd.getpwnam("nobody")

    def tried(server: Server, uid: int, gid: int) -> Ended:
        words = ["/usr/bin/env", "python3", "-c", SCRIPT, f"{server.folder}/s"]
        done = subprocess.run(
            words, user=uid, group=gid, extra_groups=[], capture_output=True, text=True, timeout=20, cwd="/"
        )
        if done.returncode in (126, 127):
            pytest.skip("no Python of this machine can be run by everybody")
        return Ended(done.returncode, done.stdout, done.stderr)

    opened = ("sh", "-c", 'chmod 755 . && exec "$@"', "sh", *COMMAND)
    rights = ("--socket-mode", "620", "--socket-owner", f"nobody:{nobody.pw_gid + 1 & 0xFFFF}")
    with running("app.py:where", *LINES, "--bind", "unix:s", *rights, files=APP, command=opened) as server:
        group = nobody.pw_gid + 1 & 0xFFFF
        found = (server.folder / "s").stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o620, nobody.pw_uid, group)
        assert tried(server, nobody.pw_uid, 9).output == f"me unix:s {nobody.pw_uid}\n"
        assert tried(server, 4711, group).output == "me unix:s 4711\n"
        assert tried(server, 4711, 9).code == errno.EACCES
    eventually(lambda: not server.folder.exists())
