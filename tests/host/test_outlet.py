"""Standard error of every kind: taken at once or dropped, never waited for, whole lines."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import HostError
from paceline.host.outlet import Outlet, give_file

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def outlets() -> Iterator[Callable[[int], Outlet]]:
    """Opens outlets; in the end they are closed and no descriptor is left."""
    before = set(os.listdir("/proc/self/fd"))
    opened: list[Outlet] = []

    def open_outlet(fd: int) -> Outlet:
        opened.append(Outlet.open(fd))
        return opened[-1]

    yield open_outlet
    for outlet in opened:
        outlet.close()
    assert set(os.listdir("/proc/self/fd")) <= before


@contextlib.contextmanager
def closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)


def put_until_refused(outlet: Outlet, record: bytes) -> int:
    for taken in range(100_000):
        if not outlet.put_nowait(record):
            return taken
    raise AssertionError("never full")


def drain(fd: int) -> bytes:
    """Everything that waits in a pipe or terminal."""
    os.set_blocking(fd, False)
    chunks = []
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
    return b"".join(chunks)


def refuse_to_open_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a pipe that belongs to another user; root may open everything, so it is acted."""
    real = os.open

    def refusing(path: Any, *args: Any, **options: Any) -> int:
        if str(path).startswith("/proc/self/fd/"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", refusing)


def refuse_nowait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older kernel."""

    def unknown(*args: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", unknown)


# pipes and terminals, three ways


@pytest.mark.parametrize("way", ["again", "nowait", "poll"])
@pytest.mark.parametrize("make", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_full_means_dropped_and_counted_then_it_goes_on(
    way: str, make: Callable[[], tuple[int, int]], outlets: Callable[[int], Outlet], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = make()
    with closing(reader, writer):
        if way != "again":
            refuse_to_open_again(monkeypatch)
        if way == "poll":
            refuse_nowait(monkeypatch)
        outlet = outlets(writer)
        assert outlet.is_terminal == (make is os.openpty)
        put_until_refused(outlet, LINE)
        assert not outlet.put_nowait(LINE)
        assert outlet.dropped == 2
        assert os.get_blocking(writer), "what others share must not change"
        for _ in range(100):  # a terminal gives its buffer back bit by bit
            drain(reader)
            if outlet.put_nowait(LINE):
                break
        assert outlet.take_untold() == outlet.dropped >= 2
        assert outlet.take_untold() == 0
        assert drain(reader).replace(b"\r\n", b"\n").endswith(LINE)


@pytest.mark.parametrize("way", ["again", "nowait", "poll"])
def test_a_pipe_takes_a_record_of_pipe_buf_whole_or_not_at_all(
    way: str, outlets: Callable[[int], Outlet], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        if way != "again":
            refuse_to_open_again(monkeypatch)
        if way == "poll":
            refuse_nowait(monkeypatch)
        outlet = outlets(writer)
        record = b"y" * (select.PIPE_BUF - 1) + b"\n"
        taken = put_until_refused(outlet, record)
        assert taken > 1
        assert drain(reader) == record * taken


def test_a_long_record_breaks_only_between_lines(outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        outlet = outlets(writer)
        record = b"".join(b"%06d %s\n" % (n, b"z" * 60) for n in range(2_000))  # twice a pipe
        assert not outlet.put_nowait(record)
        got = drain(reader)
        assert len(got) > select.PIPE_BUF
        assert got.endswith(b"\n")
        assert record.startswith(got)
        assert outlet.put_nowait(LINE)
        assert drain(reader) == LINE


def test_after_a_torn_line_the_next_record_begins_on_a_new_one(outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        outlet = outlets(writer)
        endless = b"e" * 1_000_000 + b"\n"
        assert not outlet.put_nowait(endless)
        assert set(drain(reader)) == {ord("e")}
        assert outlet.put_nowait(LINE)
        assert outlet.put_nowait(LINE)
        assert drain(reader) == b"\n" + LINE + LINE
        assert outlet.dropped == 1


@pytest.mark.parametrize("gone", ["before", "after"])
def test_a_pipe_without_a_reader_costs_the_lines_only(gone: str, outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        if gone == "before":
            os.close(reader)
        outlet = outlets(writer)
        if gone == "after":
            os.close(reader)
        assert not outlet.put_nowait(LINE)
        assert outlet.dropped == 1


def test_the_master_side_of_a_terminal_is_not_opened_again(outlets: Callable[[int], Outlet]) -> None:
    master, slave = os.openpty()
    with closing(master, slave):
        import tty

        tty.setraw(slave)
        assert outlets(master).put_nowait(LINE)
        assert os.read(slave, 200) == LINE


CONTROLLING = """
import os, sys
os.login_tty(0)  # fd 0 is a terminal: it becomes ours, and 1 and 2 too
real = os.open
def refusing(path, *args):
    if path.startswith("/proc/self/fd/"):
        raise PermissionError
    return real(path, *args)
os.open = refusing
from paceline.host.outlet import Outlet, give_file
outlet = Outlet.open(2)
while outlet.put_nowait(b"x" * 99 + b"\\n"):
    pass
sys.exit(0 if os.get_blocking(2) and outlet._way.fd != 2 and not os.get_blocking(outlet._way.fd) else 1)
"""


def test_a_controlling_terminal_of_another_user_is_opened_as_dev_tty() -> None:
    master, slave = os.openpty()
    with closing(master, slave):
        child = subprocess.Popen([sys.executable, "-c", CONTROLLING], stdin=slave, start_new_session=True)
        assert child.wait(timeout=30) == 0, drain(master)


# sockets, files, devices, nothing


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_is_sent_to_without_waiting(kind: socket.SocketKind, outlets: Callable[[int], Outlet]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        outlet = outlets(ours.fileno())
        assert outlet.put_nowait(LINE)
        assert theirs.recv(1000) == LINE
        put_until_refused(outlet, LINE)
        assert outlet.dropped == 1
        assert os.get_blocking(ours.fileno()), "what others share must not change"
        theirs.close()
        assert not outlet.put_nowait(LINE)


def test_several_writers_of_one_file_do_not_overwrite_each_other(
    outlets: Callable[[int], Outlet], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)  # as by `2>log`: no O_APPEND
    with closing(fd):
        first, second = outlets(fd), outlets(fd)
        os.write(fd, b"shell\n")
        assert first.put_nowait(b"first\n")
        os.write(fd, b"child\n")
        assert second.put_nowait(b"second\n")
        assert path.read_bytes() == b"shell\nfirst\nchild\nsecond\n"
        os.truncate(path, 0)  # by whoever rotates it
        assert first.put_nowait(b"new\n")
        assert path.read_bytes() == b"new\n"


def test_a_deleted_file_goes_on_being_written(outlets: Callable[[int], Outlet]) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        assert outlets(file.fileno()).put_nowait(LINE)
        assert os.pread(file.fileno(), 200, 0) == LINE


def test_a_full_disk_costs_the_lines_only(outlets: Callable[[int], Outlet]) -> None:
    full, null = os.open("/dev/full", os.O_WRONLY), os.open(os.devnull, os.O_WRONLY)
    with closing(full, null):
        outlet = outlets(full)
        assert not outlet.put_nowait(LINE)
        assert not outlet.put_nowait(LINE, told=1)
        assert (outlet.dropped, outlet.take_untold()) == (2, 3)
        assert outlets(null).put_nowait(LINE)


def test_a_file_cut_by_its_limit_is_gone_on_with_on_a_new_line(
    outlets: Callable[[int], Outlet], tmp_path: Path
) -> None:
    import resource

    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(fd):
        outlet = outlets(fd)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
        try:
            assert outlet.put_nowait(LINE)
            assert not outlet.put_nowait(LINE)  # half of it
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert outlet.put_nowait(LINE)
        assert path.read_bytes() == LINE + LINE[:50] + b"\n" + LINE


def test_what_is_not_open_takes_nothing(outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    outlet = outlets(writer)
    assert not outlet.put_nowait(LINE)
    assert not outlet.is_terminal
    assert outlet.dropped == 1


CLOSED = """
import os, socket, subprocess, sys
from paceline.host.outlet import Outlet, give_file
outlet = Outlet.open(2)
client, ours = socket.socketpair()
assert min(client.fileno(), ours.fileno()) > 2, "a connection got a standard number"
assert not outlet.put_nowait(b"lost\\n")
assert outlet.dropped == 1
os.write(2, b"nowhere\\n")
child = subprocess.run(["sh", "-c", "test -e /proc/self/fd/2 && echo open"], stdout=ours, check=True)
sys.exit(0 if client.recv(100) == b"open\\n" else 1)
"""


def test_closed_standard_descriptors_are_taken_before_a_client_gets_their_numbers() -> None:
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-c", CLOSED]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_our_descriptors_are_not_standard_ones_and_not_inherited(outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    saved = os.dup(0)
    with closing(reader, writer, saved):
        before = set(os.listdir("/proc/self/fd"))
        os.close(0)
        try:
            outlet = outlets(writer)
            assert os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev
        finally:
            os.dup2(saved, 0)
        (own,) = {int(fd) for fd in os.listdir("/proc/self/fd")} - {int(fd) for fd in before}
        assert own > 2
        assert not os.get_inheritable(own)
        assert outlet.put_nowait(LINE)


def test_without_descriptors_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*args: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    with pytest.raises(HostError, match="ulimit -n") as caught:
        Outlet.open(2)
    assert caught.value.exit_code == 3


# lines without their end, counts, fork


def test_a_line_without_its_end_is_ended_before_somebody_elses(outlets: Callable[[int], Outlet]) -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        outlet = outlets(writer)
        for record, by in [(b"a", "A"), (b"a", "A"), (b"b\n", "B"), (b"b", "B"), (b"log\n", None), (b"a\n", "A")]:
            assert outlet.put_nowait(record, by)
        assert drain(reader) == b"aa\nb\nb\nlog\na\n"


def test_a_share_has_counts_of_its_own(outlets: Callable[[int], Outlet]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with closing(full):
        outlet = outlets(full)
        outlet.put_nowait(LINE)
        share = outlet.share()
        assert (share.dropped, share.take_untold()) == (0, 0)
        assert not share.put_nowait(LINE)
        assert (outlet.dropped, share.dropped) == (1, 1)


def test_closed_it_drops(outlets: Callable[[int], Outlet]) -> None:
    outlet = outlets(2)
    outlet.close()
    outlet.close()
    assert not outlet.put_nowait(LINE)


FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads: what handlers do
from paceline.host.outlet import Outlet, give_file
outlet = Outlet.open(2)
held, done = threading.Event(), threading.Event()
def hold():
    with outlet.lock:
        held.set()
        done.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
pid = os.fork()
if not pid:
    os._exit(0 if outlet.put_nowait(b"from the child\\n") else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
done.set()
holder.join()
sys.exit(code)
"""


def test_a_fork_while_another_thread_writes_does_not_leave_the_lock_held() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], timeout=30, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"from the child\n")


PROCESSES = """
import os
from paceline.host.outlet import Outlet, give_file
outlet = Outlet.open(2)
pids = []
for name in b"abcd":
    pid = os.fork()
    if not pid:
        share = outlet.share()
        whole = [share.put_nowait(bytes([name]) * length + b"\\n") for length in range(1, 2_000, 41)]
        os._exit(0 if all(whole) else 1)
    pids.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
"""


@pytest.mark.parametrize("to", ["file", "pipe"])
def test_the_lines_of_several_processes_stay_whole(to: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        command = [sys.executable, "-c", PROCESSES]
        if to == "pipe":
            roomier = f"import fcntl; fcntl.fcntl(2, {fcntl.F_SETPIPE_SZ}, 1 << 20)\n"
            command[-1] = roomier + PROCESSES
            done = subprocess.run(command, timeout=30, check=False, stderr=subprocess.PIPE)
            assert done.returncode == 0, done.stderr[-1000:]
            file.write(done.stderr)
        else:
            assert subprocess.run(command, timeout=30, check=False, stderr=file).returncode == 0
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == sorted(bytes([name]) * length for name in b"abcd" for length in range(1, 2_000, 41))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_roots_is_given_away_and_nothing_else(tmp_path: Path) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    for name, uid in ((path, 0), (other, 4321)):
        name.touch()
        name.chmod(0o640)
        os.chown(name, uid, 99)
        with name.open("ab") as file:
            give_file(1234, file.fileno())
            give_file(1234, file.fileno())
    assert [(found.st_uid, found.st_gid, found.st_mode & 0o777) for found in (path.stat(), other.stat())] == [
        (1234, 99, 0o640),
        (4321, 99, 0o640),
    ]
    linked = tmp_path / "linked"
    linked.touch()
    os.link(linked, tmp_path / "by another name")
    with linked.open("ab") as file:
        give_file(1234, file.fileno())
    assert linked.stat().st_uid == 0
    secret = tmp_path / "secret"
    secret.touch()
    with secret.open("rb") as file:
        give_file(1234, file.fileno())
    assert secret.stat().st_uid == 0, "whoever only reads it writes no log there"
    before = os.stat("/dev/null").st_uid
    with open("/dev/null", "ab") as nowhere:
        give_file(1234, nowhere.fileno())
    assert os.stat("/dev/null").st_uid == before
    give_file(1234, 9999)
