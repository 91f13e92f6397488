"""`--check` with stub workers (stage.py): it says what would be served, or why not, and leaves nothing behind."""

import signal
from typing import Any

import pytest

from supervisor.stage import Stage, wait_gone


def run(main: str, **options: Any) -> tuple[int, str, str]:
    """(exit code, standard output but for our own notes, standard error)."""
    with Stage(main=main, check=True, **options) as stage:
        output, errors = stage.process.communicate(timeout=10)
        lines = [line for line in output.decode().splitlines() if not line.startswith("{")]
        assert '"children": "none"' in output.decode()
        return stage.process.returncode, "\n".join(lines), errors.decode()


def test_a_target_that_can_be_served() -> None:
    assert run("checked") == (0, "ok: stub is a message handler, framing lines", "")


def test_a_connection_handler_has_no_framing() -> None:
    assert run("checked_connection") == (0, "ok: stub is a connection handler", "")


def test_a_target_that_cannot() -> None:
    code, output, errors = run("fails")
    assert (code, output) == (3, "")
    assert errors.startswith("paceline: no module named 'hallo'\nTraceback (most recent call last):\n")
    assert errors.endswith("ImportError: hallo\n")


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("crashes", "was killed by SIGSEGV before it was ready\n"),
        ("returns", "exited with code 9 before it was ready\n"),
        ("crashes_checked", "exited with code 5 after it was ready\n"),
    ],
)
def test_a_process_that_dies_of_it(main: str, said: str) -> None:
    code, output, errors = run(main)
    assert (code, output) == (3, "")
    assert errors.startswith(f"paceline: the worker {said}")


@pytest.mark.parametrize("main", ["hangs", "hangs_beyond_abort"])
def test_an_import_that_hangs_shows_where(main: str) -> None:
    code, output, errors = run(main, boot_timeout=0.2)
    assert (code, output) == (3, "")
    assert errors.startswith("paceline: the worker was not ready after 0.2 s (--boot-timeout)\n")
    assert ("in hangs" in errors) == (main == "hangs")


def test_a_process_that_cannot_be_made() -> None:
    with Stage(main="checked", check=True, refusals=1) as stage:
        assert stage.wait_ended() == 3
        (refused,) = stage.all_said("refused")
        assert refused["text"].startswith("no process can be made to load the target in: Resource temporarily")


def test_an_interrupt_leaves_nobody_behind() -> None:
    with Stage(main="hangs", check=True) as stage:
        stage.wait_for("hangs")
        stage.send(signal.SIGINT)
        assert stage.wait_ended() == 1
        assert stage.all_said("escaped")[0]["kind"] == "KeyboardInterrupt"
        assert stage.all_said("ended")[0]["children"] == "none"


def test_a_kill_leaves_nobody_behind() -> None:
    """The target may import for ever, and nobody else would end it."""
    with Stage(main="hangs", check=True) as stage:
        child = stage.wait_for("hangs")["pid"]
        stage.process.kill()
        wait_gone(child)
