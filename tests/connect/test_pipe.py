"""connect/pipe.py: `paceline connect` as a real pipe to real servers; cli/connect.py is in tests/cli."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import COMMAND, running

pytestmark = pytest.mark.usefixtures("nothing_left")

DEADLINE_S = 20.0
Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve, *, buffer_bytes: int | None = None) -> Iterator[str]:
    """A server of the test's own for one connection, which it closes; the address.  What it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(DEADLINE_S)
                serve(connection)
        except BaseException as error:  # noqa: BLE001 - for the test
            raised.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        if buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(DEADLINE_S)
    if raised:
        raise raised[0]


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def reset(connection: socket.socket) -> None:
    """Its close is a reset (socket(7), SO_LINGER)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def pipe(place: str, *options: str, sent: bytes = b"") -> tuple[int, bytes, str]:
    """Exit code, standard output, standard error."""
    done = subprocess.run(
        [*COMMAND, "connect", place, *options], input=sent, capture_output=True, timeout=DEADLINE_S, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


@contextmanager
def piping(place: str, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """With standard input and output for the test to use."""
    with subprocess.Popen(
        [*COMMAND, "connect", place, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


ALL_BYTES = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def echoes() -> Iterator[dict[str, str]]:
    """Real servers that echo, by their framing."""
    with running("echo", "-w", "1") as raw, running("echo", "-w", "1", "--framing", "netstring") as netstring:
        yield {"raw": raw.places[0], "netstring": netstring.places[0]}


@pytest.mark.parametrize(
    ("framing", "options", "sent", "written"),
    [
        ("raw", (), b"hi\n", b"hi\n"),
        ("raw", (), b"", b""),
        ("raw", (), ALL_BYTES, ALL_BYTES),
        ("raw", ("--framing", "line"), b"one\ntwo", b"one\n"),
        ("raw", ("--framing", "line", "--crlf"), b"one\ntwo", b"one\ntwo\n"),
        ("raw", ("--framing", "delimiter:|"), b"one\ntwo\n", b"one\ntwo\n"),
        ("raw", ("--escape",), b"a\\x1b", b"a\\x1b\\n\n"),
        ("raw", ("--escape", "--crlf"), b"a", b"a\\r\\n\n"),
        ("raw", ("--escape", "--no-newline"), b"a\nb", b"ab\n"),
        ("raw", ("--hex",), b"a", b"00000000  61                                                |a|\n"),
        ("netstring", ("--framing", "netstring"), b"one\n\n\xff\n", b"one\n\n\xff\n"),
        ("netstring", ("--framing", "netstring", "--escape"), b"\\n\n", b"\\n\n"),
        ("netstring", ("--framing", "netstring", "--hex"), b"ab\n", b"6162\n"),
    ],
)
def test_through_an_echo(
    framing: str, options: tuple[str, ...], sent: bytes, written: bytes, echoes: dict[str, str]
) -> None:
    code, output, log = pipe(echoes[framing], *options, sent=sent)
    if options == ("--framing", "line"):  # the last line had no end, and so has none when it comes back
        assert (code, output) == (5, written)
        assert "closed the connection inside a reply, after 3 bytes of it" in log
    else:
        assert (code, output, log) == (0, written, "")


def test_more_than_all_buffers_goes_through_both_ways_in_bounded_memory(echoes: dict[str, str], tmp_path: Path) -> None:
    size, piece = 64 << 20, ALL_BYTES
    measured = f"""if True:
        import resource, subprocess, sys
        code = subprocess.run({[*COMMAND, "connect", echoes["raw"]]!r}).returncode
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
        sys.exit(code)"""
    with (tmp_path / "sent").open("wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)
    with (tmp_path / "sent").open("rb") as sent, (tmp_path / "came").open("wb") as came:
        done = subprocess.run(
            [sys.executable, "-c", measured], stdin=sent, stdout=came, stderr=subprocess.PIPE, timeout=60, check=True
        )
    assert (tmp_path / "came").stat().st_size == (tmp_path / "sent").stat().st_size
    assert (tmp_path / "came").read_bytes() == (tmp_path / "sent").read_bytes()
    assert int(done.stderr) < 60_000  # KiB, of which the interpreter has a third


def test_input_is_sent_as_it_comes_and_replies_are_written_as_they_come(echoes: dict[str, str]) -> None:
    with piping(echoes["raw"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for byte in b"abc":
            process.stdin.write(bytes([byte]))
            assert process.stdout.read(1) == bytes([byte])
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(DEADLINE_S) == 0


def test_replies_come_to_their_end_after_ours() -> None:
    def serve(connection: socket.socket) -> None:
        got = everything(connection)
        for byte in got:
            connection.sendall(bytes([byte]))

    with server(serve) as place:
        assert pipe(place, sent=b"question") == (0, b"question", "")


def test_a_server_that_ends_first_ends_us_too_and_it_is_said() -> None:
    with server(lambda connection: connection.sendall(b"bye\n")) as place, piping(place) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b"bye\n"
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read().decode() == (
            f"paceline: {place} closed the connection before standard input ended; nothing read from it is unsent\n"
        )


def test_a_line_that_has_not_ended_when_the_server_ends_is_told_to_be_unsent() -> None:
    def serve(connection: socket.socket) -> None:
        assert connection.recv(100) == b"3:one,"
        connection.sendall(b"3:bye,")

    with server(serve) as place, piping(place, "--framing", "netstring") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"one\ntwo")
        assert process.stdout.read() == b"bye\n"
        assert process.wait(DEADLINE_S) == 5
        assert process.stderr.read().decode() == (
            f"paceline: {place} closed the connection before standard input ended; "
            "a line that has not ended is unsent (3 bytes so far)\n"
        )


def test_a_server_that_only_ended_its_own_direction_gets_all() -> None:
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        got.append(everything(connection))

    with server(serve) as place:
        assert pipe(place, sent=ALL_BYTES * 20)[0] == 0
    assert got == [ALL_BYTES * 20]


def test_a_server_that_closes_with_bytes_unsent(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10)
        connection.sendall(b"enough\n")
        connection.shutdown(socket.SHUT_WR)  # and closes then, with all the rest unread

    (tmp_path / "sent").write_bytes(ALL_BYTES * 200)
    with server(serve) as place, (tmp_path / "sent").open("rb") as sent:
        done = subprocess.run(
            [*COMMAND, "connect", place], stdin=sent, capture_output=True, timeout=DEADLINE_S, check=False
        )
    assert (done.returncode, done.stdout) == (5, b"enough\n")
    assert f"{place} closed the connection" in done.stderr.decode() or f"{place} reset" in done.stderr.decode()


def test_a_reset() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"first")
        assert everything(connection) == b"hi"
        reset(connection)

    with server(serve) as place:
        code, output, log = pipe(place, sent=b"hi")
    assert (code, output) == (5, b"first")
    assert log == f"paceline: {place} reset the connection: what it had not read is lost; its log should say why\n"


@pytest.mark.parametrize(
    ("framing", "came", "written", "said"),
    [
        (
            "line",
            b"one\ntw",
            b"one\n",
            "closed the connection inside a reply, after 2 bytes of it; is the framing right",
        ),
        ("netstring", b"3:one,x", b"one\n", "is no reply of the framing netstring: the peer sent b'x'"),
        ("line", b"one\n" + b"x" * 2000, b"one\n", "is too large: the peer sent a line over the limit of 1,024 bytes"),
    ],
)
def test_replies_that_are_none(framing: str, came: bytes, written: bytes, said: str) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(came)
        everything(connection)

    with server(serve) as place:
        code, output, log = pipe(place, "--framing", framing, "--max-message", "1k")
    assert (code, output) == (5, written)
    assert said in log
    assert log.count("\n") == 1


def test_silence_after_our_end_is_bounded() -> None:
    left = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"part")
        everything(connection)
        left.wait(DEADLINE_S)

    with server(serve) as place:
        try:
            code, output, log = pipe(place, "--timeout", "200ms", "--hex", sent=b"hi")
        finally:
            left.set()
    assert (code, output[:24]) == (5, b"00000000  70 61 72 74   ")
    assert f"{place} was silent for 0.2 s after the end of the input; --timeout allows more" in log


def test_a_server_that_never_reads_is_bounded_too() -> None:
    left = threading.Event()

    def serve(_connection: socket.socket) -> None:
        left.wait(DEADLINE_S)

    with server(serve) as place:
        try:
            code, _, log = pipe(place, "--timeout", "200ms", sent=ALL_BYTES * 400)
        finally:
            left.set()
    assert code == 5
    assert f"{place} has read nothing for 0.2 s, " in log


def test_a_server_that_reads_slowly_is_alive_before_and_after_our_end() -> None:
    """What it reads in a time-out is far less than the third of our send buffer that poll(2) waits for."""
    sizes: list[int] = []

    def serve(connection: socket.socket) -> None:
        never = threading.Event()
        while piece := connection.recv(32768):
            sizes.append(len(piece))
            never.wait(0.02)
        connection.sendall(b"done\n")

    with server(serve, buffer_bytes=65536) as place:
        assert pipe(place, "--timeout", "300ms", sent=bytes(4_000_000)) == (0, b"done\n", "")
    assert sum(sizes) == 4_000_000


def test_a_slow_server_that_stops_reading_is_given_up() -> None:
    left = threading.Event()

    def serve(connection: socket.socket) -> None:
        for _ in range(20):
            connection.recv(32768)
            left.wait(0.01)
        left.wait(DEADLINE_S)

    with server(serve, buffer_bytes=65536) as place:
        try:
            code, _, log = pipe(place, "--timeout", "200ms", sent=bytes(30_000_000))
        finally:
            left.set()
    assert code == 5
    assert f"{place} has read nothing for 0.2 s, " in log


def test_time_is_not_counted_while_the_input_makes_us_wait(echoes: dict[str, str]) -> None:
    with piping(echoes["raw"], "--timeout", "10ms") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(b"a")
            assert process.stdout.read(1) == b"a"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


def test_nobody_reads_our_output(echoes: dict[str, str]) -> None:
    with piping(echoes["raw"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a")
        assert process.stdout.read(1) == b"a"
        process.stdout.close()  # noticed at once, though nothing is there to write
        assert process.wait(DEADLINE_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_reader_that_stops_reading_stops_the_server_and_not_us() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(ALL_BYTES * 100)
        assert everything(connection) == b""

    with server(serve) as place, piping(place, "--timeout", "100ms") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.stdout.read(10) == ALL_BYTES[:10]
        rest = b"".join(iter(lambda: process.stdout.read(65536), b""))  # type: ignore[union-attr]
        assert rest == (ALL_BYTES * 100)[10:]
        assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 3, "standard output is closed; replies cannot be shown: open it"),
        (">/dev/full", 3, "standard output cannot be written: No space left on device"),
        (">/dev/null", 0, ""),
        ("<&-", 0, ""),
        ("0>/dev/null <&0", 3, "standard input cannot be read: Bad file descriptor"),
        ("</dev/null", 0, ""),
    ],
)
def test_odd_places_for_input_and_output(redirection: str, code: int, said: str, echoes: dict[str, str]) -> None:
    words = " ".join([*COMMAND, "connect", echoes["raw"]])
    source = "" if "<" in redirection else "printf hi |"
    done = subprocess.run(
        ["sh", "-c", f"{source} {words} {redirection}"], capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == code
    assert done.stderr.decode().startswith(f"paceline: {said}" if said else "")
    assert bool(done.stderr) is bool(said)


def test_into_a_terminal_nothing_goes_as_it_is(echoes: dict[str, str]) -> None:
    controller, terminal = os.openpty()
    try:
        code = subprocess.run(
            [*COMMAND, "connect", echoes["raw"]],
            input=b"a\tb\x1b[2J\n",
            stdout=terminal,
            timeout=DEADLINE_S,
            check=False,
        ).returncode
        shown = os.read(controller, 1000)
    finally:
        os.close(controller)
        os.close(terminal)
    assert (code, shown.replace(b"        ", b"\t")) == (0, b"a\tb\\x1b[2J\r\n")


def test_the_flags_of_standard_input_and_output_stay_as_they_are(echoes: dict[str, str]) -> None:
    def flags(fd: int) -> bool:
        return os.get_blocking(fd)

    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    try:
        process = subprocess.Popen([*COMMAND, "connect", echoes["raw"]], stdin=read_in, stdout=write_out)
        with process:
            os.write(write_in, b"a")
            assert os.read(read_out, 1) == b"a"
            assert flags(read_in)
            assert flags(write_out)
            os.close(write_in)
            write_in = -1
            assert process.wait(DEADLINE_S) == 0
    finally:
        for fd in (read_in, write_in, read_out, write_out):
            if fd >= 0:
                os.close(fd)


def test_input_that_cannot_be_sent_is_told_when_the_replies_are_written(echoes: dict[str, str]) -> None:
    code, output, log = pipe(
        echoes["netstring"], "--framing", "netstring", "--max-message", "4", sent=b"one\ntwo\nthree\nfour\n"
    )
    assert (code, output) == (2, b"one\ntwo\n")
    assert log == "paceline: line 3 of standard input: it is longer than 4 bytes; --max-message allows more\n"


def test_over_a_socket_file() -> None:
    with running("echo", "-w", "1", "--bind", "unix:s.sock") as unix:
        assert pipe(f"unix:{unix.folder}/s.sock", sent=b"hi") == (0, b"hi", "")
