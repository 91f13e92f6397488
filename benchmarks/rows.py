"""The table of what is measured: rows, their trials (one server under one load), and their goals.  Pure.

Everything else derives from it: the runner (__main__.py) runs the trials, the report (report.py) draws them.  A trial's
name is unique in its row.  Row numbers stay what they are for ever, because kept results refer to them.
"""

from benchmarks.handlers import BLOCK_S
from benchmarks.terms import CERTIFICATE, KEY, Goal, Load, Row, Server, Trial

HANDLERS = "benchmarks.handlers:"
THREADS = 64
"""Paceline's default, and what the peers with a pool have."""

NOT_SERVING = 2
"""Threads of each of Paceline's workers that never serve: the watcher, and the timer of faulthandler."""

RATE = ("messages_per_s", "cpu_us_per_message")
LATENCY = ("quick_p50_us", "quick_p99_us")
COST = ("threads_max", "own_kib")
BUSY = ("server_busy", "load_busy")


def paceline(target: str, *options: str) -> Server:
    """Paceline as a user starts it; only what a row is about is set."""
    return ("paceline", target, *options)


ONE_WORKER = ("--workers", "1")

OTHERS = {
    "asyncio streams": "asyncio_streams",
    "gevent": "gevent_server",
    "ThreadingTCPServer": "socketserver_threads",
    "gthread's shape": "selector_executor",
}
"""Peers as their users write them: trial → module."""


def others(handler: str, way: str = "raw", *, streams: str = "") -> dict[str, Server]:
    """Those peers with a handler; `streams` is another way for asyncio streams."""
    servers: dict[str, Server] = {name: ("peer", module, handler, way) for name, module in OTHERS.items()}
    return servers | ({"asyncio streams": ("peer", "asyncio_streams", handler, streams)} if streams else {})


def trials(servers: dict[str, Server], load: Load) -> list[Trial]:
    return [Trial(name, server, load) for name, server in servers.items()]


ECHO = Row(
    number=1,
    title="Echo: one worker on one core, 64 connections × 64 bytes, closed loop",
    us="paceline",
    metric="messages_per_s",
    shows=(*RATE, *LATENCY, *COST, *BUSY),
    draws=RATE,
    trials=(
        Trial("paceline", paceline("echo", *ONE_WORKER)),
        Trial("C, epoll", ("c", "c_epoll")),
        Trial("uvloop Protocol", ("peer", "uvloop_protocol", "echo")),
        Trial("thread pool", ("peer", "thread_pool", "echo")),
        Trial("thread per connection", ("peer", "thread_per_connection", "echo")),
        Trial("asyncio Protocol", ("peer", "asyncio_protocol", "echo")),
        Trial("asyncio BufferedProtocol", ("peer", "asyncio_protocol", "echo", "buffered")),
        *trials(others("echo"), Load()),
        Trial("thread per connection, unpinned", ("peer", "thread_per_connection", "echo"), cores="shared"),
    ),
    goals=(
        Goal("of C with epoll", "messages_per_s", "paceline", "C, epoll", "≥", 0.68, by_cpu=True),
        Goal("× uvloop Protocol", "messages_per_s", "paceline", "uvloop Protocol", "≥", 0.78, by_cpu=True),
        Goal("× asyncio Protocol", "messages_per_s", "paceline", "asyncio Protocol", "≥", 5, by_cpu=True),
        Goal("× thread per connection", "messages_per_s", "paceline", "thread per connection", "≥", 4, by_cpu=True),
    ),
    note="Unpinned, the threads and the load use all cores, as anybody's would; the threads then fight for the GIL. "
    "asyncio allocates 256 KiB for each receive unless a BufferedProtocol brings its own: most of what it costs.",
)

LINE_LOAD = Load(in_flight=16, line=True, upper=True)
LINES = Row(
    number=2,
    title="Lines: 16 in flight on each of 64 connections, 64 bytes, a Python call for each",
    us="paceline",
    metric="messages_per_s",
    shows=(*RATE, *LATENCY, *COST, *BUSY),
    draws=RATE,
    trials=(
        Trial("paceline", paceline(f"{HANDLERS}upper", *ONE_WORKER, "--framing", "line"), LINE_LOAD),
        Trial("uvloop, joined by hand", ("peer", "uvloop_lines", "upper", "joined"), LINE_LOAD),
        Trial("uvloop, joined, no call", ("peer", "uvloop_lines", "upper", "inlined"), LINE_LOAD),
        Trial("uvloop, each written", ("peer", "uvloop_lines", "upper", "each"), LINE_LOAD),
        *trials(others("upper", "lines"), LINE_LOAD),
    ),
    goals=(
        Goal("× uvloop, joined by hand", "messages_per_s", "paceline", "uvloop, joined by hand", "≥", 1.0, by_cpu=True),
        Goal("× uvloop, a write for each", "messages_per_s", "paceline", "uvloop, each written", "≥", 3, by_cpu=True),
    ),
    note="“no call” has the handler's work written into the protocol; shown, not judged: it serves nobody's function. "
    "Streams, gevent and ThreadingTCPServer write each reply, as their users do.",
)

BLOCK_LOAD = Load(connections=256)
BLOCKING = Row(
    number=3,
    title="A handler that blocks 5 ms, nothing configured, 256 connections, closed loop",
    us="paceline",
    metric="messages_per_s",
    shows=(*RATE, *LATENCY, *COST),
    draws=RATE,
    trials=(
        Trial("paceline", paceline(f"{HANDLERS}block", *ONE_WORKER), BLOCK_LOAD),
        Trial("thread pool", ("peer", "thread_pool", "block"), BLOCK_LOAD),
        Trial("thread per connection", ("peer", "thread_per_connection", "block"), BLOCK_LOAD),
        *trials(others("block", streams="threads"), BLOCK_LOAD),
    ),
    goals=(Goal("of 64 threads / 5 ms", "messages_per_s", "paceline", THREADS / BLOCK_S, "≥", 0.87),),
    note="A thread, or a greenlet, per connection: 256 where the others have 64 threads, so their limit is four times "
    "the others'. asyncio streams run the handler in 64 threads. In gevent the sleep is gevent's own; a handler that "
    "blocks in C would stop all.",
)

CALM_LOAD = Load(connections=256, rate=10_000)
RARE_LOAD = Load(connections=256, rate=10_000, slow_share=0.01)
RARE = Row(
    number=4,
    title="One call in 100 blocks 50 ms, open loop at 10,000 messages/s: the others",
    us="paceline",
    metric="quick_p99_us",
    shows=("quick_p50_us", "quick_p99_us", "quick_p999_us", "quick_max_us", "cpu_us_per_message", *COST),
    draws=("quick_p50_us", "quick_p99_us", "cpu_us_per_message"),
    trials=tuple(
        Trial(f"{name}{suffix}", server, load)
        for name, server in {
            "paceline": paceline(f"{HANDLERS}rarely_block", *ONE_WORKER),
            "thread pool": ("peer", "thread_pool", "rarely_block"),
            "thread per connection": ("peer", "thread_per_connection", "rarely_block"),
            **others("rarely_block", streams="threads"),
        }.items()
        for suffix, load in (("", RARE_LOAD), (", none blocks", CALM_LOAD))
    ),
    goals=(Goal("× p99 when none blocks", "quick_p99_us", "paceline", "paceline, none blocks", "≤", 4),),
    note="Latency counts from when a message was due, not from when it was sent. A server that cannot do 10,000 "
    "messages/s at all falls behind, which is what its latency then says.",
)

BURN_LOAD = Load(connections=16)
COMPUTING = Row(
    number=5,
    title="A handler that computes about 1 ms in Python, 16 connections, closed loop",
    us="paceline, 1 worker",
    metric="messages_per_s",
    shows=(*RATE, *LATENCY, *COST, "server_busy"),
    draws=RATE,
    trials=(
        Trial("paceline, 1 worker", paceline(f"{HANDLERS}burn", "--workers", "1"), BURN_LOAD, cores="shared"),
        Trial("paceline, 2 workers", paceline(f"{HANDLERS}burn", "--workers", "2"), BURN_LOAD, cores="shared"),
        Trial("one thread", ("peer", "plain_loop", "burn"), BURN_LOAD, cores="shared"),
        Trial("two plain processes", ("peer", "plain_loop", "burn", "2", "8"), BURN_LOAD, cores="shared"),
        Trial("thread per connection", ("peer", "thread_per_connection", "burn"), BURN_LOAD, cores="shared"),
    ),
    goals=(
        Goal("× from 1 to 2 workers", "messages_per_s", "paceline, 2 workers", "paceline, 1 worker", "≥", 1.9),
        Goal("of one thread's rate", "messages_per_s", "paceline, 1 worker", "one thread", "≥", 0.95, by_cpu=True),
        Goal("of two plain processes' rate", "messages_per_s", "paceline, 2 workers", "two plain processes", "≥", 0.95),
        Goal("threads of a worker, 3 serving", "threads_max", "paceline, 1 worker", 1, "≤", 3 + NOT_SERVING),
    ),
    note="Two plain processes have nothing to do with each other: what they gain over one is what the machine gives.",
)

RETIRED_S = 11.0
"""A little more than a thread that is not needed any more stays (10 s)."""

QUIET = Load(connections=10_000, hold=True)
QUIET_FEW = Load(connections=2_000, hold=True)
MEMORY = Row(
    number=6,
    title="10,000 quiet connections on one worker, after one message each",
    us="paceline",
    metric="bytes_per_connection",
    shows=("bytes_per_connection", "threads_max", "base_kib"),
    draws=("bytes_per_connection", "threads_max"),
    trials=(
        Trial("paceline", paceline("echo", *ONE_WORKER), QUIET, "memory", settle_s=RETIRED_S),
        Trial("C, epoll", ("c", "c_epoll"), QUIET, "memory"),
        Trial("uvloop Protocol", ("peer", "uvloop_protocol", "echo"), QUIET, "memory"),
        Trial("asyncio Protocol", ("peer", "asyncio_protocol", "echo"), QUIET, "memory"),
        Trial("asyncio streams", others("echo")["asyncio streams"], QUIET, "memory"),
        Trial("gevent", others("echo")["gevent"], QUIET, "memory"),
        Trial("gthread's shape", others("echo")["gthread's shape"], QUIET, "memory"),
        Trial("thread per connection (2,000)", ("peer", "thread_per_connection", "echo"), QUIET_FEW, "memory"),
        Trial("ThreadingTCPServer (2,000)", others("echo")["ThreadingTCPServer"], QUIET_FEW, "memory"),
    ),
    goals=(
        Goal("KiB of process memory per connection", "bytes_per_connection", "paceline", 1024, "≤", 0.75),
        Goal("threads of the worker, 1 serving", "threads_max", "paceline", 1, "≤", 1 + NOT_SERVING),
    ),
    once_if_quick=True,
    note="The processes' own memory (Pss_Anon + Pss_Shmem), after minus before, read when threads that are not needed "
    "any more have gone; the kernel's memory is not in it.",
)

LATE_S = 0.05
"""Row 7: a quick message that waits longer has waited for the saturated worker."""

QUICK = Load(connections=1_000, rate=500, connects="when due")
QUICK_KEPT = Load(connections=1_000, rate=500, connects="before")
SATURATED = Row(
    number=7,
    title="One of two workers is saturated, one idle: 1,000 quick messages, on fresh or kept connections",
    us="paceline, fresh",
    metric="quick_p50_us",
    shows=("quick_late", "quick_p50_us", "quick_p99_us", "quick_max_us", "cpu_us_per_message", *COST),
    draws=("quick_late",),
    trials=tuple(
        Trial(f"{name}, {kind}", server, load, "saturated", cores="shared")
        for name, server in {
            "paceline": paceline(f"{HANDLERS}gated", "--workers", "2"),
            "2 × gthread's shape": ("peer", "selector_executor", "gated", "raw", "2"),
        }.items()
        for kind, load in (("fresh", QUICK), ("kept", QUICK_KEPT))
    ),
    goals=(
        Goal("of 1,000 messages waited > 50 ms, fresh", "quick_late", "paceline, fresh", 1, "≤", 0),
        Goal("of 1,000 messages waited > 50 ms, kept", "quick_late", "paceline, kept", 1, "≤", 0),
    ),
    once_if_quick=True,
    note="All threads of one worker wait for a gate that opens a second after the last quick message was due; what the "
    "saturated worker has is answered then. Fresh: a connection is made for each message when it is due. Kept: each "
    "has a connection that was served before.",
)

SERVING_MODULES = "paceline.cli, paceline.supervisor.loop, paceline.worker.process"


def importing(modules: str) -> Server:
    program = f"import time; began = time.perf_counter(); import {modules}; print(time.perf_counter() - began)"
    return ("python", "-c", program)


START = Row(
    number=8,
    title="Start: from the fork of the process to the first reply; import of what serves",
    us="paceline",
    metric="first_reply_ms",
    shows=("ready_ms", "first_reply_ms", "start_cpu_ms", "threads_max", "own_kib", "lifetime_ms", "import_ms"),
    draws=("first_reply_ms", "import_ms"),
    trials=(
        Trial("paceline", paceline("echo"), measures="start", cores="shared"),
        Trial("C, epoll", ("c", "c_epoll"), measures="start", cores="shared"),
        Trial("uvloop Protocol", ("peer", "uvloop_protocol", "echo"), measures="start", cores="shared"),
        Trial("asyncio Protocol", ("peer", "asyncio_protocol", "echo"), measures="start", cores="shared"),
        Trial("thread per connection", ("peer", "thread_per_connection", "echo"), measures="start", cores="shared"),
        *(Trial(name, server, measures="start", cores="shared") for name, server in others("echo").items()),
        Trial("python -c pass", ("python", "-c", "pass"), measures="lifetime", cores="shared"),
        Trial("import paceline's server", importing(SERVING_MODULES), measures="import", cores="shared"),
        Trial("import uvloop", importing("uvloop"), measures="import", cores="shared"),
        Trial("import asyncio", importing("asyncio"), measures="import", cores="shared"),
    ),
    goals=(
        Goal("ms from start to first reply", "first_reply_ms", "paceline", 1, "≤", 300),
        Goal("ms of import for serving", "import_ms", "import paceline's server", 1, "≤", 100),
    ),
    times=3,
)

FILES = (CERTIFICATE, KEY)
PACELINE_TLS = paceline("echo", *ONE_WORKER, "--tls-cert", CERTIFICATE, "--tls-key", KEY)
TLS_LOAD = Load(tls=True)
TLS = Row(
    number=9,
    title="TLS: echo, one worker on one core, 64 connections × 64 bytes, closed loop",
    us="paceline",
    metric="messages_per_s",
    shows=(*RATE, *LATENCY, *COST, *BUSY),
    draws=RATE,
    trials=(
        Trial("paceline", PACELINE_TLS, TLS_LOAD),
        Trial("C, epoll", ("c", "c_epoll_tls", *FILES), TLS_LOAD),
        Trial("uvloop BufferedProtocol", ("peer", "uvloop_tls", "echo", "buffered", *FILES), TLS_LOAD),
        Trial("uvloop Protocol", ("peer", "uvloop_tls", "echo", "plain", *FILES), TLS_LOAD),
        Trial("asyncio BufferedProtocol", ("peer", "asyncio_tls", "echo", "buffered", *FILES), TLS_LOAD),
        Trial("asyncio Protocol", ("peer", "asyncio_tls", "echo", "plain", *FILES), TLS_LOAD),
        Trial("thread per connection", ("peer", "threads_tls", "echo", *FILES), TLS_LOAD),
        Trial("paceline, without TLS", paceline("echo", *ONE_WORKER)),
    ),
    goals=(
        Goal(
            "× uvloop BufferedProtocol", "messages_per_s", "paceline", "uvloop BufferedProtocol", "≥", 0.9, by_cpu=True
        ),
        Goal("× uvloop Protocol", "messages_per_s", "paceline", "uvloop Protocol", "≥", 0.9, by_cpu=True),
    ),
    note="All speak TLS 1.3 with TLS_AES_128_GCM_SHA256; handshakes are over before the measured time. uvloop and "
    "asyncio allocate 256 KiB for each receive unless a BufferedProtocol brings its own; in uvloop that costs twice "
    "what all else does, or nothing, depending on what the process has freed before.",
)

QUIET_TLS = Load(connections=1_000, hold=True, tls=True)
TLS_MEMORY = Row(
    number=10,
    title="TLS: 1,000 quiet connections on one worker, after the handshake and one message each",
    us="paceline",
    metric="bytes_per_connection",
    shows=("bytes_per_connection", "threads_max", "base_kib"),
    draws=("bytes_per_connection", "threads_max"),
    trials=(
        Trial("paceline", PACELINE_TLS, QUIET_TLS, "memory", settle_s=RETIRED_S),
        Trial("C, epoll", ("c", "c_epoll_tls", *FILES), QUIET_TLS, "memory"),
        Trial("uvloop BufferedProtocol", ("peer", "uvloop_tls", "echo", "buffered", *FILES), QUIET_TLS, "memory"),
        Trial("asyncio BufferedProtocol", ("peer", "asyncio_tls", "echo", "buffered", *FILES), QUIET_TLS, "memory"),
        Trial("thread per connection", ("peer", "threads_tls", "echo", *FILES), QUIET_TLS, "memory"),
    ),
    goals=(Goal("KiB of process memory per connection", "bytes_per_connection", "paceline", 1024, "≤", 40),),
    once_if_quick=True,
    note="As row 6. C lets OpenSSL free its buffers where nothing is under way (SSL_MODE_RELEASE_BUFFERS).",
)

ROWS = {row.number: row for row in (ECHO, LINES, BLOCKING, RARE, COMPUTING, MEMORY, SATURATED, START, TLS, TLS_MEMORY)}
