r"""A key-value store that speaks enough of the Redis protocol for redis-cli and redis-benchmark, and keeps in SQLite.

    paceline serve examples/kv.py:store
    bash -c "exec 3<>/dev/tcp/127.0.0.1/8888; printf 'SET name Ada\r\nGET name\r\nQUIT\r\n' >&3; cat <&3"
    redis-cli -p 8888 incr visits
    redis-benchmark -p 8888 -t ping,set,get,incr -c 50 -P 16

Three parts, which know little of each other: the framing `Resp` makes requests of bytes, the commands of `Store` answer
them, SQLite keeps what is to be kept, in the file that KV_PATH names (kv.sqlite in the current folder without it).

Several processes serve, each with several threads, and all have the same data: what two of them must not do at the
same time is one SQL statement, and SQLite sees to it that nothing comes between.  A reply tells what is committed: it
survives the death of any process.  After a power failure the last moments may be missing (synchronous=NORMAL).  What
it takes from SQLite is in there since version 3.35.
"""

import fnmatch
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import paceline

# The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
#
# A request is a list of words, written as its length and each word behind its own length in bytes,
#     *2\r\n $3\r\nGET\r\n $4\r\nname\r\n    (without the spaces)
# or typed on a line: GET name.  A reply is an +OK, an -ERR and why, a :number, or a $length and so many bytes.

Request = list[bytes] | str
"""The words; or a str: what was wrong with the bytes of a peer that broke the protocol, as its last request."""

LENGTH = re.compile(rb"[*$](0|-?[1-9][0-9]{0,18})\r\n")
WORD = re.compile(rb"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"']+))(?!\S)""", re.DOTALL)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
NEAR = 1024
"""How many bytes behind an odd request are looked at in one go at first."""
CODES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class Resp:
    """Requests out of bytes.  Replies are bytes already: each command writes its own.

    most_words   of a request
    most_bytes   of a request, the lengths before the words counted in
    most_line    bytes of a line: of a request that was typed, or of a length
    """

    def __init__(self, *, most_words: int = 10_000, most_bytes: int = 1 << 20, most_line: int = 1 << 16) -> None:
        self.most_words, self.most_bytes, self.most_line = most_words, most_bytes, most_line
        # The lengths of most requests and words, as they are written, within the limits: see `skim`.
        self.counts = {b"*%d" % count: count for count in range(1, min(most_words, 32) + 1)}
        self.sizes = {b"$%d" % size: size for size in range(min(most_bytes // 32 - 10, 4096))}

    def cut(self, rest: Any, data: bytes) -> tuple[list[Request], Any]:
        """The complete requests, and as rest the unfinished one: what is known of it so far, in a dictionary."""
        requests: list[Request] = []
        if isinstance(rest, paceline.Broken):
            return requests, rest
        at, window, is_odd = 0, len(data), False
        try:
            while at < len(data):
                if rest is None and not is_odd:
                    # Behind what is odd, only as far as was worth it so far: the work is in proportion to the bytes.
                    begun, at = at, self.skim(data, at, at + window, requests)
                    is_odd = begun + window >= len(data) or at - begun < window // 2
                    window = NEAR if is_odd else 2 * window
                else:
                    at, rest = self.step(rest or fresh(), data, at, requests)
                    is_odd = data[at : at + 1] != b"*"
        except paceline.BadFrame as wrong:
            requests.append(str(wrong))  # so that the peer is told; the server logs it, too, and then hangs up
            rest = paceline.Broken(wrong)
        return requests, rest

    def skim(self, data: bytes, at: int, end: int, requests: list[Request]) -> int:
        """The requests that lie open to view, as nearly all do: complete, with no CRLF inside a word.  Where they end.

        This is what makes it fast: one split for all of them, and for each two slices, the lengths and the words, which
        have to fit.  Where they do not, that is no error yet: `step` has a closer look.
        """
        data = data[at:end]
        lines = data.split(b"\r\n")
        last = len(lines) - 1  # no line: what stands behind the last CRLF
        line = 0
        while line < last and (count := self.counts.get(lines[line])):
            after = line + 1 + 2 * count
            words = lines[line + 2 : after : 2]
            if after > last or list(map(len, words)) != list(map(self.sizes.get, lines[line + 1 : after : 2])):
                break
            requests.append(words)
            line = after
        return at + len(data) - len(b"\r\n".join(lines[line:]))

    def step(self, rest: dict[str, Any], data: bytes, at: int, requests: list[Request]) -> tuple[int, Any]:
        """Take one word or one line, or as much of it as has come: where that ends, and the rest.  Raises BadFrame."""
        kept: bytearray = rest["kept"]  # grows in place, so that the work stays in proportion to the bytes
        if size := rest["size"]:
            end = min(at + size - len(kept), len(data))
            kept += data[at:end]
            return end, rest if len(kept) < size else self.take_word(rest, kept, requests)
        found = data.find(b"\n", at)
        end = len(data) if found < 0 else found + 1
        kept += data[at : min(end, at + self.most_line + 1)]
        if len(kept) > self.most_line:
            typed = "mbulk count string" if kept[:1] == b"*" else "inline request"
            raise broken(f"too big {'bulk count string' if rest['left'] else typed}")
        return end, rest if found < 0 else self.take_line(rest, bytes(kept), requests)

    def take_word(self, rest: dict[str, Any], kept: bytearray, requests: list[Request]) -> Any:
        """A word of a request, with CRLF behind it.  The rest: None if that was the last word."""
        if not kept.endswith(b"\r\n"):
            raise broken(f"expected CRLF behind {len(kept) - 2} bytes, got {shown(kept[-2:])}")
        rest["words"].append(bytes(memoryview(kept)[:-2]))
        rest["kept"], rest["size"] = bytearray(), 0
        rest["left"] -= 1
        if rest["left"]:
            return rest
        requests.append(rest["words"])
        return None

    def take_line(self, rest: dict[str, Any], line: bytes, requests: list[Request]) -> Any:
        """The length of a word, the length of a request, or a request that somebody typed.  The rest."""
        length = LENGTH.fullmatch(line)
        if rest["left"]:
            if not line.startswith(b"$"):
                raise broken(f"expected '$', got {shown(line[:1])}")
            rest["size"] = int(length[1]) + 2 if length else 0
            rest["bytes"] += len(line) + rest["size"]
            if rest["size"] < 2 or rest["bytes"] > self.most_bytes:
                raise broken("invalid bulk length")
        elif line.startswith(b"*"):
            if length is None or int(length[1]) > self.most_words:
                raise broken("invalid multibulk length")
            if int(length[1]) <= 0:  # a request of no words is none
                return None
            rest["left"], rest["bytes"] = int(length[1]), len(line)
        else:
            if words := spelled(line):
                requests.append(words)
            return None
        rest["kept"] = bytearray()
        return rest

    def join(self, replies: Sequence[bytes]) -> bytes:
        return b"".join(replies)


def fresh() -> dict[str, Any]:
    """A request of which nothing is known.

    left   how many words are still to come        size   bytes of the one that comes now, with its CRLF; 0: a line
    words  those that have come                    kept   what has come of it
    bytes  how long the request is so far
    """
    return {"left": 0, "words": [], "bytes": 0, "size": 0, "kept": bytearray()}


def broken(what: str) -> paceline.BadFrame:
    return paceline.BadFrame(f"Protocol error: {what}")


def spelled(line: bytes) -> list[bytes]:
    r"""The words of a line as a person types it: 'as it is', "with \x00, \n and \" in it".  Raises BadFrame."""
    if b'"' not in line and b"'" not in line:
        return line.split()
    words, line, at = [], line.rstrip(), 0
    while at < len(line):
        word = WORD.match(line, at)
        if word is None:
            raise broken("unbalanced quotes in request")
        double, single, plain = word.groups()
        words.append(plain or single or ESCAPE.sub(unescaped, double or b""))
        at = word.end()
    return words


def unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else CODES.get(code, code)


def shown(word: bytes | bytearray) -> str:
    """What a peer sent, in an error: nothing in it ends the line."""
    return "'" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in word[:128]) + "'"


# Replies

OK, NOTHING, EMPTY_LIST = b"+OK\r\n", b"$-1\r\n", b"*0\r\n"


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def number(value: int) -> bytes:
    return b":%d\r\n" % value


def error(text: str) -> bytes:
    """`text` begins with the kind of error, a word in capitals."""
    return b"-%b\r\n" % " ".join(text.split()).encode()


# The store

PATIENCE_S = 5.0
"""How long a command waits for others to finish writing."""

CREATE = "CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
GET = "SELECT value FROM pairs WHERE key = ?"
SET = "INSERT INTO pairs VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
LARGEST = "9223372036854775807"
# One statement: between two, another process could count, and one of the counts would be lost.  A number is what stays
# the same when it is read as one and written again, unlike `1.0`, ` 1`, `01` and what has too many digits.
INCR = f"""
    INSERT INTO pairs VALUES (?, CAST('1' AS BLOB))
    ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS BLOB)
    WHERE value = CAST(CAST(value AS INTEGER) AS BLOB) AND value <> CAST('{LARGEST}' AS BLOB)
    RETURNING value"""

NO_INTEGER = "value is not an integer or out of range"
CONFIG = {b"save": b"", b"appendonly": b"no"}  # redis-benchmark asks for these


class Store:
    """One in each process; its connections to the database are one in each thread."""

    framing = Resp()

    def __init__(self) -> None:
        self.path = os.environ.get("KV_PATH", "kv.sqlite")
        self.own = threading.local()
        self.turn = threading.Lock()

    def start(self) -> None:
        """Once in each process, before anything is served: the file is there, and the table in it."""
        try:
            with closing(self.open()) as connection:
                connection.execute(CREATE)
        except sqlite3.Error as failed:
            raise OSError(f"KV_PATH: nothing can be kept in {os.path.abspath(self.path)}: {failed}") from None

    def thread_start(self) -> None:
        self.own.connection = self.open()

    def thread_stop(self) -> None:
        self.own.connection.close()

    def open(self) -> sqlite3.Connection:
        # isolation_level=None: each statement is a transaction, which ends when its last row was fetched.
        connection = sqlite3.connect(self.path, timeout=PATIENCE_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")  # who reads and who writes do not wait for each other
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def __call__(self, request: Request) -> bytes | paceline.Close:
        if isinstance(request, str):
            return error(f"ERR {request}")
        name = request[0]
        command = COMMANDS.get(name) or COMMANDS.get(name.upper())
        if command is None:
            known = f"with args beginning with: {' '.join(shown(word) for word in request[1:4])}"
            return error(f"ERR unknown command {shown(name)}, {known}")
        answer, least, most = command
        if not least < len(request) <= most + 1:
            return error(f"ERR wrong number of arguments for {shown(name.lower())} command")
        try:
            return answer(self, *request[1:])
        except (TimeoutError, sqlite3.Error) as failed:
            code = getattr(failed, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_BUSY or isinstance(failed, TimeoutError):
                return error(f"BUSY {self.path} has been locked for {PATIENCE_S:g} s by others that write; try again")
            return error(f"ERR {self.path}: {failed}")

    def query(self, sql: str, *values: bytes) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.own.connection.execute(sql, values).fetchall()
        return rows

    def write(self, sql: str, *values: bytes) -> list[tuple[Any, ...]]:
        """Only one thread of each process waits at the file, where SQLite looks again now and then; the others queue.

        Else a crowd of them would keep the write-ahead log from ever being emptied, and some would wait for long.
        """
        if not self.turn.acquire(timeout=PATIENCE_S):
            raise TimeoutError
        try:
            return self.query(sql, *values)
        finally:
            self.turn.release()

    def get(self, key: bytes) -> bytes:
        rows = self.query(GET, key)
        return bulk(rows[0][0]) if rows else NOTHING

    def set(self, key: bytes, value: bytes, *options: bytes) -> bytes:
        if options:
            return error(f"ERR this store has no option {shown(options[0].upper())} of SET")
        self.write(SET, key, value)
        return OK

    def delete(self, *keys: bytes) -> bytes:
        return number(len(self.write(f"DELETE FROM pairs WHERE key IN ({marks(keys)}) RETURNING 1", *keys)))

    def exists(self, *keys: bytes) -> bytes:
        found = {key for (key,) in self.query(f"SELECT key FROM pairs WHERE key IN ({marks(keys)})", *keys)}
        return number(sum(key in found for key in keys))  # one that is asked for twice counts twice

    def increment(self, key: bytes) -> bytes:
        if rows := self.write(INCR, key):
            return b":%b\r\n" % rows[0][0]
        too_large = self.query(GET, key) == [(LARGEST.encode(),)]  # asked late, and only to choose the words
        return error(f"ERR {'increment or decrement would overflow' if too_large else NO_INTEGER}")

    def size(self) -> bytes:
        return number(self.query("SELECT count(*) FROM pairs")[0][0])

    def ping(self, text: bytes | None = None) -> bytes:
        return b"+PONG\r\n" if text is None else bulk(text)

    def command(self, verb: bytes = b"LIST", *_names: bytes) -> bytes:
        """redis-cli asks for this at its start, and lives without it."""
        return number(len(COMMANDS)) if verb.upper() == b"COUNT" else EMPTY_LIST

    def config(self, verb: bytes, *names: bytes) -> bytes:
        if verb.upper() != b"GET":
            return error(f"ERR CONFIG {shown(verb)} is not possible: this store has nothing to configure")
        # Not fnmatch itself, which would keep thousands of compiled patterns; what is longer names none of ours.
        globs = [re.compile(fnmatch.translate(name.lower().decode("latin-1"))) for name in names if len(name) <= 64]
        known = [name for name in CONFIG if any(glob.match(name.decode()) for glob in globs)]
        return b"*%d\r\n" % (2 * len(known)) + b"".join([bulk(name) + bulk(CONFIG[name]) for name in known])

    def quit(self) -> paceline.Close:
        return paceline.Close(OK)  # sent, then the connection ends

    def web(self, *_words: bytes) -> paceline.Close:
        """A web page can make a browser send us a request, with commands in its body: that is as far as it comes."""
        return paceline.Close(error("ERR this is no web server"))


def marks(values: Sequence[bytes]) -> str:
    return ",".join("?" * len(values))


MANY = Store.framing.most_words

COMMANDS: dict[bytes, tuple[Callable[..., bytes | paceline.Close], int, int]] = {
    # name: the method, and how many arguments it takes at least and at most
    b"GET": (Store.get, 1, 1),
    b"SET": (Store.set, 2, MANY),
    b"DEL": (Store.delete, 1, MANY),
    b"EXISTS": (Store.exists, 1, MANY),
    b"INCR": (Store.increment, 1, 1),
    b"DBSIZE": (Store.size, 0, 0),
    b"PING": (Store.ping, 0, 1),
    b"ECHO": (Store.ping, 1, 1),
    b"COMMAND": (Store.command, 0, MANY),
    b"CONFIG": (Store.config, 2, MANY),
    b"QUIT": (Store.quit, 0, 0),
    b"POST": (Store.web, 0, MANY),
    b"HOST:": (Store.web, 0, MANY),
}

store = Store  # `paceline serve examples/kv.py:store`: each process makes one
