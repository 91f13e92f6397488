"""A real server for a test: started on a free port, gone at the end of the `with`.

    import paceline.testing

    def test_it_answers():
        with paceline.testing.running("app:answer", framing="line") as server, server.client() as client:
            assert client.call(b"hello") == b"HELLO"

As a pytest fixture; pytest shows what a fixture prints when a test fails:

    @pytest.fixture
    def server():
        with paceline.testing.running("app:answer", framing="line") as server:
            yield server
            print(server.log)

Nothing is a stand-in: what a text names, and a function or class that can be imported by its name, is served by
processes as `paceline serve` does it (process.py).  A closure, a lambda, an object is served by the threads of one
worker in the process of the test (inside.py), which sees its variables, its patches, its debugger.

    aim       which of the two, and by which name
    terms     the settings, checked
    server    what both kinds have in common: addresses, clients, the log
    process, inside   the two kinds
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from paceline.errors import HostError, PacelineError
from paceline.testing.aim import Aim, aim_at
from paceline.testing.server import Server
from paceline.testing.terms import Terms, agree

__all__ = ["Server", "running"]


@contextmanager
def running(
    handler: object,
    *,
    framing: object = None,
    start_timeout: float | str | None = None,
    stop_timeout: float | str | None = None,
    **settings: object,
) -> Iterator[Server]:
    """Serve `handler` while the `with` lasts; what it gives is a `Server`: `.address`, `.client()`, `.log`, `.stop()`.

    handler        a text as for `paceline serve`, or the handler itself
    framing        a text as for --framing, or a framing object (then the handler must be given as an object)
    start_timeout  it must listen within this time (seconds; default: 10 more than boot_timeout)
    stop_timeout   it must end within this time (seconds; default: 10 more than drain_timeout)
    settings       those of `paceline.serve` under the same names; no file and no PACELINE_* variable counts.  Other
                   defaults than there: bind "127.0.0.1:0", workers 2, drain_timeout 5

    Raises, when it does not start: SettingError and UsageError (what was asked for), TargetError (the handler),
    HostError (the machine, or the time).  At the end of the `with`: HostError, when it had to be killed, cut calls that
    still ran, or had ended by itself with another exit code than 0; who tests that calls `server.stop()` and looks at
    the code.  Nothing is left after that: no process, thread, descriptor.  These errors, and whatever else leaves the
    `with`, carry the server's log as a note (`__notes__`), which Python and pytest show.
    """
    aim = aim_at(handler, is_portable=framing is None or isinstance(framing, str))
    server = _start(aim, agree(aim.target, framing, start_timeout, stop_timeout, settings))
    try:
        yield server
    except BaseException as error:
        try:
            server.close()
        except PacelineError as besides:
            error.add_note(f"Besides, {besides}")
        server.annotate(error)
        raise
    try:
        server.close()
    except PacelineError as error:
        server.annotate(error)
        raise


def _start(aim: Aim, terms: Terms) -> Server:
    if sys.platform != "linux":
        raise HostError(f"Paceline serves on Linux only, and this is {sys.platform}; use a Linux machine or container")
    if aim.target is not None:
        from paceline.testing.process import ProcessServer

        return ProcessServer(aim, terms)
    from paceline.testing.inside import InsideServer  # all of a worker: only who needs it waits for it

    return InsideServer(aim.handler, terms)
