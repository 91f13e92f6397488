"""chaos/procfs.py: what /proc says of processes."""

import os
import subprocess
import sys
from pathlib import Path

from leftovers import eventually
from paceline.chaos import procfs
from paceline.clock import process_cpu


def test_a_process_and_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0) as child:
        eventually(lambda: b"input" in Path(f"/proc/{child.pid}/cmdline").read_bytes())  # it has begun its program
        seen = procfs.look(child.pid)
        assert seen is not None
        assert (seen.pid, seen.parent, seen.group) == (child.pid, os.getpid(), child.pid)
        assert child.pid in [each.pid for each in procfs.children_of(os.getpid())]
        assert [each.pid for each in procfs.in_group(child.pid)] == [child.pid]
        eventually(lambda: procfs.descriptors_of(child.pid) == 3)
        assert procfs.lowest_free_descriptor_of(child.pid) == 3
        assert procfs.address_space_of(child.pid) > seen.rss_bytes
        child.kill()
        eventually(lambda: (found := procfs.look(child.pid)) is not None and found.state == "Z")
        assert procfs.in_group(child.pid) == [], "the dead do not count"
    assert procfs.look(child.pid) is None
    assert (procfs.descriptors_of(child.pid), procfs.lowest_free_descriptor_of(child.pid)) == (0, 0)
    assert procfs.address_space_of(child.pid) == 0


def test_what_a_process_has_open_is_found_by_its_name() -> None:
    fd = os.memfd_create("a-name")
    try:
        path = procfs.descriptor_to(os.getpid(), "/memfd:a-name")
        assert path == f"/proc/{os.getpid()}/fd/{fd}"
        assert procfs.descriptor_to(os.getpid(), "/memfd:another") is None
    finally:
        os.close(fd)


def test_memory_of_their_own() -> None:
    before = procfs.anonymous_of([os.getpid()])
    kept = bytearray(b"x" * (20 << 20))
    assert procfs.anonymous_of([os.getpid()]) - before > len(kept) // 2
    assert procfs.anonymous_of([]) == 0


def test_the_share_of_a_core() -> None:
    share = procfs.Share([os.getpid()])
    used_s = process_cpu()
    while process_cpu() < used_s + 0.05:
        pass
    assert share.so_far() > 0
    assert procfs.cpu_of([os.getpid()]) > 0
    assert procfs.cpu_of([]) == 0
