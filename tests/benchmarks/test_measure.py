"""One repetition: the arithmetic, and short real ones with peers."""

import json
import shutil

import pytest

from benchmarks import compiled
from benchmarks.measure import (
    Clocks,
    Cores,
    Pace,
    _numbers,
    cores_for,
    measure,
    usable_cores,
    wait_quiet,
    wait_ready,
    words_of,
)
from benchmarks.rows import importing
from benchmarks.running import MeasurementError, Program
from benchmarks.terms import CERTIFICATE, KEY, Load, Server, Trial

PACE = Pace(warmup_s=0.02, duration_s=0.4)
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler")

needs_tls = pytest.mark.usefixtures("tls")


@pytest.fixture
def tls() -> None:
    """What TLS needs is there; else the test is skipped."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    try:
        compiled.program("load_tls")
    except MeasurementError as error:
        pytest.skip(str(error))


def test_the_server_and_the_load_are_apart() -> None:
    assert cores_for(Trial("a", ("c", "x")), {2, 5, 3}) == Cores(frozenset({5}), frozenset({2}))
    assert cores_for(Trial("a", ("c", "x"), cores="shared"), {2, 5}) == Cores(frozenset({2, 5}), frozenset({2, 5}))


def test_numbers_from_counts_and_clocks() -> None:
    result = {"messages": 1000, "seconds": 2.0, "load_cpu_s": 1.0, "quick_p50_us": 7.0, "lost": 0}
    found = _numbers(result, Clocks(1.0, 10.0, 0.0), Clocks(2.5, 13.0, 0.1), 2)
    assert found["messages_per_s"] == 500
    assert found["cpu_us_per_message"] == pytest.approx(1500)
    assert found["server_busy"] == 0.75
    assert found["load_busy"] == 0.5
    assert found["others_busy"] == pytest.approx((3.0 - 1.5 - 1.0 - 0.1) / 2)
    assert found["quick_p50_us"] == 7.0
    assert "lost" not in found


def test_no_message_is_no_result() -> None:
    with pytest.raises(MeasurementError, match="no message"):
        _numbers({"messages": 0, "seconds": 1.0, "load_cpu_s": 0.0}, Clocks(0, 0, 0), Clocks(0, 0, 0), 1)


def test_patience_ends() -> None:
    assert wait_quiet(usable_cores(), 0.0) < 30


@needs_compiler
@pytest.mark.parametrize(
    "server", [("c", "c_epoll"), ("peer", "thread_pool", "echo"), ("peer", "thread_per_connection", "echo"),
               ("peer", "plain_loop", "echo"), ("peer", "asyncio_protocol", "echo")], ids=lambda server: server[1],
)  # fmt: skip
def test_peers_are_measured(server: Server) -> None:
    found = measure(Trial("peer", server, Load(connections=4)), PACE, usable_cores())
    assert found["messages"] > 0
    assert found["cpu_us_per_message"] > 0
    assert 0 < found["quick_p50_us"] <= found["quick_p99_us"] <= found["quick_max_us"]


@needs_tls
@pytest.mark.parametrize(
    "server", [("c", "c_epoll_tls"), ("peer", "asyncio_tls", "echo", "buffered"), ("peer", "threads_tls", "echo")],
    ids=lambda server: server[1],
)  # fmt: skip
def test_peers_are_measured_inside_tls(server: Server) -> None:
    found = measure(Trial("peer", (*server, CERTIFICATE, KEY), Load(connections=4, tls=True)), PACE, usable_cores())
    assert found["messages"] > 0
    assert found["cpu_us_per_message"] > 0


@needs_tls
@pytest.mark.parametrize("load", [Load(4, 64, 16, tls=True), Load(4, 100_000, 4, tls=True)], ids=["small", "large"])
def test_records_that_were_read_ahead_are_not_forgotten(load: Load) -> None:
    """Many in one piece, and many to a message: a reply that nobody takes out of OpenSSL would end the load."""
    found = measure(Trial("many", ("c", "c_epoll_tls", CERTIFICATE, KEY), load), PACE, usable_cores())
    assert found["messages"] > 100


@needs_tls
def test_an_open_loop_goes_inside_tls_too() -> None:
    trial = Trial("open", ("c", "c_epoll_tls", CERTIFICATE, KEY), Load(connections=16, rate=1000, tls=True))
    assert measure(trial, PACE, usable_cores())["messages"] == 1000 * PACE.duration_s


@needs_tls
def test_a_wrong_reply_inside_tls_is_a_failure() -> None:
    trial = Trial("wrong", ("peer", "threads_tls", "upper", CERTIFICATE, KEY), Load(connections=2, tls=True))
    with pytest.raises(MeasurementError, match="'wrong': 2"):
        measure(trial, PACE, usable_cores())


@needs_tls
def test_a_handshake_that_fails_says_so() -> None:
    trial = Trial("plain", ("peer", "plain_loop", "upper"), Load(connections=1, tls=True))
    with pytest.raises(MeasurementError, match="load: handshake"):
        measure(trial, PACE, usable_cores())


@needs_tls
@pytest.mark.parametrize(("name", "words", "said"), [("load", ["--tls"], "load_tls"), ("load_tls", [], "--tls")])
def test_each_load_generator_says_which_it_is(name: str, words: list[str], said: str) -> None:
    with Program([compiled.program(name), "--port", "1", *words], usable_cores()) as program:
        assert said in (program.wait_log_line(10) or "")


@needs_tls
def test_all_servers_speak_the_same() -> None:
    for server in (("c", "c_epoll_tls"), ("peer", "asyncio_tls", "echo", "plain"), ("peer", "threads_tls", "echo")):
        with Program(words_of((*server, CERTIFICATE, KEY)), usable_cores()) as serving:
            words = [compiled.program("load_tls"), "--tls", "--port", str(wait_ready(serving).port), "--messages", "64"]
            with Program(words, usable_cores()) as load:
                lines = [load.output.wait_line(10) for _ in ("begin", "end", "result")]
        assert json.loads(lines[-1] or "")["spoken"] == "TLSv1.3 TLS_AES_128_GCM_SHA256", server


@needs_compiler
def test_several_plain_processes_are_measured_together() -> None:
    server = ("peer", "plain_loop", "echo", "2", "2")
    found = measure(Trial("two", server, Load(connections=4), cores="shared"), PACE, usable_cores())
    assert found["messages"] > 0


@needs_compiler
@pytest.mark.parametrize("way", ["each", "joined", "inlined"])
def test_lines_under_uvloop_are_measured(way: str) -> None:
    pytest.importorskip("uvloop")
    load = Load(connections=2, in_flight=16, line=True, upper=True)
    found = measure(Trial("lines", ("peer", "uvloop_lines", "upper", way), load), PACE, usable_cores())
    assert found["messages"] > 0


@needs_compiler
def test_an_open_loop_sends_what_is_due_and_tells_slow_from_quick() -> None:
    load = Load(connections=16, rate=1000, slow_share=0.2)
    found = measure(Trial("open", ("c", "c_epoll"), load), PACE, usable_cores())
    assert found["messages"] == 1000 * PACE.duration_s
    assert found["quick_count"] + found["slow_count"] == found["messages"]
    assert 0 < found["slow_count"] < found["messages"] / 2


@needs_compiler
def test_a_wrong_reply_is_a_failure_not_a_result() -> None:
    trial = Trial("wrong", ("peer", "plain_loop", "upper"), Load(connections=2))
    with pytest.raises(MeasurementError, match="'wrong': 2"):
        measure(trial, PACE, usable_cores())


@needs_compiler
def test_connections_are_held_and_weighed() -> None:
    trial = Trial("memory", ("c", "c_epoll"), Load(connections=50, hold=True), "memory")
    found = measure(trial, PACE, usable_cores())
    assert found["connections"] == 50
    assert found["threads_max"] == 1
    assert found["bytes_per_connection"] < 4096


@needs_tls
def test_connections_are_held_and_weighed_inside_tls() -> None:
    load = Load(connections=300, hold=True, tls=True)  # more than have warmed it up, whose memory it still has
    found = measure(Trial("memory", ("c", "c_epoll_tls", CERTIFICATE, KEY), load, "memory"), PACE, usable_cores())
    assert 1024 < found["bytes_per_connection"] < 100_000


@needs_compiler
def test_a_start_is_timed() -> None:
    found = measure(Trial("start", ("c", "c_epoll"), measures="start"), PACE, usable_cores())
    assert 0 < found["ready_ms"] <= found["first_reply_ms"]


def test_a_program_is_timed_from_start_to_exit() -> None:
    assert (
        measure(Trial("life", ("python", "-c", "pass"), measures="lifetime"), PACE, usable_cores())["lifetime_ms"] > 0
    )


def test_an_import_is_timed() -> None:
    assert measure(Trial("import", importing("json"), measures="import"), PACE, usable_cores())["import_ms"] > 0


def test_an_import_that_fails_says_why() -> None:
    trial = Trial("import", importing("there_is_no_such_module"), measures="import")
    with pytest.raises(MeasurementError, match="there_is_no_such_module"):
        measure(trial, PACE, usable_cores())


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(MeasurementError, match=r"ended at once[\s\S]*no_such_peer"):
        measure(Trial("none", ("peer", "no_such_peer")), PACE, usable_cores())
