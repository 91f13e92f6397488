"""What the commands of `paceline ctl` do: look and show, ask and show.  Called by ctl.py, which reads the words.

What looks and asks is imported when it runs, as `paceline serve` starts without it.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paceline import clock
from paceline.cli.streams import complain, show

if TYPE_CHECKING:
    from paceline.ctl.asking import Answer, Conversation
    from paceline.ctl.finding import Server


@dataclass(frozen=True, slots=True)
class Given:
    """What the options say that every command has."""

    control: str | None = None
    pid: int | None = None
    is_json: bool = False
    timeout_s: float | None = None
    is_timeout_given: bool = False
    """So that `off` is not the default."""

    def find(self) -> "Server":
        """The server that is meant.  Raises as finding.find."""
        from paceline.ctl.finding import find

        return find(self.control, self.pid, os.environ)


# Looking


def status(given: Given, over_s: float) -> int:
    """The workers, and what is wrong; returns the exit code, as all of these."""
    from paceline.ctl.looking import look_at
    from paceline.ctl.rendering import status_text

    picture = look_at(given.find(), over_s)
    show(_json(picture.to_json()) if given.is_json else status_text(picture, _width()))
    return 0


def health(given: Given) -> int:
    """One line, and 0 or 1."""
    from paceline.ctl.finding import NoServerError
    from paceline.ctl.looking import examine
    from paceline.ctl.picture import VERSION
    from paceline.ctl.rendering import shown

    record: dict[str, object] = {"version": VERSION}
    try:
        picture = examine(given.find())
    except NoServerError as error:
        record |= {"healthy": False, "health": f"unhealthy: {error}"}
    else:
        record |= {"healthy": not picture.unhealthy_because, "health": picture.health}
        record |= {"pid": picture.pid, "warnings": picture.warnings}
    show(_json(record) if given.is_json else f"{shown(str(record['health']))}\n")
    return 0 if record["healthy"] else 1


def _width() -> int | None:
    """Of the terminal; None: standard output is none."""
    import shutil

    try:
        return shutil.get_terminal_size().columns if os.isatty(sys.stdout.fileno()) else None
    except (OSError, ValueError):
        return None


def _json(record: Mapping[str, object]) -> str:
    return json.dumps(record) + "\n"


# Asking

_SIGNALS = {
    "reload": "kill -HUP {pid} reloads it",
    "upgrade": "kill -USR2 {pid} upgrades it",
    "stop": "kill -TERM {pid} stops it",
    "scale": "kill -TTIN {pid} makes one worker more, kill -TTOU {pid} one fewer",
}
"""What can be done without a control socket."""
_LASTING = frozenset({"reload", "upgrade", "stop", "scale", "drain"})
"""What goes on when nobody waits for it any more."""
_WHILE_S = 10.0
"""What a stop may take beyond the time that its calls have."""
_STOP_S = 60.0
"""How long a stop is waited for when the server does not say how long its calls have."""


def ask(given: Given, request: Mapping[str, object]) -> int:
    """Ask for something that only says how it went."""
    code, answer = _asked(given, request)
    if code == 0 and not given.is_json:
        _show(str(answer["text"]))
    return code


def stop(given: Given, *, now: bool) -> int:
    """Ask it to stop, and wait until it is gone."""
    begun = clock.now()
    with _talking(given, "stop") as conversation:
        wait_s = given.timeout_s if given.is_timeout_given else _patience_s(conversation)
        code, answer = _told(given, conversation, {"do": "stop", "now": True} if now else {"do": "stop"})
        if code:
            return code
        if not given.is_json:
            _complain(str(answer["text"]))
        with _going_on("stop"):
            conversation.wait_for_end(None if wait_s is None else begun + wait_s)
    if not given.is_json:
        show("the server is gone\n")
    return 0


def _patience_s(conversation: "Conversation") -> float:
    """How long a stop is waited for when nobody says: the time that its calls have, and a while."""
    import tomllib

    from paceline.ctl.asking import GREETING_S, TooLateError
    from paceline.settings.table import BY_KEY
    from paceline.settings.values import WrongValueError

    try:
        *_, answer = conversation.ask({"do": "config"}, clock.now() + GREETING_S)
        settings = tomllib.loads(str(answer.get("toml", "")))
        return float(BY_KEY["drain_timeout"].kind.read(settings["drain_timeout"])) + _WHILE_S
    except (TooLateError, WrongValueError, ValueError, KeyError):
        return _STOP_S


def dump(given: Given) -> int:
    """The stacks of all workers."""
    from paceline.ctl.rendering import dump_text

    code, answer = _asked(given, {"do": "dump"})
    if code == 0 and not given.is_json:
        workers = answer.get("workers")
        show(dump_text([each for each in workers if isinstance(each, dict)] if isinstance(workers, list) else []))
    return code


def config(given: Given) -> int:
    """The settings that count now."""
    code, answer = _asked(given, {"do": "config"})
    if code == 0 and not given.is_json:
        show(str(answer.get("toml", "")))
    return code


def _asked(given: Given, request: Mapping[str, object]) -> "tuple[int, Answer]":
    """(exit code, the last answer)"""
    with _talking(given, str(request["do"])) as conversation:
        return _told(given, conversation, request)


@contextmanager
def _talking(given: Given, do: str) -> "Iterator[Conversation]":
    """With the server.  Raises as finding.find; NoServerError when it has no socket, or does not answer."""
    from paceline.ctl.asking import VERSION, Conversation
    from paceline.ctl.finding import NoServerError

    server = given.find()
    if server.control is None:
        if server.is_listed:
            why, link = (
                f"the server (pid {server.pid}) has no control socket (--control off, or the log says why)",
                "; ",
            )
        else:
            why = f"where the server (pid {server.pid}) is asked is not known; name its socket with --control PATH"
            link = ", or "
        raise NoServerError(why + (link + _SIGNALS[do].format(pid=server.pid) if do in _SIGNALS else ""))
    with Conversation(server, given.timeout_s) as conversation:
        if conversation.is_foreign:
            version = conversation.greeting.get("version")
            _complain(
                f"the server speaks version {version} of the control protocol, and this is a client of version "
                f"{VERSION}; what only the other one knows is left out"
            )
        yield conversation


def _told(given: Given, conversation: "Conversation", request: Mapping[str, object]) -> "tuple[int, Answer]":
    """Ask one thing, and tell how it goes."""
    until = None if given.timeout_s is None else clock.now() + given.timeout_s
    answer: Answer = {}
    with _going_on(str(request["do"])):
        for answer in conversation.ask(request, until):
            if given.is_json:
                show(_json(answer))
            elif not answer.get("is_last", True):
                _complain(str(answer["text"]))
    if answer.get("ok", False):
        return 0, answer
    if not given.is_json:
        detail = str(answer.get("detail", "")).rstrip("\n")
        _complain(str(answer["text"]) + (f"\n{detail}" if detail else ""))
    return 1, answer


@contextmanager
def _going_on(do: str) -> Iterator[None]:
    """Ctrl-C ends the waiting, not what was asked."""
    try:
        yield
    except KeyboardInterrupt:
        if do in _LASTING:
            complain(f"nobody waits any more, but the {do} goes on; paceline ctl status shows how it is")
        raise


def _show(text: str) -> None:
    """What the server says may hold anything."""
    from paceline.ctl.rendering import shown

    show(f"{shown(text)}\n")


def _complain(text: str) -> None:
    from paceline.ctl.rendering import shown

    complain(shown(text))
