"""cli/bench.py: options into a plan, what is shown where, exit codes; Ctrl-C; files compared."""

import json
import os
import signal
import subprocess
import typing
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from paceline.bench.plan import ANY, Plan
from paceline.cli.program import program
from testbed import COMMAND, Ended, Server, run_to_end, running

if typing.TYPE_CHECKING:
    from cli.conftest import Ended as Shown

    Run = Callable[..., Shown]


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with running("echo", "-w", "1") as server:
        yield server


@pytest.fixture
def planned(plans_of: Callable[..., Plan]) -> Callable[..., Plan]:
    """The plan that a command line makes; nothing is loaded."""
    return partial(plans_of, "bench", "paceline.bench.run.measure")


def test_the_defaults(planned: Callable[..., Plan]) -> None:
    plan = planned()
    assert plan == Plan(address="127.0.0.1:8888", messages=plan.messages, source="64 bytes")
    assert len(plan.messages[0]) == 64
    assert (plan.connections, plan.in_flight, plan.duration_s, plan.count, plan.rate) == (64, 1, 10.0, None, None)


def test_every_option_arrives(planned: Callable[..., Plan]) -> None:
    words = (
        ":7000 -c 20 --in-flight 3 -d 2m -n 5k --rate 1.5k/s --warmup 0 --processes 2 -m a\\tb --framing line "
        "--max-message 2k --slow-client 1k/s --timeout 500ms --check"
    )
    assert planned(*words.split()) == Plan(
        address=":7000", messages=(b"a\tb",), source="3 bytes given", connections=20, in_flight=3, duration_s=120.0,
        count=5000, rate=1500.0, warmup_s=0.0, processes=2, framing="line", max_message=2048, slow_bytes_s=1024,
        timeout_s=0.5, check=True,
    )  # fmt: skip
    plan = planned("--new-connection", "--reply-size", "any", "-s", "1k")
    assert (plan.new_connection, plan.reply_size, len(plan.messages[0])) == (True, ANY, 1024)


def test_with_a_count_alone_there_is_no_end_by_time_and_no_warm_up(planned: Callable[..., Plan]) -> None:
    plan = planned("-n", "10", "-c", "2")
    assert (plan.duration_s, plan.warmup_s) == (None, 0.0)


def test_fixed_sets_the_size(planned: Callable[..., Plan]) -> None:
    assert len(planned("--framing", "fixed:12").messages[0]) == 12


def test_a_file_of_messages(planned: Callable[..., Plan], folder: Path) -> None:
    (folder / "m").write_bytes(b"one\r\ntwo\n")
    plan = planned("--messages", "m", "--framing", "line")
    assert (plan.messages, plan.source) == ((b"one", b"two"), "2 messages of m")
    (folder / "m").write_bytes(b"3:one,3:two,")
    assert planned("--messages", "m", "--messages-as", "framed", "--framing", "netstring").messages == (b"one", b"two")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-c 0", "-c 0: must be a whole number from 1 to 1,000,000; the nearest right value is 1"),
        ("-d 1y", "-d 1y: must be a time from 1ms to 7d"),
        ("-n many", "-n many: must be a whole number from 1"),
        ("--rate 0", "--rate 0: must be messages per second, 0.001 to 10000k, such as 500 or 20k"),
        ("--slow-client fast", "--slow-client fast: must be a rate"),
        ("--reply-size some", "--reply-size some: must be a size from 1B to 64MiB, in bytes or like 64KiB, or any"),
        ("--framing lin", "did you mean line?"),
        ("-m a\\q", "is no escape"),
        ("-s 1 -m x", "--size and --message both say what is sent"),
        ("--messages-as framed", "--messages-as says how to read the file of --messages, which is missing"),
        ("--messages nowhere", "--messages nowhere: cannot be read (No such file or directory)"),
        ("-m a\\nb --framing line", "would not arrive as one message"),
        ("-m abc --framing fixed:4", "with Fixed(4)"),
        ("-s 2m", "is over --max-message 1048576"),
        ("a:1 b:2", "bench loads one address, and these are 2: a:1 b:2"),
        ("foo", "the nearest right one is foo:8888"),
        ("--conections 4", "did you mean --connections?"),
        ("--new-connection --in-flight 2", "raise -c"),
        ("--framing nosuch:thing", "nosuch"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(words: str, said: str, run: "Run") -> None:
    ended = run("bench", *words.split())
    assert ended.code == (3 if "nosuch" in words else 2)
    assert said in ended.err
    assert ended.out == ""


def test_help_has_every_option_and_fits(run: "Run") -> None:
    ended = run("bench", "--help")
    assert ended.code == 0
    command = program.commands["bench"]
    for parameter in command.params:
        if parameter.name != "words":
            assert all(name in ended.out for name in parameter.opts)
    for heading in ("How much:", "What is sent:", "How:", "Output:", "This command:", "Exit codes"):
        assert heading in ended.out
    assert max(map(len, ended.out.splitlines())) <= 100


def test_a_report_on_standard_output_and_nothing_else(echo: Server, run: "Run") -> None:
    ended = run("bench", echo.places[0], "-n", "20000", "-c", "4", "--quiet")
    assert ended.code == 0
    assert "20,000 answered of 20,000 sent" in ended.out
    assert "errors        none" in ended.out


def test_json_and_two_of_them_compared(echo: Server, run: "Run", folder: Path) -> None:
    for name, more in (("a.json", ()), ("b.json", ("--in-flight", "4"))):
        ended = run("bench", echo.places[0], "-n", "500", "-c", "4", "--json", "--quiet", *more)
        assert ended.code == 0
        assert json.loads(ended.out)["messages"]["answered"] == 500
        (folder / name).write_text(ended.out)
    ended = run("bench", "--compare", "a.json", "b.json")
    assert ended.code == 0
    assert "NOT the same: settings: in_flight is 1 in the first and 4 in the second" in ended.out
    ended = run("bench", "--compare", "a.json", "b.json", "--json")
    assert json.loads(ended.out)["files"] == ["a.json", "b.json"]


def test_a_damaged_file_is_refused_by_name(run: "Run", folder: Path) -> None:
    (folder / "a").write_text('{"format": "paceline bench", "version": 1, "warnings": ["\\u001b]0;pwn\\u0007"]}')
    ended = run("bench", "--compare", "a", "a")
    assert ended.code == 2
    assert "a is damaged (settings is missing)" in ended.err


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_with_standard_output_closed_nothing_is_loaded(closed: str) -> None:
    ended = run_with_closed(closed, "unix:nowhere.sock")
    assert ended.code == 3
    if "2>" not in closed:
        assert "standard output is closed" in ended.log


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 2>&-"])
def test_with_other_standard_descriptors_closed_it_works(echo: Server, closed: str) -> None:
    ended = run_with_closed(closed, echo.places[0])
    assert ended.code == 0, ended.log
    assert "50 answered of 50 sent" in ended.output


def run_with_closed(closed: str, place: str) -> Ended:
    words = ["bench", place, "-n", "50", "-c", "2", "--processes", "2"]
    return run_to_end(*words, command=["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND])


@pytest.mark.parametrize("method", ["cut", "join"])
def test_a_framing_of_ones_own_that_raises_is_at_fault(
    method: str, echo: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.py").write_text(f"""
from paceline.wire import Lines

class Mine(Lines):
    def {method}(self, *given):
        return 1 / 0

mine = Mine(limit=99)
""")
    ended = run_to_end("bench", echo.places[0], "--framing", f"{folder}/mine.py:mine", "-n", "10", "-c", "2", "-m", "a")
    assert ended.code == 2
    assert f"mine.py:mine is at fault: its {method} raised ZeroDivisionError: division by zero" in ended.log
    assert "bug in" not in ended.log
    assert "dmesg" not in ended.log


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "--compare wants two files of `paceline bench --json`, not 1"),
        (["nowhere", "b"], "nowhere cannot be read (No such file or directory)"),
        (["text", "text"], "text is no JSON"),
        (["number", "number"], "number is no result of `paceline bench --json`"),
    ],
)
def test_what_cannot_be_compared(words: list[str], said: str, run: "Run", folder: Path) -> None:
    (folder / "text").write_text("hello")
    (folder / "number").write_text("3")
    ended = run("bench", "--compare", *words)
    assert ended.code == 2
    assert said in ended.err


def test_without_a_terminal_progress_is_a_line_each_second(echo: Server, run: "Run") -> None:
    ended = run("bench", echo.places[0], "-d", "1.7s", "--warmup", "0", "-c", "2")
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if " replies · " in line]
    assert len(lines) == 1
    assert lines[0].endswith("0 errors")


def test_errors_of_the_server_end_with_5_and_are_shown_with_the_figures(run: "Run") -> None:
    app = {"app.py": "def shout(message):\n    return message.upper()\n"}
    with running("app.py:shout", "-w", "1", files=app) as server:
        ended = run("bench", server.places[0], "-n", "50", "-c", "2", "--check", "--quiet")
    assert ended.code == 5
    assert "wrong reply" in ended.out
    assert "50 answered" in ended.out


def test_nobody_there_ends_with_3(run: "Run") -> None:
    ended = run("bench", "unix:nowhere.sock")
    assert ended.code == 3
    assert "cannot load unix:nowhere.sock: nobody listened there; is the server running" in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_shows_what_was_measured_so_far(echo: Server, number: signal.Signals) -> None:
    words = [*COMMAND, "bench", echo.places[0], "-d", "100", "--json", "-c", "2"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stderr is not None
        assert b"replies" in process.stderr.readline()
        os.killpg(process.pid, number)  # as the terminal does it: to all of the group
        output, log = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, log
    result = json.loads(output)
    assert result["interrupted"] is True
    assert 1 <= result["seconds"] < 20
    assert result["messages"]["answered"] > 0


def test_a_bar_on_a_terminal() -> None:
    pytest.importorskip("rich")
    import pty

    with running("echo", "-w", "1") as server:
        ours, theirs = pty.openpty()
        words = [*COMMAND, "bench", server.places[0], "-d", "1.2", "-c", "2"]
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while piece := _read(ours):
                shown += piece
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()
            os.close(ours)
    assert process.returncode == 0
    assert b"connecting and warming up" in shown
    assert b" replies" in shown
    assert b"errors        none" in output


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other side is closed
        return b""


def test_serve_does_not_import_what_only_bench_needs() -> None:
    code = (
        "import sys; import paceline.cli.program; "
        "print([name for name in sys.modules if name.startswith(('paceline.bench', 'rich'))])"
    )
    ended = run_to_end(command=[COMMAND[0], "-c", code])
    assert ended.output.strip() == "[]"
