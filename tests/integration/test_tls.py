"""TLS between a real server and the clients that people have: openssl, curl, Python's; by itself and behind haproxy."""

import http.client
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Self

import pytest

from certbed import authority
from proxybed import haproxy, place
from securepeer import (
    TLS,
    SecurePeer,
    authority_pem,
    client_context,
    pem,
    plain_context,
    sign,
)
from testbed import Server, running

APP = {
    "app.py": """
    import http.server
    import os
    import socketserver
    import threading
    import time
    from functools import partial

    import paceline

    def shout(message):
        return bytes(message).upper()

    def told(_line, connection):
        tls = connection.tls
        if tls is None:
            return b"plain"
        whose = "" if tls.peer_certificate is None else dict(sum(tls.peer_certificate["subject"], ())).get("commonName")
        return "|".join(map(str, (tls.version, tls.cipher, tls.server_name, tls.alpn, whose))).encode()

    def told_of(conn):
        while conn.recv(100):
            conn.sendall(f"{conn.peer} {conn.tls.version} {conn.tls.server_name}\\n".encode())

    def who(_line, connection):
        return f"{connection.peer} {connection.tls.version} {connection.tls.server_name}".encode()

    def last(line):
        return paceline.Close(line)

    class Guest:
        def connected(self, connection):
            return f"welcome by {connection.tls.version}".encode()

        def __call__(self, line):
            return line

        def disconnected(self, connection):
            print("left after", connection.messages, connection.tls.server_name)

    def pieces(line):
        for number in range(200):
            yield b"%d of " % number + line

    def file(_message):
        return paceline.File("large.bin")

    everybody = []

    def push(line, connection):
        everybody.append(connection)
        threading.Thread(target=send_all, args=(line, everybody.copy())).start()

    def send_all(line, there):
        for connection in there:
            connection.send(line)

    class Lines(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.upper())

    class Kept(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_PUT(self):
            left = int(self.headers["Content-Length"])
            with open("got.bin", "wb") as file:
                while left:
                    piece = self.rfile.read(min(left, 65536))
                    left -= len(piece)
                    file.write(piece)
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()
    """
}
LINES = ("--framing", "line", "--workers", "1")
LARGE = bytes(range(256)) * 20_480
"""5 MiB."""


def app_files() -> dict[str, str]:
    return {**APP, **pem("localhost")}


def said(server: Server, word: str) -> list[str]:
    return [line for line in server.log.splitlines() if word in line]


# openssl

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


class SClient:
    """`openssl s_client`, which trusts our authority; what it writes is read until something is in it."""

    def __init__(self, server: Server, *options: str, name: str = "localhost") -> None:
        assert OPENSSL is not None
        ca = server.folder / "ours.pem"
        ca.write_text(authority_pem())
        host, port = server.address
        self.process = subprocess.Popen(
            [OPENSSL, "s_client", "-connect", f"{host}:{port}", "-servername", name, "-CAfile", str(ca),
             "-verify_return_error", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def read_until(self, text: bytes) -> bytes:
        """Whatever comes, up to and with this."""
        assert self.process.stdout is not None
        while text not in self.seen:
            piece = self.process.stdout.read1()  # type: ignore[attr-defined]
            assert piece, f"it ended: {self.seen.decode()}"
            self.seen += piece
        before, self.seen = self.seen.split(text, 1)
        return bytes(before + text)

    def read_all(self) -> bytes:
        assert self.process.stdout is not None
        whole, self.seen = self.seen + self.process.stdout.read(), b""
        return whole


@needs_openssl
@pytest.mark.parametrize(
    ("option", "version", "cipher"),
    [("-tls1_3", "TLSv1.3", "TLS_AES_256_GCM_SHA384"), ("-tls1_2", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")],
)
def test_s_client_by_both_versions(option: str, version: str, cipher: str) -> None:
    with (
        running("app.py:told", *LINES, *TLS, files=app_files()) as server,
        SClient(server, option) as client,
    ):
        client.read_until(b"Verify return code: 0 (ok)")
        client.send(b"how\n")
        assert client.read_until(b"|localhost|None|").endswith(f"{version}|{cipher}|localhost|None|".encode())


@needs_openssl
@pytest.mark.parametrize("option", ["-tls1_1", "-tls1"])
def test_older_versions_are_refused(option: str) -> None:
    with running("app.py:shout", *LINES, *TLS, files=app_files()) as server:
        with SClient(server, option, "-cipher", "ALL:@SECLEVEL=0") as client:
            assert b"alert protocol version" in client.read_all()
        server.wait_for_log("the TLS handshake failed: unsupported protocol")


@needs_openssl
def test_the_oldest_version_may_be_1_3() -> None:
    with running("app.py:shout", *LINES, *TLS, "--tls-min", "1.3", files=app_files()) as server:
        with SClient(server, "-tls1_2") as client:
            assert b"alert protocol version" in client.read_all()
        with SecurePeer(server) as peer:
            peer.send(b"hello\n")
            assert peer.line() == b"HELLO\n"


def test_the_name_chooses_among_several_certificates() -> None:
    files = dict(APP)
    options: list[str] = []
    for number, names in enumerate((("a.example", "b.example"), ("*.wild.example",), ("wild.example",))):
        signed = sign(*names)
        files |= {f"{number}.pem": signed.certificate, f"{number}.key": signed.key}
        options += ["--tls-cert", f"{number}.pem", "--tls-key", f"{number}.key"]
    lenient = client_context()
    lenient.check_hostname = False
    with running("app.py:told", *LINES, *options, files=files) as server:
        for name, shown in [
            ("a.example", "a.example"),
            ("B.Example", "a.example"),
            ("x.wild.example", "*.wild.example"),
            ("wild.example", "wild.example"),
            ("x.y.wild.example", "a.example"),
            ("elsewhere.example", "a.example"),
            (None, "a.example"),
        ]:
            with SecurePeer(server, name, lenient) as peer:
                certificate = peer.socket.tls.getpeercert()
                assert certificate is not None
                assert certificate["subjectAltName"][0] == ("DNS", shown), name
                peer.send(b"how\n")
                assert peer.line().split(b"|")[2].lower() == str(name).lower().encode()


@needs_openssl
def test_client_certificates() -> None:
    client = sign("somebody@example.org", common_name="somebody")
    files = {**APP, **pem("localhost"), "ca.pem": authority_pem(), "c.pem": client.certificate, "c.key": client.key}
    asks = ("--tls-ca", "ca.pem", "--tls-client-cert")
    with running("app.py:told", *LINES, *TLS, *asks, "required", files=files) as server:
        shows = ("-cert", str(server.folder / "c.pem"), "-key", str(server.folder / "c.key"))
        for version in ("-tls1_2", "-tls1_3"):
            with SClient(server, version, *shows) as shown:
                shown.send(b"how\n")
                shown.read_until(b"|localhost|None|somebody")
            with SClient(server, version, "-ign_eof") as unknown:
                assert re.search(rb"alert (number 40|handshake failure|certificate required)", unknown.read_all())
        assert len(said(server, "the TLS handshake failed: peer did not return a certificate")) == 2
        foreign = client_context(shows=sign("somebody@example.org", by="others"))
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"unknown ca|reset"):  # noqa: SIM117
            with SecurePeer(server, context=foreign) as peer:
                peer.receive()
        server.wait_for_log(re.compile(r"certificate verify failed \((unable to get local issuer|self.signed)"))
    with running("app.py:told", *LINES, *TLS, *asks, "optional", files=files) as server:
        for context, name in ((client_context(shows=client), b"somebody"), (client_context(), b"")):
            with SecurePeer(server, context=context) as peer:
                peer.send(b"how\n")
                assert peer.line().rstrip(b"\n").split(b"|")[4] == name


@needs_openssl
def test_alpn() -> None:
    with running("app.py:told", *LINES, *TLS, "--alpn", "mqtt,x-line", "--alpn", "h2", files=app_files()) as server:
        with SClient(server, "-alpn", "h2,x-line") as client:
            client.send(b"how\n")
            assert b"ALPN protocol: x-line" in client.read_until(b"|localhost|x-line|")
        with SecurePeer(server) as peer:
            peer.send(b"how\n")
            assert b"|localhost|None|" in peer.line()


@needs_openssl
def test_keys_are_not_renegotiated() -> None:
    with running("app.py:shout", *LINES, *TLS, files=app_files()) as server:
        with SClient(server, "-tls1_2") as client:
            client.send(b"hello\n")
            client.read_until(b"HELLO\n")
            client.send(b"R\n")
            assert b"no renegotiation" in client.read_all()
        with SecurePeer(server) as peer:
            peer.send(b"hello\n")
            assert peer.line() == b"HELLO\n"


@needs_openssl
def test_keys_are_updated() -> None:
    with (
        running("app.py:shout", *LINES, *TLS, files=app_files()) as server,
        SClient(server, "-tls1_3") as client,
    ):
        for round_of in range(20):
            client.send(b"K\n" if round_of % 2 else b"k\n")
            client.read_until(b"KEYUPDATE\n")
            client.send(b"hello %d\n" % round_of)
            client.read_until(b"HELLO %d\n" % round_of)


@needs_openssl
def test_the_end_is_said_by_both() -> None:
    with running("app.py:last", *LINES, *TLS, files=app_files()) as server:
        with SClient(server, "-ign_eof") as client:  # our end
            client.send(b"hello\n")
            client.read_until(b"hello\n")
            assert client.read_all().endswith(b"closed\n"), "read:errno=0 would be an end without close_notify"
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with SecurePeer(server, context=client_context(version=version)) as peer:
                peer.send(b"hello\n")
                assert peer.receive_all() == b"hello\n"
            with SecurePeer(server, context=client_context(version=version)) as peer:  # the peer's
                peer.half_close()
                assert peer.receive_all() == b""
                assert peer.socket.is_over
        assert not said(server, "disconnected")


# curl, and other clients of HTTP


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    with running("app.py:Kept", "--workers", "2", *TLS, files=app_files()) as server:
        (server.folder / "large.bin").write_bytes(LARGE)
        (server.folder / "ours.pem").write_text(authority_pem())
        _, port = server.address
        base = ["curl", "-sS", "--fail", "--cacert", str(server.folder / "ours.pem")]
        base += ["--resolve", f"localhost:{port}:127.0.0.1", "--max-time", "30"]
        url = f"https://localhost:{port}"
        got = tmp_path / "got.bin"
        done = subprocess.run(
            [*base, "-v", f"{url}/large.bin", "-o", str(got), f"{url}/app.py", "-o", "/dev/null"],
            capture_output=True, check=True, timeout=40,
        )  # fmt: skip
        assert b"Re-using existing connection" in done.stderr
        assert got.read_bytes() == LARGE
        subprocess.run([*base, "-T", str(tmp_path / "large.bin"), f"{url}/got.bin"], check=True, timeout=40)
        assert (server.folder / "got.bin").read_bytes() == LARGE
        bare = subprocess.run([*base[:3], f"{url}/app.py", *base[5:]], capture_output=True, timeout=40, check=False)
        assert bare.returncode == 60, "it does not trust everybody"
        server.wait_for_log("the TLS handshake failed: tlsv1 alert unknown ca")


def test_http_client_keeps_its_connection() -> None:
    with running("app.py:Kept", "--workers", "1", *TLS, files=app_files()) as server:
        client = http.client.HTTPSConnection("localhost", server.address[1], timeout=10, context=plain_context())
        for _ in range(20):
            client.request("GET", "/cert.pem")
            answer = client.getresponse()
            assert answer.status == 200
            assert answer.read() == (server.folder / "cert.pem").read_bytes()
        client.close()


# Handlers of messages


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("framing", ["raw", "line"])
def test_messages(framing: str, version: ssl.TLSVersion) -> None:
    with (
        running("app.py:shout", "--framing", framing, "--workers", "1", *TLS, files=app_files()) as server,
        SecurePeer(server, context=client_context(version=version)) as peer,
    ):
        peer.send(b"hel", b"lo\n")
        assert peer.line() == b"HELLO\n"
        large = b"x" * 300_000 + b"\n"
        peer.send(large)
        assert peer.receive(len(large)) == large.upper()
        peer.send(*[b"%d\n" % number for number in range(1000)])
        assert peer.lines(1000) == [b"%d\n" % number for number in range(1000)]
        peer.half_close()
        assert peer.ended()


def test_replies_after_a_half_close() -> None:
    with running("app.py:shout", *LINES, *TLS, files=app_files()) as server:
        for number in range(20):
            with SecurePeer(server) as peer:
                peer.send(b"hello\n" * number + b"hal"[: number % 4])
                peer.half_close()
                assert peer.receive(6 * number) == b"HELLO\n" * number


def test_hooks_see_what_was_agreed() -> None:
    with running("app.py:Guest", *LINES, *TLS, files=app_files()) as server:
        with SecurePeer(server) as peer:
            assert peer.line() == b"welcome by TLSv1.3\n"
            peer.send(b"hello\n")
            assert peer.line() == b"hello\n"
        server.wait_for_log("left after 1 localhost")


def test_a_reply_in_pieces() -> None:
    with (
        running("app.py:pieces", *LINES, *TLS, files=app_files()) as server,
        SecurePeer(server) as peer,
    ):
        for text in (b"a\n", b"b\n"):
            peer.send(text)
            assert peer.lines(200) == [b"%d of " % number + text for number in range(200)]


def test_a_file() -> None:
    with running("app.py:file", "--workers", "1", *TLS, files=app_files()) as server:
        (server.folder / "large.bin").write_bytes(LARGE)
        with SecurePeer(server) as peer, SecurePeer(server) as other:
            for _ in range(3):
                peer.send(b"file")
                other.send(b"file")
                assert peer.receive(len(LARGE), timeout=20) == LARGE
                assert other.receive(len(LARGE), timeout=20) == LARGE


def test_messages_beside_the_replies() -> None:
    with running("app.py:push", *LINES, *TLS, files=app_files()) as server:
        peers = [SecurePeer(server) for _ in range(5)]
        for number, peer in enumerate(peers):
            peer.send(b"from %d\n" % number)
            for other in peers[: number + 1]:
                assert other.line() == b"from %d\n" % number
        for peer in peers:
            peer.close()


def test_a_handler_of_socketserver() -> None:
    with running("app.py:Lines", "--workers", "1", *TLS, files=app_files()) as server:
        with SecurePeer(server) as peer:
            peer.send(b"hello\n" * 1000)
            assert peer.lines(1000) == [b"HELLO\n"] * 1000
            peer.half_close()
            assert peer.ended()
        assert not said(server, "error")


# Beside it, and in front of it


def test_a_unix_socket_beside_it_stays_plain() -> None:
    binds = ("--bind", "127.0.0.1:0", "--bind", "unix:here.sock")
    with running("app.py:told", *LINES, *binds, *TLS, files=app_files()) as server:
        with server.connect("unix:here.sock") as peer:
            peer.send(b"how\n")
            assert peer.line() == b"plain\n"
        with SecurePeer(server) as secured:
            secured.send(b"how\n")
            assert secured.line().startswith(b"TLSv1.3|")


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("target", ["app.py:who", "app.py:told_of"])
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy(target: str, version: str, tmp_path: Path) -> None:
    holds = ("--as", "connection") if target == "app.py:told_of" else ("--framing", "line")
    with (
        running(target, *holds, "--workers", "2", *TLS, "--proxy-protocol", "127.0.0.1", files=app_files()) as server,
        haproxy(tmp_path, [f"{place(server)} {version} check"]) as front,
    ):
        for _ in range(30):
            with SecurePeer("{}:{}".format(*front)) as peer:
                peer.send(b"who\n")
                assert peer.line().decode() == f"{peer.name} TLSv1.3 localhost\n"
        assert not [line for line in server.warnings if "readable" not in line and "can be read by every" not in line]


def test_a_name_that_is_no_ascii_is_no_traceback() -> None:
    with running("app.py:shout", *LINES, *TLS, files=app_files()) as server:
        out = ssl.MemoryBIO()
        hello = plain_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="abcdefgh")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        with server.connect() as peer:
            peer.send(out.read().replace(b"abcdefgh", b"abc\xff\xfefgh"))
            assert peer.receive_all().startswith(b"\x15\x03\x03\x00\x02\x02"), "an alert"
        server.wait_for_log("the name that it asks for (SNI) is not ASCII")
        assert not said(server, "Exception ignored") + said(server, "Traceback")


def test_authority_is_only_ours() -> None:
    """The bed: a client of somebody else's authority trusts none of our servers."""
    assert authority("others") is not authority()
    with (
        running("app.py:shout", *LINES, *TLS, files=app_files()) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        SecurePeer(server, context=client_context(by="others"))


def test_a_socket_that_is_no_tcp_is_asked_for_nothing() -> None:
    """A descriptor of a Unix socket that was inherited stays plain, too."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        fd = listener.fileno()
        with (
            running("app.py:told", *LINES, "--bind", f"fd://{fd}", *TLS, files=app_files(), pass_fds=[fd]),
            socket.socket(socket.AF_UNIX) as client,
        ):
            client.settimeout(5)
            client.connect(listener.getsockname())
            client.sendall(b"how\n")
            assert client.recv(100) == b"plain\n"
