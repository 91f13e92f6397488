"""examples/kv.py served: its commands, its protocol over a wire, and the clients of Redis.

What its framing makes of bytes is tested in test_kv_framing.py, what several processes do in test_kv_workers.py.
"""

import os
import random
import select
import subprocess
from contextlib import suppress

import pytest

from kvbed import CLIENT_S, ask, encoded, kept_in, needs_redis, redis_benchmark, reply_of, store
from testbed import Server

# commands


def test_commands() -> None:
    with store() as server:
        peer = server.connect()
        for request, reply in (
            ("PING", b"+PONG"),
            ("ping hello", b"hello"),
            ("ECHO hello", b"hello"),
            ("DBSIZE", b":0"),
            ("GET name", None),
            ("SET name Ada", b"+OK"),
            ("sEt name Grace", b"+OK"),
            ("GET name", b"Grace"),
            ("GET NAME", None),
            ("EXISTS name name other", b":2"),
            ("DBSIZE", b":1"),
            ("INCR visits", b":1"),
            ("INCR visits", b":2"),
            ("GET visits", b"2"),
            ("SET visits -1", b"+OK"),
            ("INCR visits", b":0"),
            ("DEL name visits visits other", b":2"),
            ("DEL name", b":0"),
            ("COMMAND DOCS", b"*0"),
            ("COMMAND", b"*0"),
            ("COMMAND COUNT", b":13"),
            ("CONFIG GET nothing", b"*0"),
            ("CONFIG GET * save", b"*4"), ("", b"save"), ("", b""), ("", b"appendonly"), ("", b"no"),
            ("CONFIG GET S[!b]?e", b"*2"), ("", b"save"), ("", b""),
            ("CONFIG GET save", b"*2"), ("", b"save"), ("", b""),
            ("CONFIG GET SAVE appendonly", b"*4"), ("", b"save"), ("", b""), ("", b"appendonly"), ("", b"no"),
            ("QUIT", b"+OK"),
        ):  # fmt: skip
            peer.send(encoded(*request.encode().split()) if request else b"")
            assert reply_of(peer) == reply, request
        assert peer.ended()


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("FLUSHALL", "-ERR unknown command 'FLUSHALL', with args beginning with:"),
        ("HELLO 3 a b c", "-ERR unknown command 'HELLO', with args beginning with: '3' 'a' 'b'"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("GET a b", "-ERR wrong number of arguments for 'get' command"),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
        ("DEL", "-ERR wrong number of arguments for 'del' command"),
        ("Incr", "-ERR wrong number of arguments for 'incr' command"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("SET a b ex 5", "-ERR this store has no option 'EX' of SET"),
        ("SET a b NX", "-ERR this store has no option 'NX' of SET"),
        ("CONFIG SET save 1", "-ERR CONFIG 'SET' is not possible: this store has nothing to configure"),
        (r'GET "a\r\nb" "c"', "-ERR wrong number of arguments for 'get' command"),
        (r'"a\r\n+OK\xff"', r"-ERR unknown command 'a\x0d\x0a+OK\xff', with args beginning with:"),
    ],
)
def test_what_a_command_refuses(request_: str, reply: str) -> None:
    with store(workers=1) as server:
        peer = server.connect()
        peer.send(request_.encode() + b"\r\nPING\r\n")
        assert peer.lines(2) == [reply.encode() + b"\r\n", b"+PONG\r\n"]
        assert kept_in(server) == {}


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        (b"", b"-ERR value is not an integer or out of range"),
        (b"one", b"-ERR value is not an integer or out of range"),
        (b"1.0", b"-ERR value is not an integer or out of range"),
        (b"1e3", b"-ERR value is not an integer or out of range"),
        (b" 1", b"-ERR value is not an integer or out of range"),
        (b"1 ", b"-ERR value is not an integer or out of range"),
        (b"+1", b"-ERR value is not an integer or out of range"),
        (b"01", b"-ERR value is not an integer or out of range"),
        (b"-0", b"-ERR value is not an integer or out of range"),
        (b"1\0", b"-ERR value is not an integer or out of range"),
        (b"\xff1", b"-ERR value is not an integer or out of range"),
        (b"9223372036854775808", b"-ERR value is not an integer or out of range"),
        (b"-9223372036854775809", b"-ERR value is not an integer or out of range"),
        (b"9223372036854775807", b"-ERR increment or decrement would overflow"),
        (b"9223372036854775806", b":9223372036854775807"),
        (b"-9223372036854775808", b":-9223372036854775807"),
        (b"-1", b":0"),
        (b"9", b":10"),
    ],
)
def test_what_can_be_incremented(value: bytes, reply: bytes) -> None:
    with store(workers=1) as server:
        peer = server.connect()
        assert ask(peer, b"SET", b"n", value) == b"+OK"
        assert ask(peer, b"INCR", b"n") == reply
        assert ask(peer, b"GET", b"n") == (reply[1:] if reply[:1] == b":" else value)


def test_keys_and_values_are_any_bytes() -> None:
    with store() as server:
        peer, other = server.connect(), server.connect()
        everything = bytes(range(256)) + b"\r\n$3\r\n"
        longest = random.Random(1).randbytes((1 << 20) - 400)
        for key, value in ((b"", b""), (everything, everything), (b"\0", b""), (b"\0\0", b"x\r\n"), (b"1", longest)):
            assert ask(peer, b"SET", key, value) == b"+OK"
            assert ask(other, b"GET", key) == value
        assert ask(peer, b"SET", b"1.0", b"text is not number") == b"+OK"
        assert ask(other, b"DBSIZE") == b":6"


def test_a_browser_is_sent_away_before_its_body_is_obeyed() -> None:
    with store(workers=1) as server:
        for first in (b"POST / HTTP/1.1", b"PUT / HTTP/1.1"):
            peer = server.connect()
            peer.send(first + b"\r\nHost: 127.0.0.1:8888\r\n\r\nSET a b\r\n")
            assert peer.receive_all().endswith(b"-ERR this is no web server\r\n")
        assert kept_in(server) == {}


# the protocol over a wire


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*20000\r\n", "invalid multibulk length"),
        (b"*1\r\n$1048577\r\n", "invalid bulk length"),
        (b"x" * 70_000, "too big inline request"),
        (b'GET "a\r\n', "unbalanced quotes in request"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_and_costs_nobody_else(bad: bytes, why: str) -> None:
    with store(workers=1) as server:
        other, wrong = server.connect(), server.connect()
        assert ask(other, b"PING") == b"+PONG"
        wrong.send(encoded(b"SET", b"a", b"1") + bad)
        wrong.half_close()
        assert wrong.receive_all() == b"+OK\r\n-ERR Protocol error: " + why.encode() + b"\r\n"
        server.wait_for_log(f"{wrong.name} is disconnected after message 2: Protocol error: {why}")
        assert ask(other, b"GET", b"a") == b"1"


def test_garbage_does_no_harm() -> None:
    chance = random.Random(7)
    with store() as server:
        other = server.connect()
        for _ in range(30):
            peer = server.connect()
            peer.send(
                chance.choice((b"", b"*3\r\n$3\r\n", b"*1\r\n")) + chance.randbytes(chance.randrange(3000)) + b"\n"
            )
            peer.half_close()
            with suppress(ConnectionResetError):  # it had sent more than is read after the error
                peer.receive_all()
            assert ask(other, b"PING") == b"+PONG"
        assert "Traceback" not in server.log


def test_a_request_that_arrives_byte_by_byte_and_requests_that_arrive_at_once() -> None:
    with store(workers=1) as server:
        peer = server.connect()
        request = encoded(b"ECHO", b"a\r\nb")
        peer.send(*[request[at : at + 1] for at in range(len(request))])
        assert reply_of(peer) == b"a\r\nb"
        count = 5000
        peer.send(b"".join([encoded(b"ECHO", b"%d\r\n" % n) + encoded(b"ECHO", b"%d" % n) for n in range(count)]))
        assert [reply_of(peer) for _ in range(2 * count)] == [
            b"%d" % n + end for n in range(count) for end in (b"\r\n", b"")
        ]


# the clients of Redis


def redis_cli(server: Server, *words: str, typed: str | None = None) -> str:
    host, port = server.address
    command = ["redis-cli", "-h", host, "-p", str(port), *words]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=CLIENT_S, check=True)
    assert done.stderr == ""
    return done.stdout


@needs_redis
def test_redis_cli() -> None:
    with store() as server:
        assert redis_cli(server, "ping") == "PONG\n"
        assert redis_cli(server, "set", "name", "Ada Lovelace") == "OK\n"
        assert redis_cli(server, "get", "name") == "Ada Lovelace\n"
        assert redis_cli(server, "--no-raw", "get", "other") == "(nil)\n"
        assert redis_cli(server, "--no-raw", "incr", "n") == "(integer) 1\n"
        assert redis_cli(server, "set", "a", "b", "EX", "5") == "ERR this store has no option 'EX' of SET\n\n"
        assert redis_cli(server, "-r", "20", "incr", "n").split() == [str(n) for n in range(2, 22)]
        assert redis_cli(server, typed='set a "x\\ty"\nget a\ndbsize\n') == "OK\nx\ty\n3\n"
        assert redis_cli(server, "config", "get", "appendonly") == "appendonly\nno\n"


@needs_redis
def test_redis_cli_loads_what_it_is_given_as_a_pipe() -> None:
    with store() as server:
        requests = "".join(encoded(b"SET", b"key %d" % n, b"x" * (n % 900)).decode() for n in range(2000))
        assert "errors: 0, replies: 2000" in redis_cli(server, "--pipe", typed=requests)
        assert redis_cli(server, "dbsize") == "2000\n"


@needs_redis
def test_redis_cli_in_a_terminal() -> None:
    """It asks for the commands at its start, to complete what is typed, and does without them."""
    with store(workers=1) as server:
        host, port = server.address
        ours, its = os.openpty()
        try:
            command = ["redis-cli", "-h", host, "-p", str(port)]
            client = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "dumb"})
            try:
                shown = read_until(ours, f"{host}:{port}> ".encode())
                os.write(ours, b"incr visits\n")
                shown += read_until(ours, b"(integer) 1\r\n")
                os.write(ours, b"quit\n")
                assert client.wait(CLIENT_S) == 0
            finally:
                client.kill()
                client.wait()
            assert b"ERR" not in shown
        finally:
            os.close(ours)
            os.close(its)


def read_until(fd: int, end: bytes) -> bytes:
    got = b""
    while end not in got:
        assert select.select([fd], [], [], CLIENT_S)[0], got
        got += os.read(fd, 4096)
    return got


@needs_redis
@pytest.mark.parametrize("in_flight", [1, 16])
def test_redis_benchmark(in_flight: int) -> None:
    with store() as server:
        found = redis_benchmark(server, "ping,set,get,incr", "-c", "50", "-n", "3200", "-P", str(in_flight))
        assert found.keys() == {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"}
        assert min(found.values()) > 0
        kept = kept_in(server)
        assert kept.keys() == {b"key:__rand_int__", b"counter:__rand_int__"}
        assert kept[b"counter:__rand_int__"] == b"3200"
        assert "message" not in server.log, "nobody was disconnected"
