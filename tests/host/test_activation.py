"""Sockets that were passed: what the variables say is checked, and taken away."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from paceline.errors import HostError
from paceline.host import activation
from paceline.host.activation import NONE, Passed, close_unused, take

pytestmark = pytest.mark.usefixtures("nothing_left")

PID = 4711

LAUNCH = """
import json, os, sys
sockets, variables, program = json.loads(sys.argv[1])
for at, fd in enumerate(sockets, 3):
    os.dup2(fd, at, inheritable=True)
for fd in sockets:
    os.close(fd)
variables = {name: text.replace("PID", str(os.getpid())) for name, text in variables.items()}
os.execve(sys.executable, [sys.executable, "-c", program], {**os.environ, **variables})
"""
"""A launcher such as systemd-socket-activate: the descriptors 3, 4, …, the variables, the program."""

TAKE = """
import json, os
from paceline.errors import HostError
from paceline.host import activation
try:
    passed = activation.take(os.environ, os.getpid())
except HostError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "names": {str(fd): name for fd, name in passed.names.items()},
        "inheritable": [os.get_inheritable(fd) for fd in passed.names],
        "left": [name for name in os.environ if name.startswith("LISTEN")],
    }))
"""


def launched(count: int, variables: Mapping[str, str]) -> Any:
    """What a program takes that was started with so many sockets and these variables."""
    with ExitStack() as stack:
        fds: list[int] = []
        for _ in range(count):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            fds.append(fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 100))
            stack.callback(os.close, fds[-1])
        said = subprocess.run(
            [sys.executable, "-c", LAUNCH, json.dumps([fds, dict(variables), TAKE])],
            pass_fds=fds,
            stdout=subprocess.PIPE,
            check=True,
            timeout=20,
        ).stdout
    return json.loads(said)


def test_sockets_with_names() -> None:
    variables = {"LISTEN_FDS": "2", "LISTEN_PID": "PID", "LISTEN_FDNAMES": "web:metrics"}
    assert launched(2, variables) == {
        "names": {"3": "web", "4": "metrics"},
        "inheritable": [False, False],
        "left": [],
    }


def test_sockets_without_names() -> None:
    assert launched(1, {"LISTEN_FDS": "1", "LISTEN_PID": "PID"})["names"] == {"3": "unknown"}


def test_more_are_announced_than_there_are() -> None:
    said = launched(1, {"LISTEN_FDS": "3", "LISTEN_PID": "PID"})
    assert said["error"].startswith("LISTEN_FDS=3 means that descriptors 3 to 5 are passed, but 4 is not open; start ")


@pytest.mark.parametrize(
    "variables",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": str(PID)}, {"LISTEN_FDS": "0", "LISTEN_PID": str(PID)}],
)
def test_nothing_was_passed(variables: dict[str, str]) -> None:
    environment = {"A": "b", **variables}
    assert take(environment, PID) == NONE
    assert environment == {"A": "b"}


def test_what_was_passed_to_somebody_else_is_ignored() -> None:
    environment = {"LISTEN_FDS": "7", "LISTEN_PID": str(PID + 1), "LISTEN_FDNAMES": "a"}
    passed = take(environment, PID)
    assert (passed.names, passed.of_pid, environment) == ({}, PID + 1, {})


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LISTEN_PID": "x"}, "LISTEN_PID=x: must be a number from 1 to 2147483647; start Paceline from a unit"),
        ({"LISTEN_PID": ""}, "LISTEN_PID='': must be a number"),
        ({"LISTEN_PID": "-1"}, "LISTEN_PID=-1: must be"),
        ({"LISTEN_PID": "9" * 500}, "9': must be"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS=-1: must be a number from 0 to 1024"),
        ({"LISTEN_FDS": "1025"}, "LISTEN_FDS=1025: must be a number from 0 to 1024"),
        ({"LISTEN_FDS": "٣"}, "LISTEN_FDS=٣: must be"),
        ({"LISTEN_FDNAMES": "a"}, "LISTEN_FDNAMES=a has 1 names for 0 sockets"),
    ],
)
def test_what_makes_no_sense_is_named(variables: dict[str, str], words: str) -> None:
    environment = {"LISTEN_FDS": "0", "LISTEN_PID": str(PID), **variables}
    with pytest.raises(HostError) as caught:
        take(environment, PID)
    assert words in str(caught.value)
    assert "; start Paceline from a unit with Sockets=, or without these variables" in str(caught.value)
    assert environment == {}


PASSED = Passed({3: "web", 4: "metrics", 5: "web"})


def test_addresses_and_names() -> None:
    assert PASSED.addresses() == ("fd://3", "fd://4", "fd://5")
    assert PASSED.named("web") == [3, 5]
    assert PASSED.named("metrics") == [4]


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (
            Passed({3: "web"}),
            "no socket of that name was passed, but fd://web (descriptor 3); set FileDescriptorName=x",
        ),
        (Passed(of_pid=1), "passed to process 1 (LISTEN_PID), and this is"),
        (Passed(of_pid=1), "if a shell starts the server, write exec before the command"),
        (NONE, "no sockets were passed (LISTEN_FDS is not set); start Paceline by its socket unit"),
    ],
)
def test_a_name_that_no_socket_has(passed: Passed, words: str) -> None:
    with pytest.raises(HostError) as caught:
        passed.named("x")
    assert words in str(caught.value)


def test_what_nobody_uses_is_closed() -> None:
    fds: Sequence[int] = [os.dup(0) for _ in range(3)]
    passed = Passed(dict.fromkeys(fds, "a"))
    assert close_unused(passed, [fds[1], 77777]) == [fds[0], fds[2]]
    os.close(fds[1])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fds[0])


def test_the_first_number_is_that_of_the_manual() -> None:
    assert activation.FIRST == 3


@pytest.mark.parametrize(
    ("pid", "count", "fds"),
    [
        ("7", "2", {3, 4}),
        ("8", "2", set()),
        ("7", "0", set()),
        ("7", "x", set()),
        ("", "2", set()),
        ("7", "99999", None),
    ],
)
def test_which_numbers_are_spoken_of(pid: str, count: str, fds: set[int] | None) -> None:
    found = activation.numbers({"LISTEN_PID": pid, "LISTEN_FDS": count}, 7)
    assert found == (set(range(3, 3 + activation.MOST)) if fds is None else fds)


def test_no_numbers_are_spoken_of() -> None:
    assert activation.numbers({}, 7) == set()
