"""worker/securing.py, and what TLS is to the rest of a worker: who speaks it is served as anybody else."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from certbed import Files, by_hand, issue, trusting
from leftovers import eventually
from paceline import Close, File
from paceline.worker.connection import Connection
from paceline.worker.giving import Reach, reach
from paceline.worker.lifecycle import State
from paceline.worker.record import Record, encode
from paceline.worker.securing import Renewing
from takerbed import taker
from workerbed import Bed, bed, receive_all, receive_exactly, reset

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("certificates"), "localhost")


def echo(message: bytes) -> bytes:
    return message


def secured(
    worker: Bed, client: socket.socket | None = None, context: ssl.SSLContext | None = None, **options: Any
) -> ssl.SSLSocket:
    """A client after its handshake; an end without close_notify is an error there."""
    raw = worker.connect_tcp(**options) if client is None else client
    context = trusting() if context is None else context
    secure = context.wrap_socket(
        raw, server_hostname="localhost", do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    worker.clients.append(secure)
    secure.do_handshake()
    return secure


def only(worker: Bed) -> Connection:
    (found,) = worker.worker.tables.open.values()
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 64, 8 * 1024, 8 * 1024 + 1, 16 * 1024 + 1, 300_000])
def test_what_is_sent_comes_back(files: Files, version: ssl.TLSVersion, size: int) -> None:
    with bed(echo, **files.settings) as worker:
        client = secured(worker, context=trusting(maximum_version=version))
        sent = bytes(range(256)) * (size // 256 + 1)
        for _ in range(3):
            client.sendall(sent[:size])
            assert receive_exactly(client, size) == sent[:size]
        assert worker.cell("handshakes") == 1
        assert worker.worker.crew.roles.members == 1, "nobody but the leader has done it all"
        client.unwrap().close()
        worker.wait_closed(1)
        assert not worker.log.said


def test_lines_of_one_record_and_one_line_of_many(files: Files) -> None:
    with bed(bytes.upper, framing="line", **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"one\ntwo\nthr")
        assert receive_exactly(client, 8) == b"ONE\nTWO\n"
        for byte in b"ee\n":
            client.sendall(bytes([byte]))
        assert receive_exactly(client, 6) == b"THREE\n"
        client.sendall(b"x" * 200_000 + b"\n" + b"short\n")
        assert receive_exactly(client, 200_007) == b"X" * 200_000 + b"\nSHORT\n"
        client.unwrap().close()
        worker.wait_closed(1)


def test_a_handshake_may_come_byte_by_byte_and_holds_no_thread_meanwhile(files: Files) -> None:
    with bed(echo, **files.settings) as worker:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        greeting = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            greeting.do_handshake()
        slow, other = worker.connect_tcp(), secured(worker)
        for byte in outgoing.read():
            slow.sendall(bytes([byte]))
            other.sendall(b"x")
            assert receive_exactly(other, 1) == b"x"
        incoming.write(slow.recv(65536))
        greeting.do_handshake()
        greeting.write(b"hello")  # in the same piece as the end of the handshake
        slow.sendall(outgoing.read())
        while True:
            incoming.write(slow.recv(65536))
            with suppress(ssl.SSLWantReadError):
                assert greeting.read(100) == b"hello"
                break
        assert worker.worker.crew.roles.members == 1


def test_what_was_agreed_is_seen_by_the_handler(files: Files, tmp_path: Path) -> None:
    def tell(_message: bytes, connection: Connection) -> bytes:
        tls = connection.tls
        assert tls is not None
        return f"{tls.version} {tls.server_name} {tls.alpn} {tls.peer_certificate} {tls.cipher != ''}".encode()

    with bed(tell, alpn=("mqtt", "echo"), **files.settings) as worker:
        context = trusting()
        context.set_alpn_protocols(["echo", "other"])
        client = secured(worker, context=context)
        client.sendall(b"?")
        assert client.recv(1000) == b"TLSv1.3 localhost echo None True"


def test_a_plain_connection_has_no_tls() -> None:
    with bed(lambda _m, connection: repr(connection.tls).encode()) as worker:
        client = worker.connect()
        client.sendall(b"?")
        assert receive_exactly(client, 4) == b"None"


def test_only_clients_with_a_certificate(files: Files, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    from certbed import authority

    authority().cert_pem.write_to_path(str(ca))
    device = issue(tmp_path, "device-7.example.org")

    def who(_message: bytes, connection: Connection) -> bytes:
        assert connection.tls is not None
        assert connection.tls.peer_certificate is not None
        assert connection.tls.peer_certificate_der is not None
        return repr(connection.tls.peer_certificate["subjectAltName"]).encode()

    with bed(who, tls_ca=str(ca), tls_client_cert="required", **files.settings) as worker:
        context = trusting()
        context.load_cert_chain(device.cert, device.key)
        known = secured(worker, context=context)
        known.sendall(b"?")
        assert known.recv(1000) == b"(('DNS', 'device-7.example.org'),)"
        stranger = worker.connect_tcp()
        with pytest.raises(ssl.SSLError):  # in TLS 1.3 it learns of it after its own part is done
            secured(worker, stranger).recv(1)
        worker.clients[-1].close()
        assert "peer did not return a certificate" in str(worker.log.wait_for("handshake-failed")["why"])
        worker.wait_closed(1)
        assert worker.cell("handshakes_failed") == worker.cell("closed_broken") == 1


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"hello\n", b"\x16\x05\x00", b"\x80\x2e\x01\x03"])
def test_what_is_no_tls_is_disconnected_and_shown(files: Files, said: bytes) -> None:
    with bed(echo, **files.settings) as worker:
        client = worker.connect_tcp()
        client.sendall(said)
        assert receive_all(client) == b""
        client.close()
        worker.wait_closed(1)
        (event,) = worker.log.find("peer-not-tls")
        assert repr(said[:16]) in str(event["why"])
        assert worker.thread_total("calls") == 0


@pytest.mark.parametrize("holds", [False, True])
def test_tls_where_plain_text_is_spoken_is_said(holds: bool) -> None:
    def held(conn: socket.socket) -> None:
        conn.recv(1024)

    with bed(held if holds else echo, as_="connection" if holds else None) as worker:
        client = worker.connect_tcp()
        with suppress(OSError, ssl.SSLError):
            secured(worker, client)
        assert worker.log.wait_for("peer-tls")["listener"] == "a socket pair"
        worker.clients[-1].close()
        worker.wait_closed(1)
        assert len(worker.log.find("peer-tls")) == 1


def test_a_client_that_trusts_somebody_else_is_no_bug_of_ours(files: Files) -> None:
    with bed(echo, **files.settings) as worker:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client = worker.connect_tcp()
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(worker, client, context)
        worker.clients[-1].close()
        worker.wait_closed(1)


@pytest.mark.parametrize("ends", [lambda c: c.close(), reset, lambda c: c.shutdown(socket.SHUT_WR)])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_one_that_leaves_in_the_middle_costs_nothing(
    files: Files, said: bytes, ends: Callable[[socket.socket], None]
) -> None:
    with bed(echo, **files.settings) as worker:
        client = worker.connect_tcp()
        client.sendall(said)
        ends(client)
        worker.wait_closed(1)
        assert worker.cell("closed_peer") == 1
        assert all(event == "peer-reset" for event, _ in worker.log.said)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_a_handshake_that_takes_too_long_is_cut_off(files: Files, said: bytes) -> None:
    with bed(echo, handshake_timeout=5.0, **files.settings) as worker:
        client = worker.connect_tcp()
        for byte in said:
            worker.look(1.0)
            client.sendall(bytes([byte]))
            eventually(lambda: only(worker).secrecy is not None)
        worker.look(1.0)
        assert not worker.log.said
        worker.look(5.0)
        with suppress(ConnectionResetError):
            assert receive_all(client) == b""
        worker.wait_closed(1)
        assert "--handshake-timeout" in str(worker.log.find("peer-slow")[0]["why"])
        assert worker.cell("closed_timeout") == 1


def test_what_arrives_now_and_then_does_not_prolong_it(files: Files) -> None:
    with bed(echo, handshake_timeout=3.0, **files.settings) as worker:
        client = worker.connect_tcp()
        worker.look(1.0)
        for byte in b"\x16\x03\x01\x02":
            with suppress(OSError):
                client.sendall(bytes([byte]))
            worker.look(1.0)
        worker.wait_closed(1)
        assert worker.cell("closed_timeout") == 1


# The end


def test_close_notify_is_answered_after_the_last_reply(files: Files) -> None:
    with bed(echo, framing="line", **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"last\n")
        plain = client.unwrap() if client.recv(100) == b"last\n" else None
        assert plain is not None
        assert plain.recv(1) == b"", "and the connection is closed"
        worker.wait_closed(1)


def test_data_and_the_end_in_one_piece(files: Files) -> None:
    with bed(echo, framing="line", **files.settings) as worker:
        client, incoming, outgoing = opened_by_hand(worker)
        client.write(b"one\ntwo\n")
        with suppress(ssl.SSLWantReadError):
            client.unwrap()
        raw = worker.clients[-1]
        raw.sendall(outgoing.read())
        incoming.write(receive_all(raw))
        assert client.read(100) == b"one\ntwo\n"
        client.unwrap()  # the server's close_notify was there, too; without it this would be an error


def opened_by_hand(worker: Bed) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A client whose handshake the worker knows of, and whose records the test sends itself."""
    raw = worker.connect_tcp()
    client, incoming, outgoing = by_hand(raw)
    raw.sendall(outgoing.read())
    eventually(lambda: worker.connections()[-1].phase is State.OPEN)
    return client, incoming, outgoing


def test_a_handler_that_closes_says_so_inside_tls(files: Files) -> None:
    with bed(lambda message: Close(b"bye " + message), **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"now")
        assert client.recv(100) == b"bye now"
        assert client.recv(100) == b"", "close_notify; without it this were an error"
        client.close()
        worker.wait_closed(1)


def test_an_end_without_close_notify_delivers_no_part_of_a_message(files: Files) -> None:
    with bed(echo, framing="line", **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"whole\npart")
        assert receive_exactly(client, 6) == b"whole\n"
        client.close()
        worker.wait_closed(1)
        assert worker.thread_total("calls") == 1
        assert worker.log.find("peer-broke")


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_cut_record_is_dropped(files: Files, cut: int) -> None:
    with bed(echo, framing="line", **files.settings) as worker:
        client, _, outgoing = opened_by_hand(worker)
        client.write(b"a line\n")
        raw = worker.clients[-1]
        raw.sendall(outgoing.read()[:-cut])
        raw.close()
        worker.wait_closed(1)
        assert worker.thread_total("calls") == 0


def test_what_is_no_record_ends_it_after_the_messages_before(files: Files) -> None:
    seen: list[bytes] = []
    with bed(seen.append, framing="line", **files.settings) as worker:
        client, _, outgoing = opened_by_hand(worker)
        client.write(b"good\n")
        raw = worker.clients[-1]
        raw.sendall(outgoing.read() + b"\x17\x03\x03\x00\x20" + b"z" * 32)
        receive_all(raw)
        raw.close()
        worker.wait_closed(1)
        assert seen == [b"good"]
        assert "TLS" in str(worker.log.find("peer-broke")[0]["error"])


# Replies of all kinds, peers that do not read


def test_replies_in_pieces_files_and_pushes(files: Files, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    (tmp_path / "large").write_bytes(content)

    def answer(message: bytes, connection: Connection) -> Any:
        if message == b"pieces":
            return (bytes([n]) * 1000 for n in range(100))
        if message == b"file":
            return File(tmp_path / "large")
        connection.send(b"pushed ")
        return b"answer "

    with bed(answer, **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"pieces")
        assert receive_exactly(client, 100_000) == b"".join(bytes([n]) * 1000 for n in range(100))
        client.sendall(b"file")
        assert receive_exactly(client, len(content)) == content
        client.sendall(b"push")
        assert receive_exactly(client, 14) == b"answer pushed "
        client.unwrap().close()
        worker.wait_closed(1)


def test_a_reader_that_comes_late_gets_every_byte(files: Files) -> None:
    reply = bytes(range(256)) * 2000
    with bed(lambda _m: reply, **files.settings) as worker:
        client = secured(worker, send_buffer=4096, receive_buffer=4096)
        client.sendall(b"1")
        stuck = worker.wait_stuck()
        client.sendall(b"2")
        assert stuck.out is not None
        for _ in range(2):
            assert receive_exactly(client, len(reply)) == reply


def test_hooks_greet_inside_tls_only(files: Files) -> None:
    class Greeter:
        def connected(self, connection: Connection) -> bytes:
            assert connection.tls is not None
            return b"welcome "

        def __call__(self, message: bytes) -> bytes:
            return message

    with bed(Greeter(), **files.settings) as worker:
        silent = worker.connect_tcp()
        client = secured(worker)
        assert receive_exactly(client, 8) == b"welcome "
        client.sendall(b"me")
        assert receive_exactly(client, 2) == b"me"
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(1)


def test_behind_a_proxy_the_header_comes_first_and_plain(files: Files) -> None:
    with bed(lambda _m, c: c.peer.encode(), proxy_protocol=("127.0.0.0/8",), **files.settings) as worker:
        raw = worker.connect_tcp()
        raw.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n")
        client = secured(worker, raw)
        client.sendall(b"who")
        assert client.recv(100) == b"192.0.2.7:50312"


# Moving, draining


def test_it_moves_before_its_handshake_and_not_after(files: Files) -> None:
    with bed(echo, **files.settings) as worker:
        silent = worker.connect_tcp()
        eventually(lambda: worker.worker.tables.parked)
        assert reach(only(worker)) is Reach.ANYWHERE
        secured(worker, silent)
        eventually(lambda: only(worker).phase is State.OPEN)
        assert reach(only(worker)) is Reach.NOWHERE


def test_one_that_a_sibling_passes_on_has_its_handshake_here(files: Files) -> None:
    with taker(echo, **files.settings) as there:
        there.post(encode(Record(listener=0, is_unsecured=True)))
        there.post(encode(Record(listener=0, messages=3)))
        unsecured, other = there.take_in()
        assert (unsecured.phase, other.phase) == (State.SECURING, State.OPEN)


def test_where_no_tls_is_spoken_it_begins_as_any_other() -> None:
    with taker(echo) as there:
        worker = there.bed
        there.post(encode(Record(listener=0, is_unsecured=True)))
        there.take_in()
        assert only(worker).phase is State.OPEN


def test_a_drain_ends_the_quiet_ones_inside_tls_and_those_in_a_handshake_at_once(files: Files) -> None:
    with bed(echo, **files.settings) as worker:
        client, silent, half = secured(worker), worker.connect_tcp(), worker.connect_tcp()
        half.sendall(b"\x16\x03\x01")
        eventually(lambda: len(worker.worker.tables.parked) == 3)
        drained = worker.drain()
        assert client.recv(1) == b"", "close_notify"
        for each in (silent, half):
            assert receive_all(each) == b""
            each.close()
        client.close()
        assert drained.wait() == 0


# Renewal


@pytest.fixture
def changing(tmp_path: Path) -> Files:
    return issue(tmp_path, "localhost")


def serial(worker: Bed) -> str:
    with secured(worker) as client:
        certificate = client.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_files_that_have_changed_are_read_again(changing: Files, tmp_path: Path) -> None:
    with bed(echo, **changing.settings) as worker:
        before, kept = serial(worker), secured(worker)
        worker.look()
        assert serial(worker) == before
        assert not worker.log.find("certificates-renewed")
        issue(tmp_path, "localhost")
        worker.look()
        assert "localhost until 3000-01-01" in str(worker.log.find("certificates-renewed")[0]["certificates"])
        assert serial(worker) != before
        kept.sendall(b"still here")
        assert receive_exactly(kept, 10) == b"still here"
        assert worker.cell("certificates_renewed") == 1


def test_what_cannot_be_used_is_refused_once_and_the_old_ones_go_on(changing: Files, tmp_path: Path) -> None:
    with bed(echo, **changing.settings) as worker:
        before = serial(worker)
        whole = Path(changing.cert).read_bytes()
        other = issue(tmp_path, "localhost", stem="other")
        Path(changing.cert).write_bytes(Path(other.cert).read_bytes())
        worker.look()
        worker.look()
        (refused,) = worker.log.find("certificates-refused")
        assert "does not belong" in str(refused["why"])
        assert serial(worker) == before
        Path(changing.cert).write_bytes(whole)
        worker.look()
        assert serial(worker) == before
        assert len(worker.log.find("certificates-renewed")) == 1


def test_a_thousand_renewals_fail_no_handshake(changing: Files, tmp_path: Path) -> None:
    """The watcher's part and the clients' in turns; both at once: tests/integration/test_tls.py."""
    pairs = [issue(tmp_path, "localhost", stem=str(n)) for n in range(2)]
    contents = [(Path(pair.cert).read_bytes(), Path(pair.key).read_bytes()) for pair in pairs]
    seen = set()
    with bed(echo, **changing.settings) as worker:
        renewing = worker.parts.watcher.renewing
        assert renewing is not None
        for n in range(1000):
            cert, key = contents[n % 2]
            Path(changing.cert).write_bytes(cert)
            Path(changing.key).write_bytes(key)
            renewing.look(float(n))
            if n % 10 < 2:
                seen.add(serial(worker))
        assert worker.cell("certificates_renewed") == 1000
        assert worker.cell("handshakes") == 200
        assert worker.cell("handshakes_failed") == 0
        assert len(seen) == 2


def test_one_that_ends_soon_is_said_once_a_day(changing: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(echo, **changing.settings) as worker:
        certificates = worker.worker.certificates
        assert certificates is not None
        ends_s = certificates.loaded[0].ends_s
        renewing = Renewing(worker.worker, certificates, is_first=True)
        for wall_s, says in ((ends_s - 15 * 86_400, ""), (ends_s - 13 * 86_400, "ends on"), (ends_s + 1, "has ended")):
            worker.log.said.clear()
            monkeypatch.setattr("paceline.clock.wall_seconds", lambda wall_s=wall_s: wall_s)
            renewing.says_at = 0.0
            renewing.look(1.0)
            renewing.look(2.0)
            assert [says in str(event["why"]) for event in worker.log.find("certificate-ends")] == [True] * bool(says)


def test_a_key_that_everybody_can_read_is_warned_of(changing: Files) -> None:
    Path(changing.key).chmod(0o644)
    with bed(echo, **changing.settings) as worker:
        assert worker.log.find("key-readable") == [{"file": changing.key}]
        certificates = worker.worker.certificates
        assert certificates is not None
        Renewing(worker.worker, certificates, is_first=False)
        assert len(worker.log.find("key-readable")) == 1, "by one worker for all"
