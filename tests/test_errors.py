"""Every error names one guilty party, and the command line ends with the code that belongs to it."""

import inspect

import pytest

from paceline import errors
from paceline.errors import (
    BadFrame,
    ConnectFailed,
    ConnectionClosed,
    ConnectionReset,
    HostError,
    MessageTooLarge,
    PacelineError,
    PeerError,
    Refused,
    SettingError,
    TargetError,
    TimedOut,
    Truncated,
    UsageError,
)

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PacelineError)]
PARTIES = (UsageError, PeerError, HostError)

OF_CLIENTS: dict[type[PacelineError], type[OSError]] = {
    ConnectFailed: ConnectionError,
    Refused: ConnectionError,
    ConnectionClosed: ConnectionError,
    ConnectionReset: ConnectionError,
    TimedOut: TimeoutError,
}
"""What only a client raises is also what its user would catch from a socket."""


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (PacelineError, 1),
        (UsageError, 2),
        (SettingError, 2),
        (TargetError, 3),
        (HostError, 3),
        (ConnectFailed, 3),
        (Refused, 3),
        (PeerError, 5),
        (TimedOut, 5),
        (ConnectionClosed, 5),
        (ConnectionReset, 5),
        (MessageTooLarge, 5),
        (BadFrame, 5),
        (Truncated, 5),
    ],
)
def test_an_exit_code_tells_whose_mistake_it_was(kind: type[PacelineError], exit_code: int) -> None:
    assert kind.exit_code == exit_code
    assert kind("text").exit_code == exit_code


def test_the_table_above_has_every_error_that_can_end_the_command() -> None:
    of_servers = {kind for kind in EVERY if not issubclass(kind, PeerError)} - OF_CLIENTS.keys()
    assert of_servers == {PacelineError, UsageError, SettingError, TargetError, HostError}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_names_exactly_one_party(kind: type[PacelineError]) -> None:
    assert sum(issubclass(kind, party) for party in PARTIES) == (kind is not PacelineError)


@pytest.mark.parametrize("kind", [MessageTooLarge, BadFrame, Truncated])
def test_what_a_peer_does_is_the_peers(kind: type[PacelineError]) -> None:
    assert issubclass(kind, PeerError)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_says_its_text_and_nothing_else(kind: type[PacelineError]) -> None:
    assert str(kind("what was wrong, and what to do")) == "what was wrong, and what to do"
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_our_errors_are_not_mistaken_for_those_of_the_system(kind: type[PacelineError]) -> None:
    assert issubclass(kind, Exception)
    assert not issubclass(kind, ValueError | RuntimeError)
    assert issubclass(kind, OSError) == (kind in OF_CLIENTS)


@pytest.mark.parametrize(("kind", "of_the_system"), OF_CLIENTS.items(), ids=lambda kind: kind.__name__)
def test_what_a_client_raises_is_caught_as_a_sockets_error(kind: type[Exception], of_the_system: type) -> None:
    assert issubclass(kind, of_the_system)
