"""Everything Paceline can say in its log: one row per event.  Pure.

A row has the event's name (for machines), its level, its sentence (for people) and how often it may be said.  A warning
carries a number, what it means and what to do; it never guesses a cause.  `Log` in host/output.py looks rows up here,
so an event that has no row cannot be logged, and a row nobody logs is found by a test.

A sentence agrees with its numbers: `{cut:# call was|# calls were}` is what is said of one and of many, `#` standing for
the number (`counted`).

`text_line` and `json_line` turn one event into what is written; a multi-line field (`detail`: a traceback, a stack) is
indented below the sentence in text and stays one field in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How loud an event is; the numbers are those of the standard library's logging module."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    name: str
    level: Level
    sentence: str
    every_s: float = 0.0
    """Said at most `burst` times within this time by one process (0: always); what was held back is counted in the next."""
    burst: int = 1


D, I, W, E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR  # noqa: E741 - a table reads best with one letter

# ruff: noqa: E501 - a row is one line, however long its sentence
_ROWS = (
    # the supervisor's life
    Kind("listening", I, "listening on {places} · {crew} · pid {pid}"),
    Kind("sockets-passed", I, "nobody said where to listen (--bind), and sockets were passed (LISTEN_FDS): they are served: {sockets}"),
    Kind("sockets-not-ours", W, "sockets were passed to process {of_pid} (LISTEN_PID), and this is process {pid}: they are ignored; if a shell starts the server, write exec before the command"),
    Kind("sockets-unused", W, "sockets were passed (LISTEN_FDS) that --bind does not name: {sockets}; nobody here serves who connects there; name them too, or take them out of the socket unit"),
    Kind("inherited-closed", I, "descriptors that were left open for us are closed: {fds}; a socket to be served is named (--bind fd://N), everything else a handler opens itself"),
    Kind("rights-dropped", I, "started as {before}; the addresses are open, and from here on everything runs as {user}{forbidden}"),
    Kind("root-kept", W, "the server and its handler run as root (uid 0): whoever finds a hole in the handler has all of it; give --user NAME, which opens the addresses first, or --user root if that is meant"),
    Kind("files-stay", W, "{user} cannot remove {files} at the end, because of the rights on the folder; a pid file is emptied then, and the next start replaces what is left; give them a folder of that user (systemd: RuntimeDirectory=)"),
    Kind("settings-unreadable", W, "{user} cannot read {file}, where settings come from: reloads are refused until that user may"),
    Kind("more-workers-than-cores", I, "{workers} workers on {cores:# usable core|# usable cores} ({why}): beyond the cores, processes only take turns"),
    Kind("stopping", I, "{signal}: stopping; calls have {within} to finish, a second signal ends them at once"),
    Kind("stopped", I, "stopped after {uptime}; {calls:# call|# calls} served"),
    Kind("stopping-now", I, "{signal}: ending at once"),
    Kind("cut", W, "{cut:# call was|# calls were} cut by {why}"),
    Kind("left-behind", W, "worker {slot} (pid {pid}) was killed and is still there; the kernel does not let go of it, and it is left behind"),
    Kind("start-failed", E, "cannot start: {why}"),
    Kind("upgrade-rehearsed", I, "upgrade: the new version is tried in a process of its own (pid {pid})"),
    Kind("upgrading", I, "upgrade: the new version was tried and takes over in this process: {command}"),
    Kind("upgraded", I, "upgraded from Paceline {before} to {version} (Python {python}) in place: pid {pid} is the same, {workers:# worker was|# workers were} kept; a reload follows"),
    Kind("upgrade-failed", E, "no upgrade: {why}; the running version goes on, nothing has changed"),
    Kind("manager-not-told", W, "the service manager is not told everything: {why}"),
    Kind("control-asked", I, "{request} is asked for on the control socket by {asker}", 1.0, burst=20),
    Kind("control-lost", W, "paceline ctl {lost}: {why}; the server serves all the same, and takes signals (HUP reloads, TERM stops)"),
    Kind("signal-unused", I, "{signal} does nothing in this version", 1.0, burst=6),
    Kind("supervisor-bug", E, "a bug in Paceline: {where}: {error}; the supervisor goes on", 1.0),
    Kind("degraded", E, "degraded: {deaths} workers died within a minute after they were ready; each is still replaced at once; look at the causes above"),
    Kind("recovered", I, "no longer degraded: {deaths:no death|# death|# deaths} within the last minute"),
    Kind("reloading", I, "reloading: generation {generation} starts beside the one that serves"),
    Kind("reloaded", I, "reloaded: generation {generation} serves, after {seconds:.2f} s; the one before hands its connections over and leaves"),
    Kind("reload-failed", E, "the reload failed and nothing has changed: {why}; generation {still} goes on"),
    Kind("reload-refused", E, "the reload is refused and nothing has changed: {why}"),
    Kind("config-read-once", W, "{name} is no regular file: what it said at the start still counts, and reloads do not read it again; restart the server to change its settings"),
    Kind("changed", I, "{files} changed"),
    Kind("not-watched", W, "files are not watched any more: the process that did has ended; reload by hand (paceline ctl reload, SIGHUP), or restart"),
    Kind("scaled", I, "{after:# worker|# workers} from now on, before {before}"),
    Kind("scale-refused", W, "{why}; it stays {workers:at # worker|at # workers}", 1.0, burst=6),
    Kind("replacing", I, "worker {slot} (pid {pid}) is replaced: {why}; a new one starts first"),
    Kind("quarantined", W, "worker {slot} (pid {pid}) is replaced: {why}; its other calls finish, its connections move"),
    Kind("rss-too-small", W, "worker {slot} (pid {pid}) is new and has {used} in memory, more than the {limit} of --max-rss: such workers are replaced after {after}, or when they have twice as much, not at once, for the next one would be no smaller; raise --max-rss"),
    # the workers' lives, as the supervisor sees them
    Kind("worker-started", D, "worker {slot} started as pid {pid} on seat {seat}"),
    Kind("worker-ready", D, "worker {slot} (pid {pid}) is ready after {seconds:.2f} s: {kind} handler, framing {framing}"),
    Kind("worker-died", E, "worker {slot} (pid {pid}) {cause} after {uptime} while {doing}; {next}"),
    Kind("worker-left", I, "worker {slot} (pid {pid}) left after {uptime}"),
    Kind("worker-failed", E, "worker {slot} (pid {pid}) could not start: {why}; {next}"),
    Kind("worker-killed", W, "worker {slot} (pid {pid}) is killed: {why}"),
    Kind("fork-failed", E, "no process could be made for worker {slot}: {error}; tried again in {seconds:.1f} s (see the limits on processes and memory)", 1.0),
    Kind("orphan-reaped", D, "reaped pid {pid}, a process of somebody else, which {cause}"),
    # inside a worker
    Kind("draining", D, "draining: {connections:# connection|# connections} open, {calls:# call|# calls} running"),
    Kind("drained", D, "drained"),
    Kind("handed-over", I, "handed over {moved:no connection|# connection|# connections}{left}"),
    Kind("nothing-handed-over", D, "there was no connection to hand over"),
    Kind("handover-misfit", W, "{peer} is disconnected: it was handed over with {bytes} bytes of an unfinished message, and {why}", 1.0, burst=20),
    Kind("supervisor-gone", W, "the supervisor is gone: finishing what runs, then leaving"),
    Kind("header-refused", W, "{peer} is disconnected: it is in --proxy-protocol, and {why}", 1.0, burst=20),
    Kind("peer-not-tls", I, "{peer} is disconnected: {why}, and {listener} speaks TLS (--tls-cert)", 1.0, burst=20),
    Kind("peer-tls", I, "{peer} begins as TLS does, and {listener} speaks plain text: if it is TLS, nothing there can understand it; serve TLS with --tls-cert, or have the client speak plain text", 1.0, burst=20),
    Kind("handshake-failed", I, "{peer} is disconnected: {why}", 1.0, burst=20),
    Kind("certificates-renewed", I, "the certificates have changed; new connections get {certificates}"),
    Kind("certificates-refused", W, "the files of the certificates have changed and cannot be used: {why}; those from before go on, and the next change is another try"),
    Kind("certificate-ends", W, "the certificate in {file} (of {names}) {why}; put a new one in its place: it is seen within a second"),
    Kind("key-readable", W, "the private key in {file} can be read by every user of this machine: chmod 600, or 640 with a group of its own"),
    Kind("handler-failed", E, "the handler raised {error} for message {message} of {peer}; that connection is closed, no other is touched", 1.0, burst=20),
    Kind("connection-failed", E, "the handler raised {error} while it had the connection of {peer}; that connection is closed, no other is touched", 1.0, burst=20),
    Kind("reply-refused", E, "the handler returned {got} {message:to greet|for message # of|for message # of} {peer}; a reply is bytes, None, an iterable of bytes, paceline.File or paceline.Close; that connection is closed", 1.0, burst=20),
    Kind("reply-too-large", E, "the handler returned {bytes} bytes {message:to greet|for message # of|for message # of} {peer}, more than the {limit} of --max-buffer: return it in pieces (an iterable), or raise --max-buffer; that connection is closed", 1.0, burst=20),
    Kind("reply-unused", W, "the handler returned {got}, but a connection handler sends by itself, with conn.sendall; what it returns is dropped (connection of {peer})", 1.0, burst=20),
    Kind("hook-failed", E, "{hook} raised {error}{where}", 1.0, burst=20),
    Kind("peer-broke", I, "{peer} is disconnected {message:before its first message|after message #|after message #}: {error}", 1.0, burst=20),
    Kind("peer-slow", I, "{peer} is disconnected: {why}", 1.0, burst=20),
    Kind("peer-refused", I, "{peer} is refused: {why}", 1.0),
    Kind("peer-reset", D, "{peer} reset the connection"),
    Kind("saturated", W, "{threads:the only thread is inside a call|all # threads are inside calls}{waiting}; new connections go to other workers or wait; raise --threads if the calls wait for something, --workers if they compute", 10.0),
    Kind("overloaded", W, "overloaded: who is next has waited for {wait:.2f} s, and not less at any moment of the last {interval:g} s; {next}", 10.0),
    Kind("overload-over", I, "no longer overloaded, after {seconds:.1f} s{shed}", 10.0),
    Kind("call-stuck", W, "{call} has run for {seconds:.1f} s in thread {thread}, longer than the {limit} that are allowed {said_by}; {next}", 10.0, burst=100),
    Kind("call-ended-late", I, "the call that was too long in thread {thread} ended after all, after {seconds:.1f} s", 10.0, burst=100),
    Kind("thread-refused", W, "no further thread could be made ({error}); {threads:# thread goes|# threads go} on; raise the limits on processes and memory (ulimit -u, pids.max), or lower --threads", 10.0),
    Kind("accept-paused", W, "no descriptors left for new connections ({error}): accepting pauses for {seconds} s at a time; {open:# connection stays|# connections stay} served; raise the limit (ulimit -n) or lower --max-connections", 1.0),
    Kind("accept-failed", W, "accepting failed: {error}; tried again in {seconds} s", 1.0),
    Kind("connections-full", W, "{open:# connection is|# connections are} open, which is the limit (--max-connections): new ones wait in the backlog; raise it, or share them among more workers (--workers)", 10.0),
    Kind("connections-paced", W, "connections come faster than {rate}, which is the limit of each worker (--max-connection-rate): they wait in the backlog; raise it, or share them among more workers (--workers)", 10.0),
    Kind("forked-child-returned", W, "a process forked by the handler returned into the server's code; it was ended"),
    Kind("bug", E, "a bug in Paceline: {where}: {error}; one connection is closed, the worker goes on"),
    Kind("log-reopened", D, "the log goes on in {path}"),
    Kind("log-not-a-file", D, "there is no log file to be opened anew: standard error is not a regular file"),
    Kind("log-reopen-failed", W, "the log cannot go on in {path}: {error}; it stays where it was (see the rights on the folder, and what rotates the log)"),
    Kind("setting-unknown", W, "{text}"),
)  # fmt: skip

TABLE: Mapping[str, Kind] = {kind.name: kind for kind in _ROWS}


SENTENCE_CHARACTERS = 2_000
DETAIL_CHARACTERS = 64 * 1024
"""The most of a sentence or field, and of a detail, that is written: an exception's text may hold a whole message."""

_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""Control characters as text: what a peer sent can neither begin a line of its own in the log nor steer a terminal."""
_ESCAPED_JSON = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""The same where JSON itself asks for no escape; outside of strings these characters do not occur in it."""


def counted(n: int, forms: str) -> str:
    """What is said of so many: `forms` is a noun, or what is said of one and of many, `#` standing for the number.

    counted(2, "call")                     2 calls
    counted(1, "# call was|# calls were")  1 call was
    counted(0, "nobody|# peer|# peers")    nobody
    """
    said = forms.split("|") if "|" in forms else [f"# {forms}", f"# {forms}s"]
    of_none = said.pop(0) if len(said) > 2 else said[-1]
    form = said[0] if n == 1 else said[-1] if n else of_none
    return form.replace("#", str(n))


class _Number(int):
    """A number in a sentence."""

    def __format__(self, spec: str) -> str:
        return counted(self, spec) if "|" in spec else int.__format__(self, spec)


def sentence_of(kind: Kind, fields: Mapping[str, object], held_back: int = 0, dropped: int = 0) -> str:
    """The event as one sentence without control characters.  Never raises, whatever the fields are.

    `held_back` equal events were not written since the last one; `dropped` lines could not be written before this one.
    """
    try:
        sentence = kind.sentence.format_map(
            {name: _Number(value) if type(value) is int else value for name, value in fields.items()}
        )
    except Exception:  # noqa: BLE001 - a field is missing, or it is the user's and its __str__ raises
        named = " ".join(f"{name}={_text_of(value)}" for name, value in fields.items() if name != "detail")
        sentence = f"{kind.name}: {named}"
    sentence = _shortened(sentence.translate(_ESCAPED), SENTENCE_CHARACTERS)
    if held_back:
        sentence += f" ({counted(held_back, '# more like this was|# more like this were')} not written)"
    if dropped:
        sentence += f" ({counted(dropped, '# line before this one was|# lines before this one were')} lost: standard error did not take them)"
    return sentence


def text_line(
    stamp: str,
    who: str,
    kind: Kind,
    fields: Mapping[str, object],
    *,
    held_back: int = 0,
    dropped: int = 0,
    color: bool = False,
) -> str:
    """`2026-11-24 17:22:01.123 warning worker 0: …`, the detail indented below; ends with a line feed.  Never raises."""
    level = kind.level.name.lower()
    if color and kind.level >= W:
        level = f"\x1b[{31 if kind.level >= E else 33}m{level}\x1b[0m"
    line = f"{stamp} {level} {who}: {sentence_of(kind, fields, held_back, dropped)}\n"
    detail = fields.get("detail")
    if not detail:
        return line
    parts = _shortened(_text_of(detail), DETAIL_CHARACTERS).replace("\r\n", "\n").rstrip("\n").split("\n")
    return line + "".join(f"    {part.translate(_ESCAPED)}".rstrip() + "\n" for part in parts)


def json_line(
    stamp: str,
    who: str,
    kind: Kind,
    fields: Mapping[str, object],
    *,
    held_back: int = 0,
    dropped: int = 0,
) -> str:
    """One JSON object per line: time, level, who, event, text, and every field under its own name.  Never raises.

    A field that is no JSON value is written as its text; one that has the name of a column of ours is left out.
    """
    import json  # only processes that log JSON pay for it

    record: dict[str, object] = {
        "time": stamp,
        "level": kind.level.name.lower(),
        "who": who,
        "event": kind.name,
        "text": sentence_of(kind, fields),
    }
    if held_back:
        record["held_back"] = held_back
    if dropped:
        record["dropped"] = dropped
    ours = len(record)
    for name, value in fields.items():
        record.setdefault(name, _shortened(value, DETAIL_CHARACTERS) if isinstance(value, str) else value)
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=_text_of)
    except (ValueError, TypeError, RecursionError):
        # a float that is no number, a container that holds itself, keys that are no text
        texts = {name: value if n < ours else _text_of(value) for n, (name, value) in enumerate(record.items())}
        line = json.dumps(texts, ensure_ascii=False)
    return line.translate(_ESCAPED_JSON) + "\n"


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's __str__
        return f"<{type(value).__name__} whose text cannot be had>"


def _shortened(text: str, limit: int) -> str:
    """At most about `limit` characters: the middle goes first, for a traceback's last lines say most."""
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]} … ({len(text) - limit} characters left out) … {text[head - limit :]}"
