"""Handlers of the standard library's servers, unmodified, in a real server, with their real clients."""

import http.client
import logging
import logging.handlers
import socket
import subprocess
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testbed import run_to_end, running

HTTP = """
import http.server
from functools import partial

class Keeping(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

Files = partial(http.server.SimpleHTTPRequestHandler, directory="public")
Kept = partial(Keeping, directory="public")
"""

XMLRPC = """
import os
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

class Dispatcher(SimpleXMLRPCDispatcher):
    logRequests = False

dispatcher = Dispatcher(allow_none=True)
dispatcher.register_introspection_functions()
dispatcher.register_function(pow)
dispatcher.register_function(lambda text: text.upper(), "upper")

class Handler(SimpleXMLRPCRequestHandler):
    server = dispatcher
"""

LOGS = '''
import logging
import pickle
import socketserver
import struct

logging.basicConfig(format="%(name)s|%(levelname)s|%(message)s")

class LogRecordStreamHandler(socketserver.StreamRequestHandler):
    """As in the logging cookbook, section "Sending and receiving logging events across a network"."""

    def handle(self):
        while True:
            chunk = self.connection.recv(4)
            if len(chunk) < 4:
                break
            slen = struct.unpack(">L", chunk)[0]
            chunk = self.connection.recv(slen)
            while len(chunk) < slen:
                chunk = chunk + self.connection.recv(slen - len(chunk))
            self.handleLogRecord(logging.makeLogRecord(pickle.loads(chunk)))

    def handleLogRecord(self, record):
        name = self.server.logname if self.server.logname is not None else record.name
        logging.getLogger(name).handle(record)

class Receiver(LogRecordStreamHandler):
    server = type("Names", (), {"logname": None})()
'''


@pytest.mark.parametrize("target", ["app.py:Files", "app.py:Kept"])
def test_files_over_http(target: str) -> None:
    files = {"app.py": HTTP, "public/hello.txt": "hello\n", "public/large.bin": "x" * 3_000_000}
    with running(target, "--workers", "2", files=files) as server:
        host, port = server.address
        url = f"http://{host}:{port}"
        done = subprocess.run(["curl", "-sSi", f"{url}/hello.txt"], capture_output=True, timeout=30, check=True)
        assert done.stdout.startswith(b"HTTP/1.1 200 OK" if target.endswith("Kept") else b"HTTP/1.0 200 OK")
        assert done.stdout.endswith(b"\r\n\r\nhello\n")
        done = subprocess.run(["curl", "-sS", f"{url}/large.bin"], capture_output=True, timeout=30, check=True)
        assert len(done.stdout) == 3_000_000
        done = subprocess.run(["curl", "-sS", f"{url}/missing"], capture_output=True, timeout=30, check=True)
        assert b"404" in done.stdout
        assert (
            b"hello.txt"
            in subprocess.run(["curl", "-sS", f"{url}/"], capture_output=True, timeout=30, check=True).stdout
        )


def test_a_kept_connection_answers_request_after_request() -> None:
    with running("app.py:Kept", "--workers", "1", files={"app.py": HTTP, "public/hello.txt": "hello\n"}) as server:
        client = http.client.HTTPConnection(*server.address, timeout=30)
        client.connect()
        first = client.sock
        for _ in range(20):
            client.request("GET", "/hello.txt")
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"hello\n")
        assert client.sock is first
        client.close()


def test_calls_by_xmlrpc_from_many_clients_at_once() -> None:
    with running("app.py:Handler", "--workers", "2", files={"app.py": XMLRPC}) as server:
        host, port = server.address

        def work(number: int) -> list[object]:
            with xmlrpc.client.ServerProxy(f"http://{host}:{port}/RPC2", allow_none=True) as proxy:
                names: Any = proxy.system.listMethods()
                return [proxy.pow(2, number), proxy.upper("abc"), sorted(names)[:1]]

        with ThreadPoolExecutor(8) as pool:
            for number, found in enumerate(pool.map(work, range(16))):
                assert found == [2**number, "ABC", ["pow"]]
        with (
            xmlrpc.client.ServerProxy(f"http://{host}:{port}/RPC2") as proxy,
            pytest.raises(xmlrpc.client.Fault, match="nothing"),
        ):
            proxy.nothing()


def test_log_records_of_other_processes_arrive() -> None:
    with running("app.py:Receiver", "--workers", "1", files={"app.py": LOGS}) as server:
        handler = logging.handlers.SocketHandler(*server.address)
        logger = logging.getLogger("of.the.client")
        logger.propagate = False
        logger.addHandler(handler)
        try:
            for number in range(50):
                logger.warning("record %d", number)
            server.wait_for_log("of.the.client|WARNING|record 49")
        finally:
            logger.removeHandler(handler)
            handler.close()
        found = [line for line in server.log.splitlines() if "|WARNING|" in line]
        assert found == [f"of.the.client|WARNING|record {number}" for number in range(50)]


def test_what_it_is_is_told_before_anything_is_served() -> None:
    ended = run_to_end("serve", "app.py:Handler", "--check", files={"app.py": XMLRPC})
    assert ended.code == 0
    assert "app.py:Handler is a socketserver handler" in ended.output


@pytest.mark.parametrize(
    ("code", "options", "said"),
    [
        ("class H(s.StreamRequestHandler): pass", (), "has no handle() of its own, so it would do nothing"),
        ("class H(s.DatagramRequestHandler):\n def handle(self): ...", (), "is a handler for datagrams (UDP)"),
        ("class H(s.BaseRequestHandler):\n async def handle(self): ...", (), "is written with `async def`"),
        ("class H(s.BaseRequestHandler):\n def handle(self): ...", ("--as", "message"), "leave out --as message"),
        (
            "class H(s.BaseRequestHandler):\n def handle(self): ...",
            ("--framing", "line"),
            "--framing line has no meaning",
        ),
        ("H = s.TCPServer", (), "is a socketserver server, which binds and listens by itself"),
        ("def H(message): ...", ("--as", "socketserver"), "is no socketserver handler"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(code: str, options: tuple[str, ...], said: str) -> None:
    ended = run_to_end("serve", "app.py:H", *options, files={"app.py": f"import socketserver as s\n{code}\n"})
    assert ended.code == 3
    assert said in ended.log


def test_silent_clients_hold_no_threads() -> None:
    with running("app.py:Kept", "--threads", "2", "--workers", "1", files={"app.py": HTTP, "public/a": "a"}) as server:
        host, port = server.address
        quiet = [socket.create_connection((host, port), 10) for _ in range(50)]
        try:
            client = http.client.HTTPConnection(host, port, timeout=30)
            client.request("GET", "/a")
            assert client.getresponse().read() == b"a"
            client.close()
        finally:
            for one in quiet:
                one.close()
