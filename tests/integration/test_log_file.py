"""Standard error is a file: when it is moved away the whole server follows; when its disk is full the server serves."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

import logbed
from leftovers import children_of, eventually

SOURCE = """
def answer(line):
    if line.startswith(b"print"):
        print(line.decode())
    return line
"""


def say(folder: Path, line: bytes) -> None:
    assert logbed.say(folder, line) == line + b"\n"


def test_the_whole_server_follows_its_log(tmp_path: Path) -> None:
    """As logrotate does it: the file is renamed, then the server is told by USR1."""
    log, old = tmp_path / "log", tmp_path / "log.1"
    with open(log, "wb") as file:
        server = logbed.logging_to(file.fileno(), tmp_path, SOURCE, "--workers", "2")
        with server as process:
            eventually(lambda: "listening on" in log.read_text(), 10)
            os.rename(log, old)
            say(tmp_path, b"print to the old one")
            eventually(lambda: "to the old one" in old.read_text(), 5)
            process.send_signal(signal.SIGUSR1)
            everybody = [process.pid, *children_of(process.pid)]
            eventually(lambda: all(os.readlink(f"/proc/{pid}/fd/2") == str(log) for pid in everybody), 5)
            for number in range(20):
                say(tmp_path, b"print %d to the new one" % number)
            for pid in everybody:
                for name in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(FileNotFoundError):  # closed meanwhile
                        assert os.readlink(f"/proc/{pid}/fd/{name}") != str(old)
    new = log.read_text()
    assert new.count("to the new one") == 20
    assert "stopped after" in new
    assert "new one" not in old.read_text()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Lines are lost and counted; when there is room again the next one tells how many."""
    if shutil.which("unshare") is None or os.getuid() != 0:
        pytest.skip("only root, with unshare(1), may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=64k none "$0" && exec "$@" 2>"$0/log"'
    prefix = ("unshare", "-m", "sh", "-c", script, str(disk))
    with logbed.logging_to(None, tmp_path, SOURCE, "--workers", "2", prefix=prefix) as process:
        log = Path(f"/proc/{process.pid}/root{disk}/log")
        eventually(lambda: "listening on" in log.read_text(), 10)
        for _ in range(30):
            say(tmp_path, b"print" + 10_000 * b"x")
        assert log.stat().st_size <= 64 * 1024
        os.truncate(log, 0)
        for _ in range(10):
            say(tmp_path, b"print there is room again")
        text = log.read_text()
        assert "there is room again" in text
        assert "lines before this one were lost: standard error did not take them" in text
