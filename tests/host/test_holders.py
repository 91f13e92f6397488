"""Finding out who holds a port or a path: the tables as the kernel writes them, and the real ones."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from paceline.host import holders
from paceline.host.holders import THIS_PROCESS, bound_to, holder_of_path, holder_of_port, listening_on

pytestmark = pytest.mark.usefixtures("nothing_left")

needs_little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the table is from such a machine")

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 333 1 0 20 4 30 10 -1
   3: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 444 1 0 100 0 0 10 0
   4: 02
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 7 0 555 1
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 0:0 00:0 0 7 0 666 1
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 0:0 00:0 0 7 0 777 1
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
ffff8881: 00000003 00000000 00000000 0001 03 11 /run/s
ffff8882: 00000002 00000000 00010000 0001 01 22 /run/s
ffff8883: 00000002 00000000 00010000 0001 01 33 /run/with a space
ffff8884: 00000002 00000000 00000000 0002 01 44
ffff8885: 00000002 00000000 00010000 0001 01 55 @abstract
"""


@needs_little_endian
@pytest.mark.parametrize(
    ("table", "host", "port", "found"),
    [
        (TCP, "127.0.0.1", 8080, [(111, 1000)]),
        (TCP, "127.0.0.2", 8080, [(444, 1000)]),
        (TCP, "127.0.0.3", 8080, []),
        (TCP, "0.0.0.0", 8080, [(111, 1000), (444, 1000)]),
        (TCP, "::", 8080, [(111, 1000), (444, 1000)]),
        (TCP, "192.0.2.1", 80, [(222, 0)]),
        (TCP, "127.0.0.1", 54321, []),
        (TCP6, "127.0.0.1", 8080, [(555, 7)]),
        (TCP6, "::1", 8081, [(666, 7)]),
        (TCP6, "::2", 8081, []),
        (TCP6, "127.0.0.1", 8082, [(777, 7)]),
        ("", "127.0.0.1", 80, []),
    ],
)
def test_who_listens_by_the_table(table: str, host: str, port: int, found: list[tuple[int, int]]) -> None:
    assert list(listening_on(table, host, port)) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("s", [(22, "/run/s"), (11, "/run/s")]),
        ("with a space", [(33, "/run/with a space")]),
        ("/run/s", []),
        ("space", []),
        ("abstract", []),
        ("@abstract", []),
        ("", []),
    ],
)
def test_who_is_bound_by_the_table(path: str, found: list[tuple[int, str]]) -> None:
    assert list(bound_to(UNIX, path)) == found


def test_the_real_tables(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        port = tcp.getsockname()[1]
        assert holder_of_port("127.0.0.1", port) == THIS_PROCESS
        assert holder_of_port("127.0.0.2", port) is None
        unix.bind(f"{tmp_path}/s")
        assert holder_of_path(f"{tmp_path}/s") == THIS_PROCESS
        assert holder_of_path(f"{tmp_path}/t") is None


BIND = """
import os, socket, sys
os.chdir(sys.argv[1])
bound = socket.socket(socket.AF_UNIX)
bound.bind(sys.argv[2])
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("written", ["s", "./s", "../a/s", "{}/a/s"])
def test_a_path_is_the_same_however_somebody_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """And another one of the same text is another one: it is relative to its own process's folder."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    words = [sys.executable, "-c", BIND, str(tmp_path / "a"), written.format(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for folder, paths in (
            (tmp_path / "a", ("s", "./s", "../a/s", f"{tmp_path}/a/s")),
            (tmp_path / "b", ("../a/s",)),
        ):
            monkeypatch.chdir(folder)
            for path in paths:
                assert str(holder_of_path(path)).endswith(f"(pid {holder.pid})")
        assert holder_of_path("s") is holder_of_path(f"{tmp_path}/b/s") is holder_of_path("/no/such/s") is None
        holder.communicate(b"")


def test_a_process_that_may_not_be_looked_into_is_named_by_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_process_with", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert holder_of_port("127.0.0.1", tcp.getsockname()[1]) == f"a process of uid {os.getuid()}"


def test_the_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_MOST_LINKS", 0)
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert holder_of_port("127.0.0.1", tcp.getsockname()[1]) == f"a process of uid {os.getuid()}"


def test_without_proc_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_read", lambda _: "")
    assert holder_of_port("127.0.0.1", 80) is None
    assert holder_of_path("/run/s") is None
