"""Every setting of the server, once.  Pure.

The table is the body of `Settings`: a row's name, type and default, its kind of value (range, unit, choices), its help,
its group, and what a reload does with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from paceline.settings.networks import Networks
from paceline.settings.rights import Account, FileMode, Owner, SocketMode
from paceline.settings.secrecy import Files, Protocols, Version
from paceline.settings.values import (
    Addresses,
    CallLimit,
    Choice,
    Fraction,
    Frequency,
    Kind,
    Rate,
    Seconds,
    Size,
    Text,
    Whole,
    near,
)

KIB, MIB, GIB = 1024, 1024**2, 1024**3
DAY = 86_400.0

Reload = Literal["new workers", "at once", "restart"]
"""When a changed value takes effect: for workers started after the reload, at once, or not before a restart."""

SERVED = "What is served, and where"
GUESTS = "Who may connect, and how many"
SECRECY = "Encryption"
CREW = "Processes and threads"
SIZES = "Limits of number and size"
PEERS = "Limits of time: the peers"
CALLS = "Limits of time: the handler"
RECYCLING = "When a worker is replaced though it works"
WORKERS = "Limits of time: our own processes"
RIGHTS = "Rights"
AROUND = "Surroundings"


def _row(
    default: object, kind: Kind, group: str, help_: str, reload: Reload, *, short: str = "", also: str = ""
) -> Any:
    """One row of the table; `also` are the names that other servers have for it."""
    row = {"kind": kind, "group": group, "help": help_, "reload": reload, "short": short, "also": tuple(also.split())}
    return field(default=default, metadata=row)


def _limit(low: float, high: float = 7 * DAY, *, off: bool = False) -> Seconds:
    return Seconds(low=low, high=high, word="off" if off else "", metavar="TIME|off" if off else "TIME")


@dataclass(frozen=True, slots=True)
class Settings:
    """The values the server runs with; times in seconds, sizes in bytes.  None: what the row's help says."""

    target: str = _row(
        "echo", Text(metavar="TARGET"), SERVED,
        "the handler: module:attribute, path/to/file.py:attribute, or the built-in echo",
        "new workers", also="app application handler")  # fmt: skip
    bind: tuple[str, ...] = _row(
        ("127.0.0.1:8888",), Addresses(), SERVED,
        "where to listen: HOST:PORT, [::1]:PORT (IPv6 only), :PORT (all interfaces, by IPv4 and IPv6), unix:PATH, "
        "fd://N (an inherited socket) or fd://NAME (as systemd names it); port 0 takes a free one; may be given "
        "several times, or separated by commas in a single text; without it, the sockets that systemd passed, if it "
        "did",
        "restart", short="-b", also="address host listen port socket p")  # fmt: skip
    as_: str | None = _row(
        None, Choice(choices=("message", "connection", "socketserver"), word="auto", metavar="KIND"), SERVED,
        "how the handler is called: with each message, once with the whole connection, or as a handler class of "
        "socketserver; auto: as it is marked or is one, else with each message",
        "new workers", also="kind mode")  # fmt: skip
    framing: str | None = _row(
        None, Text(word="auto", metavar="FRAMING"), SERVED,
        "how messages are cut out of the bytes: raw, line, length:N, delimiter:X, fixed:N or netstring; auto: as the "
        "handler says, else raw",
        "new workers", also="protocol")  # fmt: skip
    start: str | None = _row(
        None, Choice(choices=("accept", "data"), word="auto", metavar="WHEN"), SERVED,
        "when a whole-connection call gets its thread: as soon as somebody connects, or when something has arrived; "
        "auto: as the handler says, else accept",
        "new workers")  # fmt: skip
    allow: tuple[str, ...] | None = _row(
        None, Networks(word="any", metavar="NETWORK|any"), GUESTS,
        "only who connects from one of these networks is served: 10.0.0.0/8, 2001:db8::/32, one address, or unix for "
        "all Unix sockets; others are disconnected at once; may be given several times, or separated by commas in a "
        "single text; any: everybody",
        "new workers", also="allowed allow_from allowed_ips whitelist permit")  # fmt: skip
    deny: tuple[str, ...] | None = _row(
        None, Networks(word="none", metavar="NETWORK|none"), GUESTS,
        "who connects from one of these networks is disconnected at once, also when --allow names it",
        "new workers", also="denied deny_from blocked blacklist")  # fmt: skip
    max_connections_per_address: int | None = _row(
        None, Whole(low=1, high=1_000_000, word="off", metavar="N|off"), GUESTS,
        "open connections from one address in each worker, at most; of IPv6 the first 64 bits count as the address; a "
        "further one is disconnected at once",
        "new workers", also="limit_conn max_connections_per_ip max_connections_per_source maxconn_per_ip")  # fmt: skip
    max_connection_rate: float | None = _row(
        None, Frequency(low=0.01, high=1_000_000, word="off", metavar="N/s|off"), GUESTS,
        "so many connections each worker lets in within a second, at most; further ones wait in the backlog",
        "new workers", also="rate_limit max_conn_rate connection_rate maxconnrate limit_rate")  # fmt: skip
    proxy_protocol: tuple[str, ...] | None = _row(
        None, Networks(word="off", metavar="NETWORK|off"), GUESTS,
        "connections from these networks (10.0.0.0/8, 2001:db8::/32, one address, or unix) are those of a proxy, and "
        "begin with a header of the PROXY protocol, version 1 or 2, that says who the peer really is; may be given "
        "several times, or separated by commas in a single text; off: nobody is a proxy",
        "new workers", also="proxy accept_proxy proxy_networks real_ip trusted_proxies")  # fmt: skip
    tls_cert: tuple[str, ...] | None = _row(
        None, Files(word="off", metavar="FILE|off"), SECRECY,
        "speak TLS on all TCP addresses, with the certificate in this file (PEM; itself first, then those between it "
        "and the root); given several times, the name that a client asks for (SNI) chooses, and the first one is for "
        "all others; a file that changes is read again; off: nothing is encrypted",
        "new workers", also="certfile cert ssl_cert ssl_certfile certificate ssl_certificate")  # fmt: skip
    tls_key: tuple[str, ...] | None = _row(
        None, Files(word="cert", metavar="FILE|cert"), SECRECY,
        "the private key of each --tls-cert, in the same order; cert: they are in the files of the certificates",
        "new workers", also="keyfile key ssl_key ssl_keyfile ssl_certificate_key private_key")  # fmt: skip
    tls_key_password_file: str | None = _row(
        None, Text(word="none", metavar="FILE|none"), SECRECY,
        "the file with the password of encrypted private keys; none: the variable PACELINE_TLS_KEY_PASSWORD, if there "
        "is one",
        "new workers", also="ssl_keyfile_password keyfile_password key_password ssl_password_file")  # fmt: skip
    tls_ca: str | None = _row(
        None, Text(word="none", metavar="FILE|none"), SECRECY,
        "the certificates of those who sign the certificates of clients (PEM)",
        "new workers", also="ca_certs ssl_ca ssl_ca_certs cafile ssl_client_certificate ca")  # fmt: skip
    tls_client_cert: str = _row(
        "none", Choice(choices=("none", "optional", "required"), metavar="WHEN"), SECRECY,
        "whether a client must show a certificate that --tls-ca has signed",
        "new workers", also="cert_reqs ssl_cert_reqs ssl_verify_client verify_client client_cert")  # fmt: skip
    alpn: tuple[str, ...] | None = _row(
        None, Protocols(word="none", metavar="NAME|none"), SECRECY,
        "the names of the protocols that may be agreed on in the handshake (ALPN, RFC 7301), the best first; may be "
        "given several times, or separated by commas in a single text",
        "new workers", also="alpn_protocols tls_alpn ssl_alpn")  # fmt: skip
    tls_min: str = _row(
        "1.2", Version(choices=("1.2", "1.3")), SECRECY,
        "the oldest version of TLS that is spoken",
        "new workers", also="ssl_version ssl_protocols tls_version ssl_min min_tls_version")  # fmt: skip
    workers: int | None = _row(
        None, Whole(low=1, high=1024, word="auto", metavar="N|auto"), CREW,
        "worker processes; auto: one for each usable core",
        "at once", short="-w", also="processes procs cores")  # fmt: skip
    max_workers: int | None = _row(
        None, Whole(low=1, high=1024, word="auto", metavar="N|auto"), CREW,
        "how many workers there may ever be; room for them is made at the start; auto: 4 × workers, at least 8 and at "
        "most 1024",
        "restart")  # fmt: skip
    threads: int = _row(
        64, Whole(low=1, high=4096), CREW,
        "threads in each worker, at most; a further one is made only when a handler blocks",
        "new workers", short="-t", also="concurrency")  # fmt: skip
    switch_interval: float = _row(
        0.001, _limit(0.00001, 1.0), CREW,
        "how long a thread that computes keeps the others of its worker waiting (sys.setswitchinterval)",
        "new workers")  # fmt: skip
    max_connections: int | None = _row(
        None, Whole(low=1, high=1_000_000, word="auto", metavar="N|auto"), SIZES,
        "open connections in each worker, at most; further ones wait in the backlog; auto: 10,000, or 64 fewer than "
        "the limit on descriptors (ulimit -n) if that is less",
        "new workers", also="worker_connections connection_limit")  # fmt: skip
    backlog: int = _row(
        2048, Whole(low=1, high=65_535), SIZES,
        "connections that the kernel keeps waiting for us to accept them; it allows no more than net.core.somaxconn",
        "restart")  # fmt: skip
    max_message: int = _row(
        MIB, Size(low=1, high=GIB), SIZES,
        "the longest message; a peer that sends a longer one is disconnected; a handler that answers with as much "
        "needs as large a --max-buffer",
        "new workers", also="max_size")  # fmt: skip
    max_buffer: int = _row(
        MIB, Size(low=4 * KIB, high=GIB), SIZES,
        "the most that is kept for a peer that does not read its replies; a peer for whom it is not enough is "
        "disconnected; a single reply that is larger is refused, unless it is returned in pieces (an iterable)",
        "new workers")  # fmt: skip
    max_buffered: int | None = _row(
        128 * MIB, Size(low=MIB, high=1024 * GIB, word="off", metavar="SIZE|off"), SIZES,
        "the most that a worker keeps for all its peers together, of replies that they do not read and messages that "
        "they do not finish; over it those for whom the most is kept are disconnected; looked at twice a second",
        "new workers", also="max_buffers max_buffer_total")  # fmt: skip
    first_byte_timeout: float | None = _row(
        None, _limit(0.01, off=True), PEERS,
        "a peer that connected must send something within this time",
        "new workers")  # fmt: skip
    message_timeout: float | None = _row(
        20.0, _limit(0.01, off=True), PEERS,
        "a message that has begun must be complete within this time, prolonged by --min-rate",
        "new workers")  # fmt: skip
    min_rate: int = _row(
        500, Rate(low=1, high=GIB, word="off", means=0, metavar="RATE|off"), PEERS,
        "so many bytes of an unfinished message prolong --message-timeout by one second; off: none do",
        "new workers")  # fmt: skip
    proxy_timeout: float = _row(
        5.0, _limit(0.01), PEERS,
        "a proxy must have said for whom it has connected within this time",
        "new workers", also="accept_proxy_timeout")  # fmt: skip
    handshake_timeout: float = _row(
        5.0, _limit(0.01), PEERS,
        "a peer must have done its part of the TLS handshake within this time",
        "new workers", also="tls_timeout tls_handshake_timeout ssl_handshake_timeout")  # fmt: skip
    write_timeout: float = _row(
        10.0, _limit(0.01), PEERS,
        "a peer that has replies waiting must take some of them within this time",
        "new workers")  # fmt: skip
    idle_timeout: float | None = _row(
        None, _limit(0.01, off=True), PEERS,
        "a connection on which nothing happens for this time is closed",
        "new workers")  # fmt: skip
    keepalive: float | None = _row(
        60.0, _limit(1.0, 32_767.0, off=True), PEERS,
        "how long a peer may be silent before TCP asks whether its machine is still there; after as long again without "
        "an answer the connection is given up; rounded up to whole seconds",
        "restart", also="keep_alive")  # fmt: skip
    timeout: float | Literal["auto"] | None = _row(
        "auto", CallLimit(low=0.01, high=7 * DAY, word="off", metavar="TIME|auto|off"), CALLS,
        "a call may take so long; one that takes longer is reported with its stack, and its worker is replaced once "
        "the other calls are done; auto: as the handler says, else 30s",
        "new workers", also="call_timeout request_timeout worker_timeout harakiri")  # fmt: skip
    queue_timeout: float | None = _row(
        None, _limit(0.01, off=True), CALLS,
        "while the server is overloaded, a message or a fresh connection that has waited for longer than this is not "
        "served: its connection is reset at once, so that the others are answered in time; a burst is not an overload; "
        "TCP only; off: everybody waits",
        "new workers", also="queue_time queue_limit max_queue_time max_wait wait_timeout shed_after")  # fmt: skip
    max_messages: int | None = _row(
        None, Whole(low=1, high=1_000_000_000, word="off", metavar="N|off"), RECYCLING,
        "a worker that has answered so many messages is replaced",
        "new workers", also="max_requests limit_max_requests")  # fmt: skip
    max_messages_jitter: float = _row(
        0.1, Fraction(), RECYCLING,
        "by which part of it --max-messages is shortened at most, by chance, so that workers do not all come to it "
        "together",
        "new workers", also="max_requests_jitter")  # fmt: skip
    max_rss: int | None = _row(
        None, Size(low=16 * MIB, high=1024 * GIB, word="off", metavar="SIZE|off"), RECYCLING,
        "a worker whose memory (resident set) is larger is replaced; one that begins larger, after ten minutes or when "
        "it has doubled",
        "new workers", also="reload_on_rss workers_max_rss max_memory")  # fmt: skip
    max_age: float | None = _row(
        None, _limit(1.0, 365 * DAY, off=True), RECYCLING,
        "a worker that is older is replaced",
        "new workers", also="max_worker_lifetime workers_lifetime lifetime")  # fmt: skip
    boot_timeout: float = _row(
        30.0, _limit(0.1), WORKERS,
        "a worker must have imported the target and be ready within this time",
        "at once", also="start_timeout")  # fmt: skip
    drain_timeout: float = _row(
        30.0, _limit(0.0), WORKERS,
        "calls have this time to finish when the server stops; then they are cut, and the exit code is 4",
        "at once", also="graceful_timeout stop_timeout shutdown_timeout")  # fmt: skip
    heartbeat: float = _row(
        10.0, _limit(3.0), WORKERS,
        "a worker that shows no sign of life for this time is killed and replaced; it shows one every second",
        "at once")  # fmt: skip
    probe: str | None = _row(
        None, Text(word="off", metavar="MESSAGE"), WORKERS,
        r"a message that the first worker, and the first one of each reload, must answer before it serves; escapes "
        r"such as \n are understood",
        "new workers")  # fmt: skip
    probe_reply: str | None = _row(
        None, Text(word="any", metavar="REPLY|any"), WORKERS,
        r"what the answer to --probe must be; escapes such as \n are understood",
        "new workers", also="probe_answer")  # fmt: skip
    user: str | None = _row(
        None, Account(word="unchanged", metavar="USER|unchanged"), RIGHTS,
        "as soon as all addresses are open, become this user for good, before anything of the handler's runs: a name "
        "or a number; with its supplementary groups, and its own group unless --group says another; needs a start as "
        "root, or as that user, when there is nothing to do; root says that root is meant",
        "restart", also="uid setuid run_as")  # fmt: skip
    group: str | None = _row(
        None, Account(word="unchanged", metavar="GROUP|unchanged"), RIGHTS,
        "the group to run as, by name or number; unchanged: that of --user, if there is one",
        "restart", also="gid setgid")  # fmt: skip
    umask: str | None = _row(
        None, FileMode(word="unchanged", metavar="MODE|unchanged"), RIGHTS,
        "which rights new files do not get, those of Unix sockets among them: 027 keeps others out (umask(2))",
        "restart", also="file_mask")  # fmt: skip
    socket_mode: str | None = _row(
        None, SocketMode(word="umask", metavar="MODE|umask"), RIGHTS,
        "the mode of the files that --bind unix:PATH makes, from their first moment on: who may write to the file may "
        "connect (unix(7)), so 660 lets its user and its group in; umask: as the umask has it",
        "restart", also="unix_socket_mode chmod_socket socket_umask socket_permissions")  # fmt: skip
    socket_owner: str | None = _row(
        None, Owner(word="unchanged", metavar="USER[:GROUP]|unchanged"), RIGHTS,
        "whose the files are that --bind unix:PATH makes, before anybody can connect: USER, USER:GROUP or :GROUP, by "
        "name or number; to give them to another user needs a start as root, to a group that one is in it; unchanged: "
        "they are of who starts the server, also with --user",
        "restart", also="chown_socket socket_user socket_group unix_socket_group")  # fmt: skip
    no_new_privs: str | None = _row(
        None, Choice(choices=("on", "off"), word="auto", metavar="WHEN"), RIGHTS,
        "whether the programs that a handler starts can gain no rights (sudo, and ping where it is setuid, fail then); "
        "auto: on with --user or --group, else off",
        "restart", also="no_new_privileges")  # fmt: skip
    pid: str | None = _row(
        None, Text(word="off", metavar="FILE|off"), AROUND,
        "write the process id of the supervisor to this file; it is removed at the end",
        "restart", also="pidfile pid_file")  # fmt: skip
    control: str | None = _row(
        "auto", Text(word="off", metavar="PATH|auto|off"), AROUND,
        "the Unix socket on which paceline ctl is answered; auto: one in the runtime folder, which ctl finds by itself",
        "restart", also="control_socket stats_socket")  # fmt: skip
    chdir: str | None = _row(
        None, Text(word=".", metavar="DIR"), AROUND,
        "go to this folder before anything but the configuration file is looked for",
        "restart", also="directory cwd root")  # fmt: skip
    log_format: str = _row(
        "text", Choice(choices=("text", "json"), metavar="FORMAT"), AROUND,
        "how the lines of the log are written, which go to standard error",
        "new workers", also="logging")  # fmt: skip


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table."""

    name: str
    """The attribute of `Settings`."""
    default: object
    kind: Kind
    group: str
    help: str
    reload: Reload
    short: str
    """The one-letter option, or nothing."""
    also: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name in TOML and everywhere else where `as` is not a Python keyword."""
        return self.name.rstrip("_")

    @property
    def default_text(self) -> str:
        """The default as a person would write it."""
        return self.kind.show(self.default)

    @property
    def option(self) -> str:
        """The option of the command line; the target has none, it is an argument."""
        return "TARGET" if self.name == "target" else "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "PACELINE_" + self.key.upper()


TABLE: tuple[Setting, ...] = tuple(
    Setting(row.name, getattr(DEFAULTS, row.name), **row.metadata) for row in fields(Settings)
)
BY_KEY: Mapping[str, Setting] = {row.key: row for row in TABLE}
GROUPS: Mapping[str, list[Setting]] = {
    row.group: [other for other in TABLE if other.group == row.group] for row in TABLE
}


def changed(before: Settings, after: Settings) -> list[Setting]:
    """The rows whose values differ."""
    return [row for row in TABLE if getattr(before, row.name) != getattr(after, row.name)]


def nearest_setting(word: str) -> Setting | None:
    """The setting whose name, or whose name in other servers, is most like `word`."""
    folded = word.strip("-_").casefold().replace("-", "_")
    names = {name: row for row in TABLE for name in (*row.also, row.key)}
    return names.get(folded) or names.get(near(folded, names))
