"""cli/streams.py: results, complaints, and standard descriptors that are closed, full or not read.

All in processes of their own, for it is their descriptors that are spoiled.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

COMMAND = (sys.executable, "-P", "-m", "paceline")


def run(
    command: Sequence[str], stdout: int | IO[str] = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        encoding="utf-8",
        timeout=30,
        check=False,
    )


def test_a_reader_that_is_gone_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run([*COMMAND, "serve", "--help"], writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_an_error_of_the_machine() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run([*COMMAND, "--version"], full)
    assert done.returncode == 3
    assert done.stderr == (
        "paceline: standard output cannot be written: No space left on device; give it another place to go\n"
    )


def test_a_closed_standard_output_is_said_so() -> None:
    done = run(["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "--version"])
    assert done.returncode == 3
    assert done.stderr.startswith("paceline: standard output is closed")


def test_a_closed_standard_error_does_not_change_the_exit_code() -> None:
    assert run(["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "serve", "--threads", "0"]).returncode == 2


def test_letters_that_the_terminal_does_not_have_do_not_stop_the_others() -> None:
    done = run([*COMMAND, "--help"], PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert "worker processes \\xd7" in done.stdout


def test_closed_standard_descriptors_are_opened_before_anything_else_gets_their_numbers() -> None:
    code = """
import os
from paceline.cli.streams import open_missing_standard_descriptors
for fd in (0, 1, 2):
    os.close(fd)
open_missing_standard_descriptors()
third = os.open("/dev/zero", os.O_RDONLY)
is_null = all(os.readlink(f"/proc/self/fd/{fd}") == "/dev/null" and os.get_inheritable(fd) for fd in (0, 1, 2))
os._exit(10 if is_null and third > 2 else 11)
"""
    assert run([sys.executable, "-P", "-c", code]).returncode == 10


def test_open_standard_descriptors_stay_what_they_are() -> None:
    code = "from paceline.cli.streams import *; open_missing_standard_descriptors(); show('out\\n'); complain('err')"
    done = run([sys.executable, "-P", "-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "paceline: err\n")


def test_what_somebody_names_stays_open() -> None:
    """As an address, as a file of settings, or by LISTEN_FDS; the log tells of the others."""
    script = """if True:
        import os, sys
        from paceline.cli.streams import close_inherited
        from paceline.settings import Settings
        address, file, passed, lost = 20, 21, 3, 22
        for fd in (address, file, passed, lost):
            os.dup2(0, fd, inheritable=True)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        for _ in range(2):
            close_inherited(Settings(bind=(f"fd://{address}", "fd://web", "unix:s")), f"/dev/fd/{file}")
        print([fd for fd in (address, file, passed, lost) if os.path.exists(f"/proc/self/fd/{fd}")])
        """
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=True)
    assert done.stdout == "[20, 21, 3]\n"
    assert done.stderr.count("descriptors that were left open for us are closed: 22; ") == 1
