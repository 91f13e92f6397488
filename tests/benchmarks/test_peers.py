"""Each peer starts, answers rightly in each of its ways, and ends when it is told to, leaving nothing."""

import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from benchmarks.certificate import filled_in
from benchmarks.measure import START_S, wait_ready, words_of
from benchmarks.readings import group_members
from benchmarks.running import Program
from benchmarks.terms import CERTIFICATE, KEY

CORES = os.sched_getaffinity(0)
WAIT_S = 10.0


def peer(*words: str, needs: str = "") -> object:
    """A parameter of a test: the peer's words."""
    missing = bool(needs) and find_spec(needs) is None
    mark = pytest.mark.skipif(missing, reason=f"needs {needs}: pip install -e '.[benchmarks]'")
    return pytest.param(words, id=" ".join(words), marks=mark)


@contextlib.contextmanager
def served(*words: str) -> Iterator[int]:
    """The port of a peer; it ends as it should."""
    with Program(words_of(("peer", *words)), CORES) as program:
        yield wait_ready(program).port
        assert program.end() == 0, "processes were left"
    assert group_members(program.pid) == []


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WAIT_S)


def received(connection: socket.socket, size: int) -> bytes:
    reply = b""
    while len(reply) < size and (piece := connection.recv(size - len(reply))):
        reply += piece
    return reply


RAW = [
    peer("asyncio_protocol", "HANDLER"),
    peer("asyncio_protocol", "HANDLER", "buffered"),
    peer("asyncio_streams", "HANDLER"),
    peer("asyncio_streams", "HANDLER", "raw"),
    peer("gevent_server", "HANDLER", "raw", needs="gevent"),
    peer("plain_loop", "HANDLER"),
    peer("selector_executor", "HANDLER", "raw"),
    peer("selector_executor", "HANDLER", "raw", "2"),
    peer("socketserver_threads", "HANDLER", "raw"),
    peer("thread_per_connection", "HANDLER"),
    peer("thread_pool", "HANDLER"),
    peer("uvloop_protocol", "HANDLER", needs="uvloop"),
]
LINES = [
    peer("asyncio_streams", "upper", "lines"),
    peer("gevent_server", "upper", "lines", needs="gevent"),
    peer("selector_executor", "upper", "lines"),
    peer("socketserver_threads", "upper", "lines"),
    *(peer("uvloop_lines", "upper", way, needs="uvloop") for way in ("each", "joined", "inlined")),
]
SEVERAL_AT_ONCE = [
    peer("asyncio_streams", "gated", "threads"),
    peer("gevent_server", "gated", "raw", needs="gevent"),
    peer("selector_executor", "gated", "raw"),
    peer("socketserver_threads", "gated", "raw"),
    peer("thread_per_connection", "gated"),
    peer("thread_pool", "gated"),
]


@pytest.mark.parametrize("words", RAW)
def test_it_echoes_each_connection_s_own_messages(words: tuple[str, ...]) -> None:
    module, _, *way = words
    with served(module, "echo", *way) as port, connect(port) as one, connect(port) as two:
        for number in range(3):
            for connection, name in ((one, b"one"), (two, b"two")):
                message = name + b" %d" % number
                connection.sendall(message)
                assert received(connection, len(message)) == message


@pytest.mark.parametrize("words", RAW)
def test_it_calls_the_handler_and_closes_when_the_client_has_ended(words: tuple[str, ...]) -> None:
    module, _, *way = words
    with served(module, "upper", *way) as port, connect(port) as connection:
        connection.sendall(b"quick")
        assert received(connection, 5) == b"QUICK"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("words", LINES)
def test_it_answers_lines_however_they_come(words: tuple[str, ...]) -> None:
    with served(*words) as port, connect(port) as connection:
        for piece in (b"a\nb", b"c", b"\nd\ne\n", b"f\n"):
            connection.sendall(piece)
        assert received(connection, 11) == b"A\nBC\nD\nE\nF\n"


@pytest.mark.parametrize("words", SEVERAL_AT_ONCE)
def test_a_handler_that_blocks_does_not_stop_the_others(words: tuple[str, ...]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as gates,
        served(*words) as port,
        connect(port) as slow,
        connect(port) as quick,
    ):
        gates.settimeout(WAIT_S)
        message = b"s %d ..." % gates.getsockname()[1]
        slow.sendall(message)
        gate, _ = gates.accept()
        quick.sendall(b"quick")
        assert received(quick, 5) == b"quick", "while the other is held"
        gate.close()
        assert received(slow, len(message)) == message


TLS = [
    *(peer("asyncio_tls", "upper", way) for way in ("plain", "buffered")),
    *(peer("uvloop_tls", "upper", way, needs="uvloop") for way in ("plain", "buffered")),
    peer("threads_tls", "upper"),
]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


@needs_openssl
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("words", TLS)
def test_it_calls_the_handler_inside_tls_and_closes(words: tuple[str, ...], version: ssl.TLSVersion) -> None:
    certificate, key = filled_in([CERTIFICATE, KEY])
    client = ssl.create_default_context(cafile=certificate)
    client.minimum_version = client.maximum_version = version
    with served(*words, certificate, key) as port, connect(port) as silent:
        with client.wrap_socket(connect(port), server_hostname="localhost") as connection:
            connection.sendall(b"quick")
            assert received(connection, 5) == b"QUICK", "while another has not begun its handshake"
            with contextlib.suppress(ssl.SSLEOFError):  # some say close_notify too, some only close
                connection.unwrap()
        silent.sendall(b"this is no handshake\n")
        with contextlib.suppress(ConnectionResetError):
            while silent.recv(64):
                pass


@needs_openssl
def test_ciphers_without_forward_secrecy_are_refused() -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-GCM-SHA256")
    with (
        served("threads_tls", "echo", *filled_in([CERTIFICATE, KEY])) as port,
        connect(port) as connection,
        pytest.raises(ssl.SSLError),
    ):
        client.wrap_socket(connection)


def test_several_processes_share_a_listener() -> None:
    with served("selector_executor", "gated", "raw", "2") as port, connect(port) as connection:
        connection.sendall(b"w" + b"." * 31)
        assert int(received(connection, 32)) > 0


def test_a_way_that_is_not_known_is_refused_by_name() -> None:
    with Program(words_of(("peer", "socketserver_threads", "echo", "sideways")), CORES) as program:
        assert program.wait_log_line(START_S) == "sideways: the way is one of raw, lines"
