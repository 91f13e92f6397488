"""What /proc shows of other processes."""

import os
import select
import subprocess
import sys

import pytest

from paceline.host import memory, strangers

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_memory_is_found_by_its_name_and_by_nothing_else() -> None:
    fds = [memory.create_growing(name) for name in ("of-this-test", "of-this-test-too", "of-this-test")]
    try:
        found = list(strangers.memory_named(os.getpid(), "of-this-test"))
        assert found == [(f"/proc/{os.getpid()}/fd/{fd}", os.fstat(fd).st_ino) for fd in (fds[0], fds[2])]
        os.write(fds[0], b"seen")
        with open(found[0][0], "rb") as again:
            assert again.read() == b"seen"
    finally:
        for fd in fds:
            memory.close(fd)
    assert list(strangers.memory_named(os.getpid(), "of-this-test")) == []


def test_a_process_has_a_parent_an_owner_and_an_end() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.pid in strangers.process_numbers()
        assert strangers.parent_of(child.pid) == os.getpid()
        assert strangers.owner_of(child.pid) == os.geteuid()
        assert strangers.is_nearby(child.pid)
        watched = strangers.watch(child.pid)
        assert watched is not None
        assert child.stdin
        child.stdin.close()
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert poll.poll(20_000)
        strangers.close(watched)
        assert child.wait() == 0
    assert strangers.parent_of(child.pid) == 0
    assert strangers.owner_of(child.pid) is None
    assert not strangers.is_nearby(child.pid)
    assert strangers.watch(child.pid) is None
    with pytest.raises(FileNotFoundError):
        list(strangers.memory_named(child.pid, "x"))


def test_a_name_with_parentheses_hides_no_parent() -> None:
    rename = "open('/proc/self/comm', 'w').write(') 9 ('); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"\n"
        assert strangers.parent_of(child.pid) == os.getpid()
        child.communicate(b"\n")
