"""connect/plain.py: what it advises; all else of it is in tests/integration/test_connect_terminal.py."""

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from paceline.connect import plain
from testbed import COMMAND

pytestmark = pytest.mark.usefixtures("nothing_left")

DEADLINE_S = 20.0


def at_a_terminal(folder: Path, kind: str | None, *, has_toolkit: bool) -> str:
    """All that `paceline connect` writes to a terminal of this kind, whose user leaves at once."""
    name = "prompt_toolkit"
    (folder / f"{name}.py").write_text("" if has_toolkit else "raise ImportError\n")
    environment = {key: value for key, value in os.environ.items() if key != "TERM"}
    environment |= {"XDG_STATE_HOME": str(folder), "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    if kind is not None:
        environment["TERM"] = kind
    controller, terminal = os.openpty()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            words = [*COMMAND, "connect", f"127.0.0.1:{listener.getsockname()[1]}"]
            os.write(controller, b"/quit\n")
            with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
                os.close(terminal)
                terminal = -1
                shown = read_all(controller)
                assert process.wait(DEADLINE_S) == 0, shown
    finally:
        for fd in (controller, terminal):
            if fd >= 0:
                os.close(fd)
    return shown


def read_all(controller: int) -> str:
    shown = b""
    while True:
        try:
            shown += os.read(controller, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the other side open
                raise
            return shown.decode()


@pytest.mark.parametrize(
    ("kind", "has_toolkit", "advice"),
    [
        ("dumb", True, plain.IS_DUMB),
        (None, True, plain.IS_DUMB),
        ("dumb", False, plain.IS_DUMB),
        ("xterm", False, plain.NOT_INSTALLED),
    ],
)
def test_what_would_make_the_prompt_better_is_what_is_missing(
    kind: str | None, has_toolkit: bool, advice: str, tmp_path: Path
) -> None:
    shown = at_a_terminal(tmp_path, kind, has_toolkit=has_toolkit)
    assert advice in shown
    assert ("pip install" in shown) is (advice == plain.NOT_INSTALLED)
