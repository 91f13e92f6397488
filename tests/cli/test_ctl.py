"""cli/ctl.py: words into requests, and wrong ones named."""

import json
import re
import typing
from collections.abc import Callable

import pytest

from controlbed import answering, greeting, line
from paceline.cli.ctl import ctl
from paceline.supervisor.requests import COMMANDS, parse

if typing.TYPE_CHECKING:
    from cli.conftest import Ended

    Run = Callable[..., Ended]

pytestmark = pytest.mark.usefixtures("nothing_left", "no_server")
SHOWS = "`paceline ctl --help` shows what there is"


def test_alone_it_shows_its_help(run: "Run") -> None:
    ended = run("ctl")
    assert (ended.code, ended.err) == (0, "")
    shown = re.findall(r"^  (\w+)  +[A-Z]", ended.out.partition("Commands:")[2], re.MULTILINE)
    assert shown == ["status", "health", "reload", "upgrade", "scale", "stop", "drain", "dump", "config"]
    assert run("ctl", "--help") == run("ctl", "-h") == ended


@pytest.mark.parametrize("command", list(ctl.commands))
def test_each_command_has_its_help(run: "Run", command: str) -> None:
    ended = run("ctl", command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: paceline ctl {command} " in ended.out
    assert "--json" in ended.out


def test_whatever_a_server_can_be_asked_is_a_command() -> None:
    assert set(COMMANDS) - {"ping"} <= set(ctl.commands)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["stat"], rf"ctl has no command 'stat'; did you mean status\? {SHOWS}"),
        (["xyzzy"], f"ctl has no command 'xyzzy'; there are status, health, reload, .*, config; {SHOWS}"),
        (["--jsno", "status"], rf"there is no option --jsno; did you mean --json\? {SHOWS}"),
        (["status", "--workers"], "--workers belongs behind the command: paceline serve --workers; .*"),
        (["status", "--pid", "x"], "--pid x: must be a whole number from 1 to 4,194,304"),
        (["status", "--over", "0"], "--over 0: must be .*; the nearest right value is 10ms"),
        (["reload", "--timeout", "x"], "--timeout x: must be .*"),
        (["--pid", "1", "status", "--control", "x"], "--control and --pid both name a server; give one of them"),
        (["--control", "off", "status"], "--control off: must be the path of a server's control socket"),
        (["--control", "", "status"], "--control '': must be the path of a server's control socket"),
        (["scale"], "missing argument 'N'; .*"),
        (["scale", "0"], r"scale 0: must be how many workers there shall be, or \+N or -N"),
        (["scale", "+0"], r"scale \+0: must be .*"),
        (["scale", "many"], "scale many: must be .*"),
        (["scale", "-"], "scale -: must be .*"),
        (["scale", ""], "scale '': must be .*"),
        (["scale", "²"], "scale ²: must be .*"),
        (["scale", "99999999999"], "scale 99999999999: must be .*"),
        (["drain", "x"], "drain x: must be a whole number from 0 .*"),
        (["reload", "now"], r"got unexpected extra argument \(now\); `paceline ctl reload --help` shows what there is"),
    ],
)
def test_wrong_usage_is_named(run: "Run", words: list[str], text: str) -> None:
    ended = run("ctl", *words)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(f"paceline: {text}\n", ended.err), ended.err


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["reload"], {"do": "reload"}),
        (["upgrade"], {"do": "upgrade"}),
        (["scale", "4"], {"do": "scale", "workers": 4}),
        (["scale", "+2"], {"do": "scale", "by": 2}),
        (["scale", "-1"], {"do": "scale", "by": -1}),
        (["scale", "--json", "-1"], {"do": "scale", "by": -1}),
        (["scale", "-12", "--json"], {"do": "scale", "by": -12}),
        (["scale", "--", "-1"], {"do": "scale", "by": -1}),
        (["drain", "3"], {"do": "drain", "slot": 3}),
        (["dump"], {"do": "dump"}),
        (["config"], {"do": "config"}),
        (["stop", "--timeout", "off"], {"do": "stop"}),
        (["stop", "--now", "--timeout", "9"], {"do": "stop", "now": True}),
    ],
)
def test_words_become_a_request(run: "Run", words: list[str], request_: dict[str, object]) -> None:
    with answering(greeting(), line(ok=False, text="no")) as server:
        assert run("ctl", "--control", server.path, *words).code == 1
    assert server.heard == [{"do": "ping"}, request_]
    parse(json.dumps(request_).encode())
