"""worker/process.py: starts that fail, and --check.  What the supervisor is told is what a person will read."""

import pytest

from processbed import worker_process

ECHO = """
def handler(message):
    return message
"""


@pytest.mark.parametrize(
    ("source", "why", "line"),
    [
        ("import nonsense_that_is_not_there", "raised ModuleNotFoundError", "import nonsense_that_is_not_there"),
        ("def handler(message:", "raised SyntaxError", "def handler(message:"),
        ("raise ValueError('at import')", "raised ValueError", "raise ValueError('at import')"),
        (
            "class handler:\n    def __init__(self): 1 / 0\n    def __call__(self, m): pass",
            "ZeroDivisionError",
            "1 / 0",
        ),
        ("import paceline\nFRAMING = paceline.Lines(limit=0)", "limit is at least 1 byte", "paceline.Lines(limit=0)"),
        (
            "class handler:\n    def start(self): raise OSError('no database')\n    def __call__(self, m): pass",
            "start() raised OSError",
            "raise OSError('no database')",
        ),
        (
            "class handler:\n    def start(self): raise SystemExit(5)\n    def __call__(self, m): pass",
            "start() raised SystemExit",
            "raise SystemExit(5)",
        ),
    ],
    ids=["no module", "syntax", "import", "constructor", "our API", "start", "SystemExit in start"],
)
@pytest.mark.parametrize("check", [False, True], ids=["serve", "check"])
def test_what_the_users_code_raises_is_told_with_its_lines(source: str, why: str, line: str, check: bool) -> None:
    with worker_process(source, check=check) as worker:
        failed = worker.wait_said("failed")
        assert why in failed["why"]
        assert line in failed["traceback"]
        assert "process.py" not in failed["traceback"], "that is nothing the user could look at"
        assert failed["exit_code"] in (2, 3)
        assert worker.wait_ended()["code"] == 3
        assert worker.said() == ["failed"]


@pytest.mark.parametrize(
    ("source", "attribute", "setting", "why"),
    [
        (ECHO, "handlr", None, "handler"),
        ("handler = 5", "handler", None, "cannot be called"),
        ("def handler(a, b, c): pass", "handler", None, "takes three arguments"),
        ("async def handler(message): pass", "handler", None, "async def"),
        ("def handler(conn): pass", "handler", None, "--as connection"),
        (ECHO, "handler", {"framing": "lines"}, "line"),
        ("def handler(conn): pass", "handler", {"as_": "connection", "framing": "line"}, "has no meaning"),
        ("class handler:\n    framing = 5\n    def __call__(self, m): pass", "handler", None, "no method cut"),
        ("import paceline\n@paceline.message('line')\ndef handler(m): pass", "handler", None, "(app.py, line 9)"),
        ("raise SystemExit(3)", "handler", None, "called sys.exit(3)"),
    ],
    ids=["name", "no function", "arity", "async", "kind", "framing", "both", "its framing", "decorator", "exit"],
)
@pytest.mark.parametrize("check", [False, True], ids=["serve", "check"])
def test_what_is_wrong_with_the_target_is_told_in_a_sentence(
    source: str, attribute: str, setting: dict[str, str] | None, why: str, check: bool
) -> None:
    settings: dict[str, object] = {**(setting or {})}
    with worker_process(source, attribute, check=check, **settings) as worker:  # type: ignore[arg-type]
        failed = worker.wait_said("failed")
        assert why in failed["why"]
        assert failed["traceback"] == ""
        assert worker.wait_ended()["code"] == 3


def test_a_first_thread_that_cannot_be_prepared_is_told() -> None:
    source = """
    class Handler:
        def thread_start(self): raise OSError("no database")
        def __call__(self, message): return message
    """
    with worker_process(source, "Handler") as worker:
        assert "thread_start() raised" in worker.wait_said("failed")["why"]
        assert worker.wait_ended()["code"] == 3
        assert "raise OSError" in worker.log


def test_a_machine_without_room_for_a_thread_is_told() -> None:
    source = """
    import threading
    def refuse(*_arguments): raise RuntimeError("can't start new thread")
    def handler(message): return message
    threading.Thread.start = refuse
    """
    with worker_process(source) as worker:
        failed = worker.wait_said("failed")
        assert "no thread can be made" in failed["why"]
        assert worker.wait_ended()["code"] == 3


def test_a_bug_of_ours_is_told_with_the_whole_stack() -> None:
    source = """
    import paceline.worker.process as process
    process.assemble = None
    def handler(message): return message
    """
    with worker_process(source) as worker:
        failed = worker.wait_said("failed")
        assert failed["why"] == "a bug in Paceline: TypeError"
        assert failed["exit_code"] == 1
        assert "process.py" in failed["traceback"]
        assert worker.wait_ended()["code"] == 1
        assert "TypeError" in worker.log


# --check


def test_a_check_says_what_would_be_served_and_leaves() -> None:
    source = """
    class Handler:
        framing = "line"
        def start(self): print("started")
        def stop(self): print("stopped")
        def thread_start(self): print("never: nothing is served")
        def __call__(self, message): return message
    """
    with worker_process(source, "Handler", check=True) as worker:
        ready = worker.wait_said("ready")
        assert (ready["kind"], ready["framing"]) == ("message", "line")
        assert worker.wait_ended()["code"] == 0
        assert worker.said() == ["ready"]
        assert worker.log.splitlines() == ["started", "stopped"]


@pytest.mark.parametrize("error", ["ValueError()", "SystemExit(9)"])
def test_a_stop_that_raises_does_not_spoil_a_check(error: str) -> None:
    source = f"""
    class Handler:
        def stop(self): raise {error}
        def __call__(self, message): return message
    """
    with worker_process(source, "Handler", check=True) as worker:
        worker.wait_said("ready")
        assert worker.wait_ended()["code"] == 0
