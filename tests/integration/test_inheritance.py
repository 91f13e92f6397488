"""What comes into the server with its start, and what goes on into the programs that a handler starts."""

import json
import os
import signal
import socket

from testbed import running

CHILD = """\
import json, os, signal, sys
lines = open("/proc/self/status").read().splitlines()
status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
open_before = sorted(int(name) for name in os.listdir("/proc/self/fd"))
print(json.dumps({
    "fds": [fd for fd in open_before if os.path.exists(f"/proc/self/fd/{fd}")],
    "blocked": int(status["SigBlk"][0], 16),
    "ignored": int(status["SigIgn"][0], 16),
    "umask": status["Umask"][0],
    "folder": os.getcwd(),
    "group": os.getpgid(0),
    "variables": dict(os.environ),
}))
"""
APP = """\
import subprocess, sys

def answer(line):
    done = subprocess.run([sys.executable, "child.py"], capture_output=True, check=True, close_fds=False)
    return done.stdout.strip()
"""


def test_what_was_left_open_for_us_is_closed_and_what_is_named_is_not() -> None:
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as named:
        fds = [writer, named.fileno()]
        try:
            with running("echo", "--bind", f"fd://{fds[1]}", pass_fds=fds) as server:
                server.wait_for_log(f"descriptors that were left open for us are closed: {writer}; a socket to be")
                os.close(fds.pop(0))
                assert os.read(reader, 1) == b"", "nobody has the other end any more"
                with server.connect() as peer:
                    peer.send(b"hello")
                    assert peer.receive(5) == b"hello"
        finally:
            os.close(reader)
            if writer in fds:
                os.close(writer)


def test_what_a_program_inherits_that_a_handler_starts() -> None:
    """Also where the handler closes nothing (close_fds=False); docs/deploying.md says the same."""
    options = ("--framing", "line", "--workers", "1", "--umask", "027")
    env = {"LISTEN_FDS": "0", "LISTEN_PID": "1", "PACELINE_THREADS": "3", "MINE": "yes"}
    with running("app.py:answer", *options, files={"app.py": APP, "child.py": CHILD}, env=env) as server:
        with server.connect() as peer:
            peer.send(b"?\n")
            found = json.loads(peer.line())
        assert found["fds"] == [0, 1, 2]
        assert found["blocked"] == 0
        by_python = {signal.SIGXFSZ, signal.SIGPIPE}  # of this child; subprocess resets them before
        ignored = {number for number in signal.valid_signals() if found["ignored"] >> number - 1 & 1}
        assert ignored - by_python == {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
        assert found["umask"] == "0027"
        assert found["folder"] == str(server.folder)
        assert found["group"] == server.pid, "what is sent to the server's group reaches it, too"
        variables = found["variables"]
        assert (variables["MINE"], variables["PACELINE_THREADS"]) == ("yes", "3")
        assert not [name for name in variables if name.startswith(("LISTEN_", "NOTIFY_", "PACELINE_UPGRADE"))]
